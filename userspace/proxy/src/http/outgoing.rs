//! A request as it is sent to an upstream, as often as it has to be.

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use http_body::Body;

use super::{
    headers::{self, name},
    request_body::{RequestBody, Sending},
};

/// A request as it is sent to an upstream.
pub(crate) struct Outgoing {
    /// The method.
    pub(crate) method: Method,
    /// The path, rewritten if the route says so.
    pub(crate) path: PathAndQuery,
    /// The authority, rewritten if the route says so.
    pub(crate) authority: HeaderValue,
    /// Everything else.
    pub(crate) headers: HeaderMap,
    /// It authenticates the connection it is sent on.
    pub(crate) binds: bool,
    /// The body; nothing if there is none.
    pub(crate) body: Option<Sending>,
    /// It asks to speak WebSocket.
    pub(crate) websocket: bool,
    /// Whether tries are counted in a header.
    pub(crate) count_tries: bool,
}

/// What a request is spoken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; over TLS or not.
    Http2 {
        /// `https` or `http`.
        secure: bool,
    },
}

impl Outgoing {
    /// The authority as text.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// The request for its `number`th try, with the body from its start.
    pub(crate) fn build(&self, spoken: Spoken, number: u32) -> Request<RequestBody> {
        let body = self.body.as_ref().map(Sending::read);
        self.build_with(spoken, number, body.map_or(RequestBody::Empty, RequestBody::Sent))
    }

    /// The request with another body.
    pub(crate) fn build_with(
        &self,
        spoken: Spoken,
        number: u32,
        body: RequestBody,
    ) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        let mut headers = self.headers.clone();
        if self.count_tries {
            headers.insert(name::ATTEMPT_COUNT, headers::number(number));
        }
        match spoken {
            Spoken::Http1 => {
                *request.uri_mut() = Uri::from(self.path.clone());
                *request.version_mut() = Version::HTTP_11;
                headers.insert(header::HOST, self.authority.clone());
                join_cookies(&mut headers);
                if !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
                    // hyper sends such a body with most methods, and leaves it out with GET and HEAD.
                    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                }
                if self.websocket {
                    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
                    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                }
            }
            Spoken::Http2 { secure } => {
                *request.version_mut() = Version::HTTP_2;
                headers.remove(header::HOST);
                *request.uri_mut() = self.absolute_uri(secure);
            }
        }
        *request.headers_mut() = headers;
        request
    }

    fn absolute_uri(&self, secure: bool) -> Uri {
        let mut parts = Uri::from(self.path.clone()).into_parts();
        // The authority has been looked at when the request came; an empty one cannot be written.
        if let Ok(authority) = Authority::try_from(self.authority.as_bytes()) {
            parts.authority = Some(authority);
            parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
        }
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// HTTP/2 may split cookies into several lines; HTTP/1 knows one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let lines: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing() -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("old"));
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        Outgoing {
            method: Method::GET,
            path: PathAndQuery::from_static("/x?y"),
            authority: HeaderValue::from_static("a.example:8080"),
            headers,
            binds: false,
            body: None,
            websocket: false,
            count_tries: true,
        }
    }

    #[test]
    fn http1() {
        let request = outgoing().build(Spoken::Http1, 2);
        assert_eq!(request.uri().to_string(), "/x?y");
        assert_eq!(request.headers()["host"], "a.example:8080");
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
        assert_eq!(request.headers()["x-envoy-attempt-count"], "2");
    }

    #[test]
    fn http2() {
        let request = outgoing().build(Spoken::Http2 { secure: true }, 1);
        assert_eq!(request.uri().to_string(), "https://a.example:8080/x?y");
        assert!(!request.headers().contains_key("host"));
        assert_eq!(request.headers().get_all("cookie").iter().count(), 2);
        let unnamed = Outgoing { authority: HeaderValue::from_static(""), ..outgoing() };
        let request = unnamed.build(Spoken::Http2 { secure: false }, 1);
        assert_eq!(request.uri().to_string(), "/x?y");
    }
}
