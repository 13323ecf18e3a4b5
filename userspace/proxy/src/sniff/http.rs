//! The head of an HTTP request: enough of it to route the connection.
//!
//! The whole connection follows its first request; that is right for one application talking to
//! one service, and all that can be done without taking part in the exchange. HTTP/2 is known by
//! its preface alone: its headers are compressed, and many clients send them only once the
//! server has spoken, so a route must not depend on them.

use std::borrow::Cow;

use egressd_tables::{HeaderLookup, RequestHead};

use super::Parsed;

/// The head of a request, as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestBytes {
    /// HTTP/1: the request line and the headers.
    Http1(Box<[u8]>),
    /// The preface of HTTP/2 with prior knowledge (h2c).
    Http2,
}

/// Reads the head at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<RequestBytes> {
    if bytes.starts_with(PREFACE) {
        return Parsed::Whole(RequestBytes::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Parsed::Partial;
    }
    if !may_begin_with_a_method(bytes) {
        return Parsed::Not;
    }
    with_head(bytes, |parsed| match parsed {
        Ok(httparse::Status::Complete(length)) => match bytes.get(..length) {
            Some(head) => Parsed::Whole(RequestBytes::Http1(head.into())),
            None => Parsed::Not,
        },
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Not,
    })
}

impl RequestBytes {
    /// Gives `use_it` the head to route by.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&RequestHead<'_>) -> R) -> R {
        let Self::Http1(bytes) = self else {
            return use_it(&RequestHead {
                method: "",
                scheme: "http",
                authority: "",
                path: "/",
                headers: &Headers(&[]),
            });
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MOST];
        let mut request = httparse::Request::new(&mut headers);
        // These bytes have been read once before, so there is a head.
        request.parse(bytes).ok();
        let headers = Headers(request.headers);
        let (scheme, authority, path) = target(request.path.unwrap_or("/"));
        let host = headers.header("host").unwrap_or_default();
        use_it(&RequestHead {
            method: request.method.unwrap_or_default(),
            scheme: scheme.unwrap_or("http"),
            authority: authority.unwrap_or(&host),
            path,
            headers: &headers,
        })
    }
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl HeaderLookup for Headers<'_> {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self
            .0
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| String::from_utf8_lossy(header.value));
        let first = values.next()?;
        Some(values.fold(first, |all, value| Cow::Owned(format!("{all},{value}"))))
    }
}

/// Splits a request target into scheme, authority and path; only a request to an explicit proxy
/// has the first two.
fn target(target: &str) -> (Option<&str>, Option<&str>, &str) {
    let Some((scheme, rest)) = target.split_once("://") else { return (None, None, target) };
    if target.starts_with('/') {
        return (None, None, target);
    }
    match rest.find(['/', '?']) {
        Some(at) => (Some(scheme), Some(&rest[..at]), &rest[at..]),
        None => (Some(scheme), Some(rest), "/"),
    }
}

fn with_head<R>(
    bytes: &[u8],
    use_it: impl FnOnce(Result<httparse::Status<usize>, httparse::Error>) -> R,
) -> R {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MOST];
    use_it(httparse::Request::new(&mut headers).parse(bytes))
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
/// Headers a head may have; with more it is taken for something else.
const HEADERS_MOST: usize = 128;
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
