//! Whether a connection begins with an HTTP request: its first line tells. Whether the rest of the head
//! is as it should be is for whoever reads the request, so that what is wrong in it is refused as HTTP
//! and not passed on as something else.

use super::Parsed;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1, by a request line.
    Http1,
    /// HTTP/2 with prior knowledge (h2c), by its preface.
    Http2,
}

/// Reads the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<HttpVersion> {
    if bytes.starts_with(PREFACE) {
        return Parsed::Whole(HttpVersion::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Parsed::Partial;
    }
    if !may_begin_with_a_method(bytes) {
        return Parsed::Not;
    }
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => match bytes.get(..end) {
            Some(line) if is_request_line(line) => Parsed::Whole(HttpVersion::Http1),
            Some(_) | None => Parsed::Not,
        },
        None if bytes.iter().all(|byte| may_be_in_a_line(*byte)) => Parsed::Partial,
        None => Parsed::Not,
    }
}

/// Whether a line that begins with a method ends with a version of HTTP/1.
fn is_request_line(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    VERSIONS.iter().any(|version| line.ends_with(version))
        && line.iter().all(|b| may_be_in_a_line(*b))
}

fn may_be_in_a_line(byte: u8) -> bool {
    byte >= b' ' || byte == b'\r' || byte == b'\t'
}

/// Whether a known method, or the beginning of one, is at the start: a protocol of another kind is
/// told from HTTP by its first bytes, and need not end its line first.
fn may_begin_with_a_method(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| {
        let method = method.as_bytes();
        match bytes.strip_prefix(method) {
            Some(rest) => rest.first().is_none_or(|next| *next == b' '),
            None => method.starts_with(bytes),
        }
    })
}

/// What a client with prior knowledge of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const VERSIONS: [&[u8]; 2] = [b" HTTP/1.1", b" HTTP/1.0"];
/// The methods of HTTP itself and of the common extensions of it.
const METHODS: [&str; 20] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
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
