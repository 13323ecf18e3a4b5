//! RE2's syntax for the `regex` crate, which knows nearly all of it.
//!
//! Three things are rewritten: `\Q…\E` quotes literally, `\<` and `\>` are plain characters, and inside a class
//! `[`, `&`, `~` and `-` mean themselves even where the crate would see an operation on sets.

use std::fmt::Write as _;

use regex::Regex;

/// Regular expressions as resources write them.
#[derive(Clone, Copy, Debug)]
pub struct Re2;

/// The expression does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a regular expression: {reason}")]
pub struct InvalidRegex {
    pattern: String,
    reason: String,
}

/// Largest compiled program, in bytes.
const LARGEST: usize = 4 << 20;

impl Re2 {
    /// Whether an expression is valid, at a fraction of the cost of compiling it.
    ///
    /// # Errors
    /// When the expression is not valid or compiles to more than 4 MiB.
    pub fn check(pattern: &str) -> Result<(), InvalidRegex> {
        // Only counted repetitions can make a short expression large.
        if pattern.contains('{') {
            return Self::part(pattern).map(drop);
        }
        regex_syntax::parse(&translate(pattern)).map(drop).map_err(|error| invalid(pattern, &error))
    }

    /// An expression that must match a whole text, as matches in rules do.
    ///
    /// # Errors
    /// When the expression is not valid or compiles to more than 4 MiB.
    pub fn whole(pattern: &str) -> Result<Regex, InvalidRegex> {
        // Compiled alone first: `a)(b` must not become valid by the group around it.
        Self::check(pattern)?;
        compile(pattern, &format!("^(?:{})$", translate(pattern)))
    }

    /// An expression that may match a part of a text, as rewrites do.
    ///
    /// # Errors
    /// When the expression is not valid or compiles to more than 4 MiB.
    pub fn part(pattern: &str) -> Result<Regex, InvalidRegex> {
        compile(pattern, &translate(pattern))
    }
}

fn compile(pattern: &str, translated: &str) -> Result<Regex, InvalidRegex> {
    let builder = regex::RegexBuilder::new(translated).size_limit(LARGEST).build();
    builder.map_err(|error| invalid(pattern, &error))
}

/// Keeps the last line, which says what is wrong; those before show where in the translated text.
fn invalid(pattern: &str, error: &dyn std::error::Error) -> InvalidRegex {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or(&text).trim_start_matches("error: ").to_owned();
    InvalidRegex { pattern: pattern.to_owned(), reason }
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(literal));
            rest = after;
        } else if let Some(after) = rest.strip_prefix(r"\<").or_else(|| rest.strip_prefix(r"\>")) {
            out.push_str(if rest.starts_with(r"\<") { r"\x3C" } else { r"\x3E" });
            rest = after;
        } else if c == '\\' {
            let length = rest.chars().take(2).map(char::len_utf8).sum();
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if c == '[' {
            rest = class(rest, &mut out);
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Copies a class up to its closing bracket and returns what follows.
fn class<'a>(text: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = &text[1..];
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        let named = rest.strip_prefix("[:").and_then(|name| name.find(":]")).map(|at| at + 4);
        if let Some(length) = named {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if c == '\\' {
            let length = rest.chars().take(2).map(char::len_utf8).sum();
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        } else if c == ']' && !first {
            out.push(']');
            return &rest[1..];
        } else {
            // Writing to a String cannot fail.
            match c {
                '[' | ']' | '&' | '~' => drop(write!(out, "\\{c}")),
                '-' if rest.starts_with("--") => out.push_str("\\-"),
                _ => out.push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
        first = false;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(Re2::whole(pattern).unwrap().is_match(text), expected, "{pattern} on {text}");
    }

    #[test]
    fn re2_means_what_it_means_in_istio() {
        check("/api/v[0-9]+", "/api/v12", true);
        check("/api/v[0-9]+", "/api/v12/x", false);
        check("a|b", "ab", false);
        check(r"\Qa.b\E.*", "a.bc", true);
        check(r"\Qa.b\E", "axb", false);
        check("[[]x", "[x", true);
        check("[a&&b]", "&", true);
        check("[]]", "]", true);
        check("[^/]+", "abc", true);
        check("[[:alpha:]]+", "abc", true);
        check(r"\<a\>", "<a>", true);
        check("(?i)abc", "ABC", true);
        assert!(Re2::whole("[").is_err());
        assert!(Re2::whole("a)(b").is_err());
        assert!(Re2::whole("(?=a)").is_err());
        assert!(Re2::whole("*").is_err());
    }
}
