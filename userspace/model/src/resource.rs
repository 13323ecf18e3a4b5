//! The resources: one struct for each message of the API, fields named as in the API.
//!
//! A field that was not written holds its default. Fields that a finding of a later analysis may point at are
//! [`Spanned`](crate::Spanned). Rules are checked while a text is read, so a resource in a
//! [`Model`](crate::Model) obeys them; semantics.md §1–§6 is the source of each field's meaning.

mod destination_rule;
mod extension;
mod gateway;
mod load_balancer;
mod mesh;
mod meta;
mod pod;
mod service_entry;
mod sidecar;
mod telemetry;
mod traffic_policy;
mod virtual_service;
mod virtual_service_http;
mod workload_entry;

pub use destination_rule::{DestinationRule, MatchLabels, Subset};
pub use extension::{HealthCheck, HealthCheckHeader, HealthCheckHeaders};
pub use gateway::{
    Gateway, Server, ServerPort, ServerTlsMode, ServerTlsSettings, TlsCertificate,
    TlsProtocolVersion,
};
pub use load_balancer::{
    ConsistentHash, HashAlgorithm, HashKey, HttpCookie, HttpCookieAttribute, LoadBalancer,
    LocalityDistribute, LocalityFailover, LocalityLoadBalancer, Maglev, RingHash,
    SimpleLoadBalancer, Warmup, ZoneAwareLoadBalancer,
};
pub use mesh::{
    AccessLogEncoding, DefaultTrafficPolicy, MeshConfig, MeshOutboundTrafficPolicy, MeshPolicyMode,
    PathNormalization, ProxyConfig, ProxyPathNormalization,
};
pub use meta::{Key, Meta, OnProxyDown, PathMode, Resource};
pub use pod::Pod;
pub use service_entry::{
    AssignedAddress, Location, Resolution, ServiceEntry, ServicePort, WorkloadSelector,
};
pub use sidecar::{
    CaptureMode, EgressListener, IngressListener, OutboundTrafficPolicy, OutboundTrafficPolicyMode,
    Sidecar, SidecarPort,
};
pub use telemetry::{
    AccessLogging, AccessLoggingFilter, AccessLoggingMatch, AccessLoggingProvider, TargetReference,
    Telemetry, Unread, WorkloadMode,
};
pub use traffic_policy::{
    ClientTlsMode, ClientTlsSettings, ConnectionPool, H2UpgradePolicy, Http2KeepAlive,
    HttpConnectionPool, OutlierDetection, PortTrafficPolicy, ProxyProtocol, ProxyProtocolVersion,
    RetryBudget, TcpConnectionPool, TcpKeepalive, TrafficPolicy, Tunnel, TunnelProtocol,
};
pub use virtual_service::{
    Destination, L4Match, PortSelector, RouteDestination, TcpRoute, TlsMatch, TlsRoute,
    VirtualService,
};
pub use virtual_service_http::{
    CorsPolicy, Delegate, DirectResponse, DirectResponseBody, FaultAbort, FaultDelay,
    FaultInjection, HeaderOperations, Headers, HttpMatch, HttpRetry, HttpRoute,
    HttpRouteDestination, Mirror, Redirect, RedirectPort, RegexRewrite, Rewrite,
    UnmatchedPreflights,
};
pub use workload_entry::WorkloadEntry;
