//! A request as the application sent it: whether it may be routed at all, and what routing needs to know
//! of it.

use std::borrow::Cow;

use egressd_tables::PathNormalization;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header, request::Parts,
    uri::PathAndQuery,
};
use hyper::body::Incoming;

use super::{
    headers::{Present, Seen, hop, name},
    reply::{Asked, Reply},
    settings::HEAD_COUNT,
};
use crate::record::ResponseFlag;

/// A request that may be routed.
pub(crate) struct Inbound {
    /// Its head; the authority is the one given here.
    pub(crate) parts: Parts,
    /// Its body.
    pub(crate) body: Incoming,
    /// Host or :authority, with its port if it has one.
    pub(crate) authority: HeaderValue,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// The path with its query.
    pub(crate) path: PathAndQuery,
    /// It asks to speak WebSocket from here on.
    pub(crate) websocket: bool,
    /// Which headers it has.
    pub(crate) present: Present,
}

impl Inbound {
    /// Takes a request in, which has `present`. `scheme` is that of the connection.
    ///
    /// # Errors
    /// It is answered without being routed.
    pub(crate) fn admit(
        request: Request<Incoming>,
        present: Present,
        scheme: &'static str,
    ) -> Result<Self, Reply> {
        let (mut parts, body) = request.into_parts();
        if parts.headers.len() > HEAD_COUNT {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(malformed(status, "http2.too_many_headers"));
        }
        if present.has(&header::TRANSFER_ENCODING)
            && parts.headers.contains_key(header::TRANSFER_ENCODING)
            && !hop::is_only_chunked(&parts.headers)
        {
            let status = StatusCode::NOT_IMPLEMENTED;
            return Err(malformed(status, "http1.invalid_transfer_encoding"));
        }
        if parts.method == Method::CONNECT {
            // Istio ends no tunnels on the way out (semantics.md §6).
            return Err(Reply::new(StatusCode::FORBIDDEN, "upgrade_failed"));
        }
        let authority = authority(&parts)?;
        if let Some(written) = parts.uri.scheme_str()
            && parts.version < Version::HTTP_2
            && !written.eq_ignore_ascii_case(scheme)
        {
            return Err(malformed(StatusCode::BAD_REQUEST, "http1.invalid_scheme"));
        }
        let path = parts.uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
        let Some(path) = path.cloned() else {
            return Err(Reply::new(StatusCode::NOT_FOUND, "absolute_path_rejected"));
        };
        let websocket = present.has(&header::UPGRADE) && wants_websocket(&mut parts)?;
        Ok(Self { parts, body, authority, scheme, path, websocket, present })
    }

    /// The authority as text.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// The head as routing reads it.
    pub(crate) fn with_head<R>(
        &self,
        use_it: impl FnOnce(&egressd_tables::RequestHead<'_>) -> R,
    ) -> R {
        use_it(&egressd_tables::RequestHead {
            method: self.parts.method.as_str(),
            scheme: self.scheme,
            authority: self.authority(),
            path: self.path.as_str(),
            headers: &Seen(&self.parts.headers),
        })
    }
}

/// Gives a request's path the form in which it is routed, logged and sent on.
pub(crate) fn normalize_path(uri: &mut Uri, how: PathNormalization) {
    let Some(path) = uri.path_and_query() else { return };
    let Cow::Owned(normal) = egressd_tables::normalize_path(how, path.as_str()) else { return };
    // Characters only go, or become slashes: what was a path stays one.
    let Ok(normal) = PathAndQuery::try_from(normal) else { return };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(normal);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// In what an answer of ours is expected.
pub(crate) fn asked(headers: &HeaderMap, present: Present) -> Asked {
    if !present.has(&header::CONTENT_TYPE) {
        return Asked::Http;
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Asked::Http };
    match kind.as_bytes().strip_prefix(b"application/grpc") {
        Some(b"") | Some([b'+' | b';', ..]) => Asked::Grpc,
        Some(_) | None => Asked::Http,
    }
}

fn malformed(status: StatusCode, details: &'static str) -> Reply {
    let text = status.canonical_reason().unwrap_or_default();
    Reply::new(status, details).text(text).flag(ResponseFlag::DownstreamProtocolError).close()
}

/// Host, or what is written in its place; exactly one.
fn authority(parts: &Parts) -> Result<HeaderValue, Reply> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed(StatusCode::BAD_REQUEST, "http1.codec_error"));
    }
    let authority = match (parts.uri.authority(), host) {
        (Some(written), Some(host)) if host == written.as_str() => Some(host.clone()),
        (Some(written), _) => super::headers::value(written.as_str()),
        (None, Some(host)) => Some(host.clone()),
        (None, None) => return Err(malformed(StatusCode::BAD_REQUEST, "missing_host_header")),
    };
    authority
        .filter(|authority| authority.as_bytes().iter().copied().all(may_be_in_authority))
        .ok_or_else(|| malformed(StatusCode::BAD_REQUEST, "http1.invalid_authority"))
}

/// The characters of RFC 3986's host and port; an `@` would name a user, which HTTP does not allow.
fn may_be_in_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)
}

/// Whether another protocol is asked for. WebSocket alone may be; an upgrade to HTTP/2 is as if it had
/// not been asked for, which servers are free to do.
fn wants_websocket(parts: &mut Parts) -> Result<bool, Reply> {
    let headers = &mut parts.headers;
    if parts.version != Version::HTTP_11 || !headers.contains_key(header::UPGRADE) {
        return Ok(false);
    }
    if !hop::lists(headers, &header::CONNECTION, "upgrade")
        || hop::lists(headers, &header::UPGRADE, "h2c")
    {
        headers.remove(header::UPGRADE);
        headers.remove(name::HTTP2_SETTINGS);
        return Ok(false);
    }
    if hop::lists(headers, &header::UPGRADE, "websocket") {
        // A body would have to end before the other protocol begins, and nobody waits for that.
        let empty = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0");
        if headers.contains_key(header::TRANSFER_ENCODING) || !empty {
            return Err(malformed(StatusCode::BAD_REQUEST, "upgrade_with_a_body"));
        }
        return Ok(true);
    }
    Err(Reply::new(StatusCode::FORBIDDEN, "upgrade_failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(lines: &[(&str, &str)], uri: &str) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn host(lines: &[(&str, &str)], uri: &str) -> Result<String, String> {
        let authority = authority(&parts(lines, uri)).map_err(|reply| reply.details.to_string())?;
        Ok(authority.to_str().unwrap().to_owned())
    }

    #[test]
    fn there_is_one_authority() {
        assert_eq!(host(&[("host", "a:80")], "/").as_deref(), Ok("a:80"));
        assert_eq!(host(&[("host", "b")], "http://a/x").as_deref(), Ok("a"));
        assert_eq!(host(&[], "http://a/x").as_deref(), Ok("a"));
        assert_eq!(host(&[("host", "")], "/").as_deref(), Ok(""));
        assert_eq!(host(&[], "/"), Err("missing_host_header".to_owned()));
        let several = [("host", "a"), ("host", "a")];
        assert_eq!(host(&several, "/"), Err("http1.codec_error".to_owned()));
        for bad in ["a b", "a/b", "u@a", "a\"", "ä"] {
            assert!(host(&[("host", bad)], "/").is_err(), "{bad}");
        }
        assert_eq!(host(&[("host", "[::1]:80")], "/").as_deref(), Ok("[::1]:80"));
    }

    #[test]
    fn only_websocket_may_be_switched_to() {
        let wants = |lines: &[(&str, &str)]| {
            let mut parts = parts(lines, "/");
            let wants = wants_websocket(&mut parts).ok();
            (wants, parts.headers.contains_key("upgrade"))
        };
        let connection = ("connection", "keep-alive, Upgrade");
        assert_eq!(wants(&[connection, ("upgrade", "WebSocket")]), (Some(true), true));
        assert_eq!(wants(&[("upgrade", "websocket")]), (Some(false), false));
        assert_eq!(wants(&[connection, ("upgrade", "h2c")]), (Some(false), false));
        assert_eq!(wants(&[connection, ("upgrade", "TLS/1.2")]), (None, true));
        assert_eq!(wants(&[]), (Some(false), false));
        let websocket = ("upgrade", "websocket");
        assert_eq!(wants(&[connection, websocket, ("content-length", "0")]).0, Some(true));
        assert_eq!(wants(&[connection, websocket, ("content-length", "1")]).0, None);
        assert_eq!(wants(&[connection, websocket, ("transfer-encoding", "chunked")]).0, None);
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", Asked::Grpc),
            ("application/grpc+proto", Asked::Grpc),
            ("application/grpc; x", Asked::Grpc),
            ("application/grpc-web", Asked::Http),
            ("text/plain", Asked::Http),
        ] {
            let headers = parts(&[("content-type", kind)], "/").headers;
            assert_eq!(asked(&headers, Present::of(&headers)), expected, "{kind}");
        }
    }
}
