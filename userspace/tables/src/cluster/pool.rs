//! Limits and timeouts of upstream connections (semantics.md §4, connectionPool).

use std::time::Duration;

/// The value of a limit that nobody set: 2^32 - 1.
pub const UNLIMITED: u32 = u32::MAX;

/// Limits and timeouts. A limit that is hit answers `UO`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionPool {
    /// Open connections. Default [`UNLIMITED`].
    pub max_connections: u32,
    /// Requests waiting for a connection. Default [`UNLIMITED`].
    pub max_pending_requests: u32,
    /// Requests under way. Default [`UNLIMITED`].
    pub max_requests: u32,
    /// Retries under way, where there is no budget. Default [`UNLIMITED`].
    pub max_retries: u32,
    /// Retries under way as a share of the requests under way; beats `max_retries`.
    pub retry_budget: Option<RetryBudget>,
    /// Requests after which a connection is closed; 1 means no keep-alive. Default none.
    pub max_requests_per_connection: Option<u32>,
    /// Streams on one HTTP/2 connection. Default 2^31 - 1.
    pub max_concurrent_streams: u32,
    /// When an idle HTTP connection is closed. Default 1 h; 300 s for PassthroughCluster.
    pub http_idle_timeout: Option<Duration>,
    /// When a TCP relay without bytes is closed. Default 1 h; nothing means never (`0s`).
    pub tcp_idle_timeout: Option<Duration>,
    /// After which a connection is closed whatever happens on it. Default never.
    pub max_connection_duration: Option<Duration>,
    /// Keep-alive probes on the socket. Default off.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// HTTP/2 PING: interval and the time an answer may take. Default off.
    pub http2_keepalive: Option<(Duration, Duration)>,
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self {
            max_connections: UNLIMITED,
            max_pending_requests: UNLIMITED,
            max_requests: UNLIMITED,
            max_retries: UNLIMITED,
            retry_budget: None,
            max_requests_per_connection: None,
            max_concurrent_streams: MAX_STREAMS,
            http_idle_timeout: Some(IDLE),
            tcp_idle_timeout: Some(IDLE),
            max_connection_duration: None,
            tcp_keepalive: None,
            http2_keepalive: None,
        }
    }
}

/// `retryBudget`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Share of the requests under way, in percent. Default 20.
    pub percent: f64,
    /// Retries that are always allowed. Default 3.
    pub min_concurrency: u32,
}

/// `tcpKeepalive`; what is not set is left to the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Unanswered probes after which the connection is dead.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Between probes.
    pub interval: Option<Duration>,
}

/// The HTTP version spoken to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamHttp {
    /// HTTP/1.1, whatever the client speaks.
    Http1,
    /// HTTP/2: with prior knowledge, or by ALPN inside TLS.
    Http2,
    /// What the client speaks.
    AsDownstream,
}

const IDLE: Duration = Duration::from_secs(3600);
const MAX_STREAMS: u32 = (1 << 31) - 1;
