//! Traffic policy: connection pool, outlier detection, TLS, tunnel and PROXY protocol (semantics.md §4).
//!
//! Whole numbers whose zero means "not set" are `Option<NonZeroU32>`.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::Spanned;
use crate::decode::{names, object};
use crate::resource::extension::{self, HealthCheck};
use crate::resource::load_balancer::LoadBalancer;
use crate::resource::virtual_service::PortSelector;
use crate::value::HostPattern;

object! {
    /// Policy of a rule or of a subset.
    pub struct TrafficPolicy {
        /// How an endpoint is chosen.
        load_balancer: Option<Spanned<LoadBalancer>> = "loadBalancer",
        /// Limits on connections and requests.
        connection_pool: Option<Spanned<ConnectionPool>> = "connectionPool",
        /// When an endpoint is taken out.
        outlier_detection: Option<Spanned<OutlierDetection>> = "outlierDetection",
        /// TLS towards the upstream.
        tls: Option<Spanned<ClientTlsSettings>> = "tls",
        /// Policies that replace all of this for one port.
        port_level_settings: Vec<Spanned<PortTrafficPolicy>> = "portLevelSettings",
        /// TCP inside an HTTP tunnel.
        tunnel: Option<Spanned<Tunnel>> = "tunnel",
        /// A PROXY protocol header before anything else.
        proxy_protocol: Option<Spanned<ProxyProtocol>> = "proxyProtocol",
        /// Concurrent retries as a share of requests.
        retry_budget: Option<Spanned<RetryBudget>> = "retryBudget",
    } plus {
        /// egressd's extension `healthCheck`.
        health_check: Option<Spanned<HealthCheck>>,
    }
    extended_by extension::of_policy
}

object! {
    /// Policy for one port. Replaces the destination-level policy as a whole.
    pub struct PortTrafficPolicy {
        /// The service port.
        port: Option<Spanned<PortSelector>> = "port",
        /// How an endpoint is chosen.
        load_balancer: Option<Spanned<LoadBalancer>> = "loadBalancer",
        /// Limits on connections and requests.
        connection_pool: Option<Spanned<ConnectionPool>> = "connectionPool",
        /// When an endpoint is taken out.
        outlier_detection: Option<Spanned<OutlierDetection>> = "outlierDetection",
        /// TLS towards the upstream.
        tls: Option<Spanned<ClientTlsSettings>> = "tls",
    } plus {
        /// egressd's extension `healthCheck`.
        health_check: Option<Spanned<HealthCheck>>,
    }
    extended_by extension::of_port_policy
}

object! {
    /// Limits on connections and requests.
    pub struct ConnectionPool {
        /// For every connection.
        tcp: Option<Spanned<TcpConnectionPool>> = "tcp",
        /// For HTTP.
        http: Option<Spanned<HttpConnectionPool>> = "http",
    }
}

object! {
    /// Limits for every connection.
    pub struct TcpConnectionPool {
        /// Default: 2^32-1.
        max_connections: Option<Spanned<NonZeroU32>> = "maxConnections",
        /// Default: the mesh's, 10 s.
        connect_timeout: Option<Spanned<Duration>> = "connectTimeout",
        /// Keepalive probes; absent: the mesh's, else off.
        tcp_keepalive: Option<Spanned<TcpKeepalive>> = "tcpKeepalive",
        /// Age at which a connection is closed; absent: none.
        max_connection_duration: Option<Spanned<Duration>> = "maxConnectionDuration",
        /// Silence after which a connection is closed; default 1 h, zero: never.
        idle_timeout: Option<Spanned<Duration>> = "idleTimeout",
    }
    extended_by extension::of_tcp_pool
}

object! {
    /// Keepalive probes; what is absent is the system's.
    pub struct TcpKeepalive {
        /// Lost probes after which the connection is dead.
        probes: Option<Spanned<NonZeroU32>> = "probes",
        /// Silence before the first probe.
        time: Option<Spanned<Duration>> = "time",
        /// Pause between probes.
        interval: Option<Spanned<Duration>> = "interval",
    }
}

object! {
    /// Limits for HTTP.
    pub struct HttpConnectionPool {
        /// Requests waiting for a connection; default 2^32-1.
        http1_max_pending_requests: Option<Spanned<NonZeroU32>> = "http1MaxPendingRequests",
        /// Requests at once, any version; default 2^32-1.
        http2_max_requests: Option<Spanned<NonZeroU32>> = "http2MaxRequests",
        /// Requests on one connection; absent: no limit.
        max_requests_per_connection: Option<Spanned<NonZeroU32>> = "maxRequestsPerConnection",
        /// Concurrent retries; default 2^32-1.
        max_retries: Option<Spanned<NonZeroU32>> = "maxRetries",
        /// Default 1 h.
        idle_timeout: Option<Spanned<Duration>> = "idleTimeout",
        /// Whether HTTP/1.1 becomes HTTP/2 upstream.
        h2_upgrade_policy: Spanned<H2UpgradePolicy> = "h2UpgradePolicy",
        /// Upstream speaks what the client speaks.
        use_client_protocol: Spanned<bool> = "useClientProtocol",
        /// Streams on one HTTP/2 connection; default 2^31-1.
        max_concurrent_streams: Option<Spanned<NonZeroU32>> = "maxConcurrentStreams",
        /// HTTP/2 PING.
        http2_keep_alive: Option<Spanned<Http2KeepAlive>> = "http2KeepAlive",
    }
}

names! {
    /// Whether HTTP/1.1 becomes HTTP/2 upstream.
    pub enum H2UpgradePolicy {
        /// The mesh's setting.
        #[default]
        Default = "DEFAULT",
        /// No.
        DoNotUpgrade = "DO_NOT_UPGRADE",
        /// Yes.
        Upgrade = "UPGRADE",
    }
}

object! {
    /// HTTP/2 PING; both fields are required.
    pub struct Http2KeepAlive {
        /// Pause between pings.
        interval: Option<Spanned<Duration>> = "interval",
        /// Wait for the answer.
        timeout: Option<Spanned<Duration>> = "timeout",
    }
}

object! {
    /// When an endpoint is taken out.
    pub struct OutlierDetection {
        /// Deprecated; the successor is `consecutive5xxErrors`.
        consecutive_errors: Option<Spanned<u32>> = "consecutiveErrors",
        /// Count local failures apart.
        split_external_local_origin_errors: Spanned<bool> = "splitExternalLocalOriginErrors",
        /// Local failures in a row; default 5, needs the split.
        consecutive_local_origin_failures: Option<Spanned<u32>> = "consecutiveLocalOriginFailures",
        /// 502, 503, 504 in a row; absent or zero: off.
        consecutive_gateway_errors: Option<Spanned<u32>> = "consecutiveGatewayErrors",
        /// Failures in a row; default 5, explicit zero: off.
        consecutive_5xx_errors: Option<Spanned<u32>> = "consecutive5xxErrors",
        /// Pause between sweeps; default 10 s.
        interval: Option<Spanned<Duration>> = "interval",
        /// First ejection, times the number of ejections; default 30 s.
        base_ejection_time: Option<Spanned<Duration>> = "baseEjectionTime",
        /// Share of endpoints that may be out; default 10.
        max_ejection_percent: Spanned<u32> = "maxEjectionPercent",
        /// Below this share of healthy endpoints detection is off; default 0.
        min_health_percent: Spanned<u32> = "minHealthPercent",
        /// Statuses that count as failures instead of 5xx.
        outlier_detection_http_error_codes: Vec<Spanned<u32>> = "outlierDetectionHttpErrorCodes",
    }
}

object! {
    /// TLS towards the upstream.
    pub struct ClientTlsSettings {
        /// How.
        mode: Spanned<ClientTlsMode> = "mode",
        /// File with the certificate chain (MUTUAL).
        client_certificate: Spanned<String> = "clientCertificate",
        /// File with the key (MUTUAL).
        private_key: Spanned<String> = "privateKey",
        /// File with the CAs; empty: the system's.
        ca_certificates: Spanned<String> = "caCertificates",
        /// A secret by name; excludes the files.
        credential_name: Spanned<String> = "credentialName",
        /// Names expected in the peer's certificate.
        subject_alt_names: Vec<Spanned<String>> = "subjectAltNames",
        /// Server name to send; empty: the request's host (HTTP only).
        sni: Spanned<String> = "sni",
        /// Verify nothing; excludes CA and names.
        insecure_skip_verify: Option<Spanned<bool>> = "insecureSkipVerify",
        /// File with revocations.
        ca_crl: Spanned<String> = "caCrl",
    }
}

names! {
    /// How TLS is used towards the upstream.
    pub enum ClientTlsMode {
        /// Plaintext.
        #[default]
        Disable = "DISABLE",
        /// TLS.
        Simple = "SIMPLE",
        /// TLS with a client certificate.
        Mutual = "MUTUAL",
        /// TLS with the mesh identity.
        IstioMutual = "ISTIO_MUTUAL",
    }
}

object! {
    /// TCP inside an HTTP tunnel.
    pub struct Tunnel {
        /// CONNECT or POST.
        protocol: Spanned<TunnelProtocol> = "protocol",
        /// Name or address at the far end.
        target_host: Spanned<HostPattern> = "targetHost" required,
        /// Port at the far end.
        target_port: Spanned<u16> = "targetPort" required,
    }
}

names! {
    /// The request that opens a tunnel.
    pub enum TunnelProtocol {
        /// The default.
        #[default]
        Connect = "CONNECT",
        /// POST.
        Post = "POST",
    }
}

object! {
    /// The header that announces the client's address.
    pub struct ProxyProtocol {
        /// Which form.
        version: Spanned<ProxyProtocolVersion> = "version",
    }
}

names! {
    /// Form of the PROXY protocol header.
    pub enum ProxyProtocolVersion {
        /// Text; the default.
        #[default]
        V1 = "V1",
        /// Binary.
        V2 = "V2",
    }
}

object! {
    /// Concurrent retries as a share of requests.
    pub struct RetryBudget {
        /// Default 20.
        percent: Option<Spanned<f64>> = "percent",
        /// Retries that are always allowed; default 3.
        min_retry_concurrency: Option<Spanned<u32>> = "minRetryConcurrency",
        /// Window over which requests are counted; zero: those in flight.
        budget_interval: Option<Spanned<Duration>> = "budgetInterval",
    }
}
