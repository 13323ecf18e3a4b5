//! Strings, numbers, booleans, durations.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::decode::{At, Cx, Decode};
use crate::yaml::{Node, Scalar, ScalarKind, Value};

impl Scalar<'_> {
    /// Whether it is a string: quoted, or nothing else.
    pub(crate) fn is_text(&self) -> bool {
        self.kind() == ScalarKind::Text
    }

    /// The value in quotes, cut to a readable length.
    pub(crate) fn quote(&self) -> String {
        let text: String = self.text.chars().take(LONGEST_QUOTE).collect();
        let more = if text.len() < self.text.len() { "…" } else { "" };
        format!("{text:?}{more}")
    }

    /// Its type and value in words.
    pub(crate) fn describe(&self) -> String {
        match self.kind() {
            ScalarKind::Null => "nothing".to_owned(),
            ScalarKind::Bool(_) => format!("the boolean {}", self.text),
            ScalarKind::Int(_) | ScalarKind::Float(_) => format!("the number {}", self.text),
            ScalarKind::Text => format!("the string {}", self.quote()),
        }
    }
}

/// Characters of a value that a message repeats.
const LONGEST_QUOTE: usize = 64;

/// The text of a string value, or a finding that it is none.
pub(super) fn text<'a>(at: &At<'a>, cx: &mut Cx) -> Option<&'a str> {
    let node = at.node()?;
    match &node.value {
        Value::Scalar(scalar) if scalar.is_text() => Some(&scalar.text),
        Value::Scalar(scalar) => {
            let help = format!("put it in quotes: \"{}\"", scalar.text);
            cx.wrong_type(at, "a string", node).help(help);
            None
        }
        Value::List(_) | Value::Map(_) => {
            cx.wrong_type(at, "a string", node);
            None
        }
    }
}

impl Decode for String {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        text(at, cx).map(str::to_owned).unwrap_or_default()
    }
}

impl Decode for bool {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(node) = at.node() else { return false };
        match &node.value {
            Value::Scalar(Scalar { text, .. }) if text == "true" || text == "false" => {
                plain(node, |kind| matches!(kind, ScalarKind::Bool(true)), at, cx)
            }
            Value::Scalar(scalar) => match scalar.kind() {
                ScalarKind::Bool(value) => value,
                ScalarKind::Null | ScalarKind::Int(_) | ScalarKind::Float(_) | ScalarKind::Text => {
                    cx.wrong_type(at, "true or false", node);
                    false
                }
            },
            Value::List(_) | Value::Map(_) => {
                cx.wrong_type(at, "true or false", node);
                false
            }
        }
    }
}

/// `true` and `false` in quotes are strings.
fn plain(node: &Node<'_>, read: impl Fn(ScalarKind) -> bool, at: &At<'_>, cx: &mut Cx) -> bool {
    let Value::Scalar(scalar) = &node.value else { return false };
    if scalar.is_text() {
        cx.wrong_type(at, "true or false", node).help("remove the quotes");
        return false;
    }
    read(scalar.kind())
}

/// A whole number from 0. Floats without a fraction count, as JSON makes no difference.
fn whole(at: &At<'_>, cx: &mut Cx, max: i128) -> Option<i128> {
    let node = at.node()?;
    let kind = match &node.value {
        Value::Scalar(scalar) => scalar.kind(),
        Value::List(_) | Value::Map(_) => ScalarKind::Null,
    };
    let number = match kind {
        ScalarKind::Int(number) => number,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within 2^53, where every whole float is exact"
        )]
        ScalarKind::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            number as i128
        }
        ScalarKind::Null | ScalarKind::Bool(_) | ScalarKind::Float(_) | ScalarKind::Text => {
            let quoted =
                matches!(&node.value, Value::Scalar(scalar) if scalar.text.parse::<i64>().is_ok());
            let report = cx.wrong_type(at, "a whole number", node);
            if quoted {
                report.help("remove the quotes");
            }
            return None;
        }
    };
    if (0..=max).contains(&number) {
        return Some(number);
    }
    let message = if max == i128::from(u16::MAX) {
        format!("{number} is not a port (1 to 65535)")
    } else if number < 0 {
        format!("{number} is negative")
    } else {
        format!("{number} is too large: at most {max}")
    };
    cx.fail(at, "out-of-range", message);
    None
}

/// Ports; 0 is read, and refused by the rules of the fields where it is no port.
impl Decode for u16 {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let number = whole(at, cx, Self::MAX.into());
        number.and_then(|number| number.try_into().ok()).unwrap_or_default()
    }
}

impl Decode for u32 {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let number = whole(at, cx, Self::MAX.into());
        number.and_then(|number| number.try_into().ok()).unwrap_or_default()
    }
}

/// 64-bit numbers may also be written as strings, as protobuf's JSON form has them.
impl Decode for u64 {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let written = match at.node().map(|node| &node.value) {
            Some(Value::Scalar(scalar)) if scalar.is_text() => scalar.text.parse().ok(),
            Some(Value::Scalar(_) | Value::List(_) | Value::Map(_)) | None => None,
        };
        let number = || whole(at, cx, Self::MAX.into())?.try_into().ok();
        written.or_else(number).unwrap_or_default()
    }
}

/// Zero is the same as not written.
impl Decode for Option<crate::Spanned<NonZeroU32>> {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        // The API's type is a signed 32-bit number.
        let number = whole(at, cx, i32::MAX.into())?;
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new)?;
        Some(crate::Spanned::new(number, at.span()))
    }
}

impl Decode for f64 {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(node) = at.node() else { return 0.0 };
        let kind = match &node.value {
            Value::Scalar(scalar) => scalar.kind(),
            Value::List(_) | Value::Map(_) => ScalarKind::Null,
        };
        match kind {
            #[expect(
                clippy::cast_precision_loss,
                reason = "the value is compared with limits only"
            )]
            ScalarKind::Int(number) => number as Self,
            ScalarKind::Float(number) if number.is_finite() => number,
            ScalarKind::Null | ScalarKind::Bool(_) | ScalarKind::Float(_) | ScalarKind::Text => {
                cx.wrong_type(at, "a number", node);
                0.0
            }
        }
    }
}

impl Decode for Duration {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(written) = at.node() else { return Self::ZERO };
        let text = match &written.value {
            Value::Scalar(scalar) if scalar.is_text() => &scalar.text,
            Value::Scalar(scalar) => {
                let unit = matches!(scalar.kind(), ScalarKind::Int(_) | ScalarKind::Float(_));
                let help = format!("write the unit, for example \"{}s\"", scalar.text);
                let report = cx.wrong_type(at, "a duration", written);
                if unit {
                    report.help(help);
                }
                return Self::ZERO;
            }
            Value::List(_) | Value::Map(_) => {
                cx.wrong_type(at, "a duration", written);
                return Self::ZERO;
            }
        };
        match duration(text) {
            Ok(duration) => duration,
            Err(InvalidDuration::Negative) => {
                cx.fail(at, "invalid-duration", format!("{text:?} is negative"));
                Self::ZERO
            }
            Err(InvalidDuration::Malformed) => {
                cx.fail(at, "invalid-duration", format!("{text:?} is not a duration"))
                    .help("a number and a unit, for example \"1.5s\", \"100ms\" or \"1h\"");
                Self::ZERO
            }
        }
    }
}

/// Why a text is no duration that a resource may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InvalidDuration {
    Malformed,
    Negative,
}

/// Numbers with units, one after the other: `1h30m`, `1.5s`, `100ms`. A bare `0` needs no unit.
fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) | None => (false, text),
    };
    let total = if unsigned == "0" { Some(0) } else { nanoseconds(unsigned) };
    let total =
        total.filter(|total| *total <= LONGEST_DURATION).ok_or(InvalidDuration::Malformed)?;
    if negative && total != 0 {
        return Err(InvalidDuration::Negative);
    }
    Ok(Duration::from_nanos(total))
}

/// About 292 years, the longest that Go's durations hold.
const LONGEST_DURATION: u64 = i64::MAX as u64;

fn nanoseconds(mut rest: &str) -> Option<u64> {
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let whole = &rest[..digits];
        rest = &rest[digits..];
        let fraction = match rest.strip_prefix('.') {
            Some(after) => {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                rest = &after[digits..];
                &after[..digits]
            }
            None => "",
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let letters = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..letters] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[letters..];
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let mut share = unit;
        for digit in fraction.bytes() {
            share /= 10;
            total = total.checked_add(u64::from(digit - b'0') * share)?;
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let check = |text, expected: Result<u64, InvalidDuration>| {
            assert_eq!(duration(text), expected.map(Duration::from_nanos), "{text}");
        };
        check("1.5s", Ok(1_500_000_000));
        check("1h30m", Ok(5_400_000_000_000));
        check("100ms", Ok(100_000_000));
        check("0", Ok(0));
        check("-0s", Ok(0));
        check(".5s", Ok(500_000_000));
        check("0.000000001s", Ok(1));
        check("999999999s", Ok(999_999_999_000_000_000));
        check("-11.000000001s", Err(InvalidDuration::Negative));
        for text in ["", "1", "s", "1d", "1 s", "1s ", "..5s", "99999999999999999999s", "1e3s"] {
            check(text, Err(InvalidDuration::Malformed));
        }
    }
}
