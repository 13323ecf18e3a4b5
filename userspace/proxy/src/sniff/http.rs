//! Whether a connection begins with an HTTP request: its first line tells. Whether the rest of the head
//! is as it should be is for whoever reads the request, so that what is wrong in it is refused as HTTP
//! and not passed on as something else.

use std::time::Duration;

use super::Parsed;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1, by a request line.
    Http1,
    /// HTTP/2 with prior knowledge (h2c), by its preface.
    Http2,
}

/// Reads the start of `bytes`. What is found in a beginning is found in all that goes on from it, so that
/// it is the same however an application cuts what it sends.
///
/// Any method may begin a request (RFC 9110 §9.1): were there a list of them, a request with another one
/// would be bytes without a policy, and without the TLS that a rule asks for.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<HttpVersion> {
    if bytes.starts_with(PREFACE) {
        return Parsed::Whole(HttpVersion::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Parsed::Partial;
    }
    let empty = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = bytes.get(empty..).unwrap_or_default();
    if empty > EMPTY || !may_begin_with_a_method(line) {
        return Parsed::Not;
    }
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => match line.get(..end) {
            Some(line) if is_request_line(line) => Parsed::Whole(HttpVersion::Http1),
            Some(_) | None => Parsed::Not,
        },
        None if line.iter().all(|byte| may_be_in_a_line(*byte)) => Parsed::Partial,
        None => Parsed::Not,
    }
}

/// How long the end of the line that `bytes`, which may become a request, begin with is waited for, if
/// hardly any request begins like that; nothing if many do.
pub(crate) fn patience(bytes: &[u8]) -> Option<Duration> {
    let line = bytes.trim_ascii_start();
    let method = method(line);
    let common = |known: &&str| {
        let known = known.as_bytes();
        if method.len() < line.len() { known == method } else { known.starts_with(method) }
    };
    if line.is_empty() || METHODS.iter().any(common) {
        return None;
    }
    let lower_case = method.iter().any(u8::is_ascii_lowercase);
    Some(if lower_case { PATIENCE_WITH_LOWER_CASE } else { PATIENCE_WITH_UNCOMMON })
}

/// Whether `bytes`, which may become a request line, hold its method: nothing but HTTP goes on like that.
pub(crate) fn has_method(bytes: &[u8]) -> bool {
    bytes.contains(&b' ') && parse(bytes) == Parsed::Partial
}

/// Whether a line that begins with a method ends with a version of HTTP/1; also where a server that is
/// not strict would read it as such.
fn is_request_line(line: &[u8]) -> bool {
    let all = line.iter().all(|byte| may_be_in_a_line(*byte));
    let Some((rest, version)) = line.trim_ascii_end().split_last_chunk::<8>() else { return false };
    let (name, minor) = version.split_at(7);
    all && name.eq_ignore_ascii_case(b"HTTP/1.")
        && minor.iter().all(u8::is_ascii_digit)
        && rest.last().is_some_and(|byte| is_blank(*byte))
}

fn may_be_in_a_line(byte: u8) -> bool {
    byte >= b' ' || byte == b'\r' || byte == b'\t'
}

/// Whether a method, or the beginning of one, is at the start: most protocols of another kind are told
/// from HTTP by their first bytes, and the others when their first line ends.
fn may_begin_with_a_method(bytes: &[u8]) -> bool {
    match bytes.iter().position(|byte| !may_be_in_a_method(*byte)) {
        Some(end) => (1..=METHOD).contains(&end) && bytes.get(end).is_some_and(|b| is_blank(*b)),
        None => bytes.len() <= METHOD,
    }
}

/// The characters of a token (RFC 9110 §5.6.2).
fn may_be_in_a_method(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn method(line: &[u8]) -> &[u8] {
    line.split(|byte| is_blank(*byte)).next().unwrap_or_default()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The methods of HTTP itself and of the common extensions of it, and of the preface.
const METHODS: [&str; 21] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "SEARCH",
    "REPORT",
    "PURGE",
    "QUERY",
];
/// How long the rest of a line is waited for that begins with a word which few requests begin with, and
/// other protocols do: their servers would be waited for on the other side.
const PATIENCE_WITH_UNCOMMON: Duration = Duration::from_secs(1);
/// The same for a word with lower case, which begins other protocols far more often than requests. Lines
/// are mostly sent in one piece; this is enough for one that is not, with one segment lost on the way
/// (the kernel's TCP_RTO_MIN).
const PATIENCE_WITH_LOWER_CASE: Duration = Duration::from_millis(200);
/// Bytes of a method. HTTP sets no limit; the longest that is registered has 17.
const METHOD: usize = 32;
/// Bytes of empty lines before a request, which are none of its own (RFC 9112 §2.2).
const EMPTY: usize = 8;
