//! Headers that belong to one connection and are not passed on.

use http::{
    HeaderMap, HeaderValue,
    header::{self, HeaderName},
};

use super::{Present, name};

/// Takes out of a request what is between the application and us.
pub(crate) fn strip_request(headers: &mut HeaderMap, present: Present) {
    let trailers = present.has(&header::TE) && wants_trailers(headers);
    strip_common(headers, present);
    // Nobody but who has verified a certificate may say whose it was.
    for name in [header::EXPECT, name::FORWARDED_CLIENT_CERT, name::HTTP2_SETTINGS] {
        present.remove(headers, &name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    strip_notes(headers, present);
}

/// Takes out of a stranger's request what steers a proxy and what only we can say, as Envoy does at the
/// edge of a mesh.
pub(crate) fn strip_strangers(headers: &mut HeaderMap) {
    headers.remove(name::FORWARDED_PROTO);
    let steering: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("x-envoy-")).cloned().collect();
    for name in steering {
        headers.remove(name);
    }
}

/// Takes out of an answer what is between us and the upstream.
pub(crate) fn strip_response(headers: &mut HeaderMap, present: Present) {
    strip_common(headers, present);
    strip_notes(headers, present);
}

/// The mesh's own notes about a workload are nobody's business outside.
fn strip_notes(headers: &mut HeaderMap, present: Present) {
    for name in [name::PEER_METADATA, name::PEER_METADATA_ID, name::DECORATOR_OPERATION] {
        present.remove(headers, &name);
    }
}

/// Takes out of trailers what is between us and one side, and what says where a message ends: on HTTP/1
/// anybody may write it there, and on HTTP/2 it may end the connection, which others share.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_common(trailers, Present::of(trailers));
    for name in [header::CONTENT_LENGTH, header::HOST, header::TRAILER] {
        trailers.remove(name);
    }
}

/// Whether a header lists a token.
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .any(|value| tokens(value).any(|one| one.eq_ignore_ascii_case(token)))
}

/// Whether the one transfer coding is `chunked`.
pub(crate) fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().map(HeaderValue::as_bytes);
    first.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        && codings.next().is_none()
}

fn strip_common(headers: &mut HeaderMap, present: Present) {
    if present.has(&header::CONNECTION) {
        strip_named(headers);
    }
    for name in [
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::TE,
        name::KEEP_ALIVE,
        name::PROXY_CONNECTION,
    ] {
        present.remove(headers, &name);
    }
}

/// Takes out `Connection` and what it names (RFC 9110 §7.6.1); what a message cannot do without is
/// not for it to name.
fn strip_named(headers: &mut HeaderMap) {
    let values: Vec<_> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    headers.remove(header::CONNECTION);
    for token in values.iter().flat_map(tokens) {
        if let Ok(name) = HeaderName::from_bytes(token.as_bytes())
            && !KEPT.contains(&name)
        {
            headers.remove(name);
        }
    }
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TE) && lists(headers, &header::TE, "trailers")
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim)
}

const KEPT: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::AUTHORIZATION];

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let present = Present::of(&headers);
        strip_request(&mut headers, present);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_belongs_to_the_connection_goes() {
        let left = stripped(&[
            ("host", "a"),
            ("connection", "keep-alive, X-Mine, host"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("x-yours", "1"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAM"),
            ("proxy-connection", "close"),
            ("expect", "100-continue"),
            ("x-envoy-peer-metadata", "x"),
        ]);
        assert_eq!(left, ["host", "te", "x-yours"]);
        assert_eq!(stripped(&[("te", "gzip")]), Vec::<String>::new());
    }

    #[test]
    fn trailers_say_nothing_of_connections() {
        let mut trailers = HeaderMap::new();
        for name in ["connection", "transfer-encoding", "content-length", "host", "grpc-status"] {
            trailers.append(name, HeaderValue::from_static("0"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
    }

    #[test]
    fn strangers_do_not_steer() {
        let mut headers = HeaderMap::new();
        for name in ["x-forwarded-proto", "x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms", "x"]
        {
            headers.append(name, HeaderValue::from_static("1"));
        }
        strip_strangers(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x"]);
        assert_eq!(stripped(&[("x-forwarded-client-cert", "By=me")]), Vec::<String>::new());
    }

    #[test]
    fn tokens_are_found_in_any_case_and_line() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONNECTION, HeaderValue::from_static("a, Upgrade"));
        headers.append(header::CONNECTION, HeaderValue::from_static("b"));
        assert!(lists(&headers, &header::CONNECTION, "upgrade"));
        assert!(lists(&headers, &header::CONNECTION, "b"));
        assert!(!lists(&headers, &header::CONNECTION, "c"));
    }
}
