//! Limits and habits of the HTTP path; what depends on a route or a cluster comes with the tables.

use std::time::Duration;

use egressd_tables::PathNormalization;

/// Limits and habits of the HTTP path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Whether requests and answers carry the headers that Istio's sidecar adds: `x-request-id`,
    /// `x-forwarded-proto`, `x-envoy-attempt-count`, `x-envoy-expected-rq-timeout-ms`,
    /// `x-envoy-original-path`, and on answers `x-envoy-upstream-service-time` and
    /// `x-envoy-overloaded`. Default yes.
    pub envoy_headers: bool,
    /// Bytes of a request's body that are kept so that it can be sent again. A longer body is sent
    /// once. Default 64 KiB.
    pub retry_buffer: usize,
    /// Limit on sending the head of a request, from its first byte; then 408. Default 60 s; Istio has
    /// none.
    pub request_head: Duration,
    /// When an application's connection without a request is closed. Default 1 h.
    pub idle_connection: Duration,
    /// When a request on which nothing moves is ended, with 408 or 504. Default never, as Istio's
    /// sidecar.
    pub idle_request: Option<Duration>,
    /// Requests that an application may have under way on one HTTP/2 connection. Default 1,000.
    pub max_streams: u32,
    /// What becomes of the path of a request before it is routed, logged and sent on. Default BASE, as
    /// Istio's.
    pub path_normalization: PathNormalization,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            envoy_headers: true,
            retry_buffer: 64 * 1024,
            request_head: Duration::from_secs(60),
            idle_connection: Duration::from_secs(3600),
            idle_request: None,
            max_streams: 1000,
            path_normalization: PathNormalization::default(),
        }
    }
}

/// Bytes that the head of a request, or of an answer, may have: Envoy's `max_request_headers_kb`.
pub(crate) const HEAD_SIZE: usize = 60 * 1024;
/// Headers that a request may have: Envoy's `max_headers_count`. hyper has the same default for
/// HTTP/1, and changing it there costs an allocation a request.
pub(crate) const HEAD_COUNT: usize = 100;
/// Bytes that an upstream may send ahead on one stream of HTTP/2: enough for a fast network's round trip,
/// and a bound on what a slow application makes us hold.
pub(crate) const UPSTREAM_WINDOW: u32 = 512 * 1024;
/// Bytes that an application may send ahead on one stream of HTTP/2: enough for a machine's own loopback,
/// and a bound on what a slow upstream makes us hold.
pub(crate) const APPLICATION_WINDOW: u32 = 256 * 1024;
/// Bytes that all streams of an HTTP/2 connection together may send ahead, on either side.
pub(crate) const CONNECTION_WINDOW: u32 = 256 * 1024 * 1024;
/// Bytes of a body that hyper buffers at most in one direction of an HTTP/1 connection, or for one stream
/// of HTTP/2.
pub(crate) const BUFFER_SIZE: usize = 128 * 1024;
