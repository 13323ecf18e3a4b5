//! What a scalar means: typed as Kubernetes' YAML reader types it, which is YAML 1.1 (`yes` is a boolean).

use std::borrow::Cow;

/// A scalar as written.
#[derive(Clone, Debug)]
pub(crate) struct Scalar<'t> {
    pub(crate) text: Cow<'t, str>,
    pub(crate) style: Style,
}

/// Whether the text decides the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Unquoted: the text decides.
    Plain,
    /// Quoted, a block, or tagged `!!str`: a string.
    Text,
}

/// The type of a scalar and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ScalarKind {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

impl Scalar<'_> {
    /// Whether nothing or `null` was written.
    pub(crate) fn is_null(&self) -> bool {
        self.style == Style::Plain && is_null(&self.text)
    }

    /// The type and value.
    pub(crate) fn kind(&self) -> ScalarKind {
        match self.style {
            Style::Text => ScalarKind::Text,
            Style::Plain => plain_kind(&self.text),
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn plain_kind(text: &str) -> ScalarKind {
    match text.as_bytes().first() {
        None => ScalarKind::Null,
        // The only first characters of anything that is not a string.
        Some(b'~' | b'n' | b'N' | b'y' | b'Y' | b't' | b'T' | b'f' | b'F' | b'o' | b'O') => {
            word(text)
        }
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => number(text),
        Some(_) => ScalarKind::Text,
    }
}

fn word(text: &str) -> ScalarKind {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            ScalarKind::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            ScalarKind::Bool(false)
        }
        _ if is_null(text) => ScalarKind::Null,
        _ => ScalarKind::Text,
    }
}

fn number(text: &str) -> ScalarKind {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => (-1_i8, &text[1..]),
        [b'+', ..] => (1, &text[1..]),
        _ => (1, text),
    };
    let plain = digits.replace('_', "");
    let radix = |prefix: &str, radix| {
        let digits = plain.strip_prefix(prefix)?;
        i128::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))
    };
    let decimal = || {
        let digits = !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit());
        let octal = digits && plain.len() > 1 && plain.starts_with('0');
        match (digits, octal.then(|| i128::from_str_radix(&plain, 8))) {
            (false, _) => None,
            (true, Some(Ok(value))) => Some(value),
            (true, _) => plain.parse().ok(),
        }
    };
    let integer =
        radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).or_else(decimal);
    if let Some(value) = integer {
        return ScalarKind::Int(i128::from(sign) * value);
    }
    match digits {
        ".inf" | ".Inf" | ".INF" => ScalarKind::Float(f64::from(sign) * f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => ScalarKind::Float(f64::NAN),
        _ => float(&plain)
            .map_or(ScalarKind::Text, |value| ScalarKind::Float(f64::from(sign) * value)),
    }
}

/// `1.5`, `.5`, `1.`, `1e9`, `1.5e-3`: digits on at least one side of the point.
fn float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let points = mantissa.bytes().filter(|b| *b == b'.').count();
    if digits == 0 || points > 1 || digits + points != mantissa.len() {
        return None;
    }
    if let Some(exponent) = exponent {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: ScalarKind) {
        let scalar = Scalar { text: text.into(), style: Style::Plain };
        assert_eq!(scalar.kind(), expected, "{text}");
    }

    #[test]
    fn plain_scalars_are_typed_like_kubernetes_does() {
        check("", ScalarKind::Null);
        check("~", ScalarKind::Null);
        check("null", ScalarKind::Null);
        check("nullable", ScalarKind::Text);
        check("on", ScalarKind::Bool(true));
        check("No", ScalarKind::Bool(false));
        check("80", ScalarKind::Int(80));
        check("-1", ScalarKind::Int(-1));
        check("0x50", ScalarKind::Int(80));
        check("010", ScalarKind::Int(8));
        check("1_000", ScalarKind::Int(1000));
        check("1.5", ScalarKind::Float(1.5));
        check("1e3", ScalarKind::Float(1000.0));
        check("1.2.3.4", ScalarKind::Text);
        check("1s", ScalarKind::Text);
        check("2024-05-01", ScalarKind::Text);
        check("001:db8::", ScalarKind::Text);
        check("-", ScalarKind::Text);
        check("a.example.com", ScalarKind::Text);
    }
}
