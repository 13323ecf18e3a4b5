//! HTTP header names and values.

use crate::decode::{At, Cx};

/// Pseudo headers of HTTP/2.
const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];
/// How names begin that stand for a claim of a verified token.
const CLAIM: &str = "@request.auth.claims";

/// Whether it is a name as HTTP defines it.
fn is_token(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(letter)
}

/// Whether a rule may look at it: a header, or a pseudo header.
pub(super) fn is_matchable(name: &str) -> bool {
    is_token(name) || PSEUDO.contains(&name)
}

/// Whether it stands for a claim of a verified token.
pub(super) fn is_claim(name: &str) -> bool {
    let prefix = name.get(..CLAIM.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(CLAIM))
        && name[CLAIM.len()..].starts_with(['.', '['])
}

/// Whether it is the request's authority under any of its names.
pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// A header that a rule looks at.
pub(super) fn matched(name: &str, at: &At<'_>, cx: &mut Cx) {
    if name.is_empty() {
        cx.error(at, "invalid-header", "the name of a header must not be empty");
    } else if !is_claim(name) && !is_matchable(name) {
        cx.error(at, "invalid-header", format!("{name:?} is not a header name"));
    }
}

/// A header that a CORS policy names; `*` stands for all.
pub(super) fn cors(name: &str, at: &At<'_>, cx: &mut Cx) {
    if name.is_empty() {
        cx.error(at, "invalid-header", "the name of a header must not be empty");
    } else if !is_token(name) {
        cx.error(at, "invalid-header", format!("{name:?} is not a header name"));
    }
}

/// A request header that is set or added: the authority is allowed, other pseudo headers are not.
pub(super) fn request_write(name: &str, at: &At<'_>, cx: &mut Cx) {
    if name.is_empty() {
        cx.error(at, "invalid-header", "the name of a header must not be empty");
    } else if name.starts_with(':') && !is_authority(name) {
        cx.error(at, "invalid-header", format!("{name:?} cannot be changed"));
    }
}

/// A request header that is removed, or a response header: neither pseudo headers nor `host`.
pub(super) fn other_write(name: &str, at: &At<'_>, cx: &mut Cx) {
    if name.is_empty() {
        cx.error(at, "invalid-header", "the name of a header must not be empty");
    } else if name.starts_with(':') || is_authority(name) {
        cx.error(at, "invalid-header", format!("{name:?} cannot be changed here"));
    }
}

/// A value that is set or added.
pub(super) fn value(value: &str, at: &At<'_>, cx: &mut Cx) {
    if let Err(reason) = check_value(value) {
        cx.error(at, "invalid-header", format!("{value:?} is not a header value: {reason}"))
            .help("write `%%` for a percent sign");
    }
}

/// Text without control characters, in which `%NAME%` and `%NAME(…)%` stand for a property of the connection and
/// `%%` for a percent sign.
pub(super) fn check_value(value: &str) -> Result<(), &'static str> {
    if value.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err("it has a control character");
    }
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.strip_prefix('%') {
            Some(after) => after,
            None => after_variable(after).ok_or("a `%` is not closed")?,
        };
    }
    Ok(())
}

/// What follows a variable; arguments in parentheses may hold percent signs.
fn after_variable(text: &str) -> Option<&str> {
    let end = text.find(['%', '('])?;
    if text[end..].starts_with('%') {
        return Some(&text[end + 1..]);
    }
    let mut from = end;
    loop {
        let close = from + text[from..].find(')')?;
        let rest = &text[close + 1..];
        let limit = rest
            .strip_prefix(':')
            .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        if let Some(after) = limit.unwrap_or(rest).strip_prefix('%') {
            return Some(after);
        }
        from = close + 1;
    }
}
