//! What a record says of a request and its answer. On connections that carry HTTP, each request has a
//! record of its own.

use std::{borrow::Cow, time::Duration};

use http::{HeaderValue, Method, Version};

use super::flags::ResponseFlags;

/// The part of a record that only requests have.
///
/// Values are kept as they came: they share the bytes of the request and nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpFields {
    /// The method; nothing if what was sent is not HTTP.
    pub method: Option<Method>,
    /// The path with its query, before any rewrite.
    pub path: Option<RequestPath>,
    /// The version the application spoke.
    pub version: Version,
    /// Host or :authority.
    pub authority: Option<HeaderValue>,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// Where the answer comes from, in Envoy's words: `via_upstream`, `route_not_found`; empty if
    /// nothing is known.
    pub details: Cow<'static, str>,
    /// From the end of the request to the head of the upstream's answer.
    pub upstream_service_time: Option<Duration>,
    /// Header `x-forwarded-for`.
    pub forwarded_for: Option<HeaderValue>,
    /// Header `user-agent`.
    pub user_agent: Option<HeaderValue>,
    /// Header `x-request-id`, also one that we gave it.
    pub request_id: Option<HeaderValue>,
    /// The gRPC status of the answer, from its headers or trailers.
    pub grpc_status: Option<u16>,
}

/// The path and query of a request.
pub type RequestPath = http::uri::PathAndQuery;

impl HttpFields {
    /// Fields of a request that nothing is known of.
    pub fn new(version: Version) -> Self {
        Self {
            method: None,
            path: None,
            version,
            authority: None,
            status: 0,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            upstream_service_time: None,
            forwarded_for: None,
            user_agent: None,
            request_id: None,
            grpc_status: None,
        }
    }

    /// The name of the version: `HTTP/1.1`, `HTTP/2`.
    pub fn protocol(&self) -> &'static str {
        match self.version {
            Version::HTTP_09 => "HTTP/0.9",
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        }
    }
}
