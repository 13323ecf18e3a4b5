//! Clusters: the pools of upstream endpoints that routes lead to.

mod balance;
mod endpoint;
mod health;
mod outlier;
mod pool;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use balance::{HashKey, HashPolicy, LbPolicy, LoadBalancer, Warmup};
pub use endpoint::{Endpoint, EndpointGroup};
pub use health::{HealthCheck, Probe};
pub use outlier::OutlierDetection;
pub use pool::{ConnectionPool, RetryBudget, TcpKeepalive, UNLIMITED, UpstreamHttp};
pub use tls::{
    ClientIdentity, Sni, TlsMode, TlsOrigination, TlsVersion, TrustAnchors, UpstreamTls,
    Verification,
};

use egressd_model::resource::Key;
use egressd_model::value::IpRange;

use crate::options::IpFamilies;

/// Name of the cluster that leads to the original destination (semantics.md §5).
pub const PASSTHROUGH: &str = "PassthroughCluster";
/// Name of the cluster without endpoints that unknown traffic ends in under REGISTRY_ONLY.
pub const BLACK_HOLE: &str = "BlackHoleCluster";
/// Name of the cluster that resolves the request's host under ALLOW_ANY_DYNAMIC_DNS.
pub const DYNAMIC_DNS: &str = "AllowAnyDynamicDNSCluster";

/// One pool of upstream endpoints and everything that governs a connection to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// `outbound|PORT|SUBSET|HOST`, or one of [`PASSTHROUGH`], [`BLACK_HOLE`] and [`DYNAMIC_DNS`].
    pub name: Arc<str>,
    /// What the cluster stands for.
    pub kind: ClusterKind,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// The endpoints, grouped by locality and priority; priority 0 first. Empty for
    /// [`Discovery::OriginalDst`] and [`Discovery::DynamicForwardProxy`].
    pub endpoints: Vec<EndpointGroup>,
    /// How an endpoint is chosen.
    pub load_balancer: LoadBalancer,
    /// Limit for one attempt to connect. Default 10 s (semantics.md §1.2).
    pub connect_timeout: Duration,
    /// Limits and timeouts of connections and requests.
    pub pool: ConnectionPool,
    /// When endpoints are taken out for misbehaving; off by default.
    pub outlier: Option<OutlierDetection>,
    /// Active probes, an extension of ours (seeds.md case 27); off by default.
    pub health_check: Option<HealthCheck>,
    /// Whether and how TLS is spoken to the endpoints.
    pub tls: UpstreamTls,
    /// The HTTP version spoken to the endpoints; of no effect for opaque bytes.
    pub http: UpstreamHttp,
    /// A CONNECT or POST request that opens the way to the real target; for opaque bytes only.
    pub tunnel: Option<Tunnel>,
    /// The PROXY protocol header sent before anything else.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `strict`, for NONE services: the address dialled must lie in one of these blocks, or be among
    /// those that the name resolves to which was asked for (Host, SNI, or the service's own host).
    /// Nothing: it is not checked.
    pub verify_destination: Option<Vec<IpRange>>,
    /// The DestinationRules that hold for it, the oldest first; several are one where they name the
    /// same host in one namespace.
    pub rules: Vec<Key>,
}

/// What a cluster stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// A port of a service, or a subset of it.
    Service(ClusterService),
    /// [`PASSTHROUGH`].
    Passthrough,
    /// [`BLACK_HOLE`].
    BlackHole,
    /// [`DYNAMIC_DNS`].
    DynamicDns,
}

/// The service behind a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterService {
    /// The host, as the ServiceEntry writes it.
    pub host: Arc<str>,
    /// The namespace of the ServiceEntry.
    pub namespace: Arc<str>,
    /// The service port.
    pub port: u16,
    /// The name of the service port.
    pub port_name: Arc<str>,
    /// The subset; empty for the whole service.
    pub subset: Arc<str>,
    /// `location: MESH_EXTERNAL`.
    pub external: bool,
}

/// Where the endpoints of a cluster come from (semantics.md §1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// They are listed: addresses and Unix sockets. Without any, nothing can be reached: `UH`.
    Static,
    /// Every address of every name is an endpoint.
    StrictDns(IpFamilies),
    /// The first address of the last answer, for new connections.
    LogicalDns(IpFamilies),
    /// The address the application dialled.
    OriginalDst {
        /// The port to go to instead of the one dialled.
        port: Option<u16>,
    },
    /// The name the request or the ClientHello asks for is resolved.
    DynamicForwardProxy {
        /// The port for TLS connections, where the name carries none.
        port: u16,
        /// Which records are asked for.
        families: IpFamilies,
    },
}

impl Discovery {
    /// The name Envoy has for it.
    pub fn envoy_type(self) -> &'static str {
        match self {
            Self::Static => "EDS",
            Self::StrictDns(_) => "STRICT_DNS",
            Self::LogicalDns(_) => "LOGICAL_DNS",
            Self::OriginalDst { .. } => "ORIGINAL_DST",
            Self::DynamicForwardProxy { .. } => "DYNAMIC_FORWARD_PROXY",
        }
    }
}

/// `tunnel` of a DestinationRule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The request is a POST instead of a CONNECT.
    pub post: bool,
    /// The host asked for.
    pub host: Arc<str>,
    /// The port asked for.
    pub port: u16,
}

/// `proxyProtocol` of a DestinationRule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

impl Cluster {
    /// Whether this is [`PASSTHROUGH`].
    pub fn is_passthrough(&self) -> bool {
        self.kind == ClusterKind::Passthrough
    }

    /// Whether this is [`BLACK_HOLE`].
    pub fn is_black_hole(&self) -> bool {
        self.kind == ClusterKind::BlackHole
    }

    /// The service, if the cluster stands for one.
    pub fn service(&self) -> Option<&ClusterService> {
        match &self.kind {
            ClusterKind::Service(service) => Some(service),
            ClusterKind::Passthrough | ClusterKind::BlackHole | ClusterKind::DynamicDns => None,
        }
    }
}

/// A route's way to a cluster, by name. The cluster may not exist: a route to an unknown service, to
/// a subset that selects nothing, or to a DNS service without endpoints answers `NC`.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterRef {
    /// The cluster exists.
    Known(Arc<Cluster>),
    /// It does not: HTTP 503, TCP closed, response flag `NC`.
    Missing(Arc<str>),
}

impl ClusterRef {
    /// The name, whether the cluster exists or not.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Known(cluster) => &cluster.name,
            Self::Missing(name) => name,
        }
    }

    /// The cluster, if it exists.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Known(cluster) => Some(cluster),
            Self::Missing(_) => None,
        }
    }
}

impl fmt::Display for ClusterRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
