//! Which way connections take: through the proxy, or straight from the kernel to an endpoint
//! (design.md, "Two paths"); and why not straight.

use std::fmt;
use std::sync::Arc;

use egressd_model::resource::{Key, PathMode};
use egressd_model::value::EndpointAddress;

use crate::cluster::{Cluster, ClusterRef, Discovery, UpstreamTls};
use crate::service::Service;
use crate::tcp::TcpRoute;

/// Whether `auto` takes the direct path where it can.
const AUTO_IS_DIRECT: bool = false;
/// Clusters among which the kernel draws.
pub const MAX_DIRECT_CLUSTERS: usize = 8;
/// Priorities of endpoints that the kernel knows.
pub const MAX_DIRECT_PRIORITIES: usize = 8;

/// Which way the connections to a destination take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// The kernel chooses the endpoint inside connect().
    Direct(DirectRoute),
    /// The proxy carries them.
    Proxied(NotDirect),
    /// Nobody acts on them: datagrams that must not take the direct path, and have no other.
    LeftAlone(NotDirect),
}

/// Where the kernel sends connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectRoute {
    /// Clusters by name with their weights, drawn once a connection; from one to
    /// [`MAX_DIRECT_CLUSTERS`], and no weight is 0.
    pub clusters: Vec<(Arc<str>, u32)>,
}

/// Why connections do not take the direct path; the first reason that was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NotDirect {
    /// The annotation on this ServiceEntry says `proxy`.
    Annotated(Key),
    /// egressd.yaml says `path: proxy`.
    Configured,
    /// `auto` is the proxy's for the time being.
    Automatic,
    /// Requests are routed one by one.
    Requests,
    /// The server name in the first bytes decides.
    ServerName,
    /// `strict` compares the server name with the host.
    Strict,
    /// `strict` compares the address with those of the host.
    VerifiedDestination(Arc<str>),
    /// The outbound traffic policy decides.
    Policy,
    /// The application dials a socket of the proxy's.
    OwnSocket,
    /// The route leads to a cluster that does not exist.
    NoCluster(Arc<str>),
    /// More clusters than [`MAX_DIRECT_CLUSTERS`].
    ManyClusters(usize),
    /// Weighted clusters with timeouts of their own: which hold depends on the first one.
    MixedTimeouts,
    /// TLS is spoken to the endpoints.
    Tls(Arc<str>),
    /// Mesh TLS is spoken to some endpoint.
    MeshTls(Arc<str>),
    /// A PROXY header comes first.
    ProxyProtocol(Arc<str>),
    /// A request to another proxy comes first.
    Tunnel(Arc<str>),
    /// An endpoint is a Unix socket.
    UnixSocket(Arc<str>),
    /// The name that the application asks for is resolved.
    DynamicDns(Arc<str>),
    /// The destination is the endpoint, and not even the port is another.
    SameDestination(Arc<str>),
    /// The destination is the endpoint, and it is an allocated address, which leads nowhere.
    Allocated(Arc<str>),
    /// More priorities than [`MAX_DIRECT_PRIORITIES`].
    ManyPriorities(Arc<str>),
    /// No route that is decided by the destination alone leads to the cluster.
    NoRoute,
    /// There are as many direct routes or clusters as the kernel has room for.
    NoRoom,
    /// Datagrams are known by addresses, and the service has none.
    NoAddress,
}

/// Whether a mode asks for the direct path where it can be.
pub(crate) fn wants_direct(mode: PathMode) -> bool {
    match mode {
        PathMode::Auto => AUTO_IS_DIRECT,
        PathMode::Proxy => false,
        PathMode::Direct => true,
    }
}

impl Service {
    /// What its resources, or else the node, say about the path; why not direct, if they say so.
    pub(crate) fn wants_direct(&self, node: PathMode) -> Result<(), NotDirect> {
        let mode = self.path.as_ref().map_or(node, |(mode, _)| *mode);
        match (mode, &self.path) {
            _ if wants_direct(mode) => Ok(()),
            (PathMode::Proxy, Some((_, entry))) => Err(NotDirect::Annotated(entry.clone())),
            (PathMode::Proxy, None) => Err(NotDirect::Configured),
            (PathMode::Auto | PathMode::Direct, _) => Err(NotDirect::Automatic),
        }
    }
}

impl TcpRoute {
    /// The same route for the kernel. `allocated`: the destination is an address that leads nowhere
    /// by itself.
    pub(crate) fn direct(&self, allocated: bool) -> Result<DirectRoute, NotDirect> {
        let drawn = || self.clusters.iter().filter(|(_, weight)| *weight > 0);
        let many = drawn().count();
        if many == 0 {
            return Err(NotDirect::NoRoute);
        }
        let mut clusters = Vec::with_capacity(many);
        for (target, weight) in drawn() {
            let cluster = match target {
                ClusterRef::Known(cluster) => cluster,
                ClusterRef::Missing(name) => return Err(NotDirect::NoCluster(Arc::clone(name))),
            };
            if let Some(reason) = cluster.not_direct() {
                return Err(reason);
            }
            if allocated && matches!(cluster.discovery, Discovery::OriginalDst { .. }) {
                return Err(NotDirect::Allocated(Arc::clone(&cluster.name)));
            }
            let pool = &cluster.pool;
            if pool.tcp_idle_timeout != self.idle_timeout
                || pool.max_connection_duration != self.max_duration
            {
                return Err(NotDirect::MixedTimeouts);
            }
            clusters.push((Arc::clone(&cluster.name), *weight));
        }
        if many > MAX_DIRECT_CLUSTERS {
            return Err(NotDirect::ManyClusters(many));
        }
        if self.tunnel.is_some() {
            let (name, _) = clusters.swap_remove(0);
            return Err(NotDirect::Tunnel(name));
        }
        Ok(DirectRoute { clusters })
    }
}

impl Cluster {
    /// Why no connection may go to it straight, whatever the listener; nothing if one may.
    pub(crate) fn not_direct(&self) -> Option<NotDirect> {
        let name = || Arc::clone(&self.name);
        if self.service().is_none() {
            return Some(NotDirect::Policy);
        }
        match self.discovery {
            Discovery::Static | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => {}
            Discovery::OriginalDst { port: Some(_) } => {
                if self.verify_destination.is_some() {
                    return Some(NotDirect::VerifiedDestination(name()));
                }
            }
            Discovery::OriginalDst { port: None } => {
                return Some(NotDirect::SameDestination(name()));
            }
            Discovery::DynamicForwardProxy { .. } => return Some(NotDirect::DynamicDns(name())),
        }
        let endpoints = || self.endpoints.iter().flat_map(|group| &group.endpoints);
        match &self.tls {
            UpstreamTls::Originate(_) => return Some(NotDirect::Tls(name())),
            UpstreamTls::Auto(_) if endpoints().any(|endpoint| endpoint.mesh_tls) => {
                return Some(NotDirect::MeshTls(name()));
            }
            UpstreamTls::Auto(_) | UpstreamTls::Plaintext => {}
        }
        if self.proxy_protocol.is_some() {
            return Some(NotDirect::ProxyProtocol(name()));
        }
        if self.tunnel.is_some() {
            return Some(NotDirect::Tunnel(name()));
        }
        if endpoints().any(|endpoint| matches!(endpoint.address, EndpointAddress::Unix(_))) {
            return Some(NotDirect::UnixSocket(name()));
        }
        let mut priorities: Vec<_> = self.endpoints.iter().map(|group| group.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        (priorities.len() > MAX_DIRECT_PRIORITIES).then(|| NotDirect::ManyPriorities(name()))
    }
}

impl NotDirect {
    /// What would have to be otherwise, for somebody who wants the direct path.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Annotated(_) => "remove the annotation `egressd.io/path: proxy`",
            Self::Configured => "set `path: auto` in egressd.yaml",
            Self::Automatic => "set `path: direct`, or the annotation `egressd.io/path: direct`",
            Self::Requests => {
                "declare the port as TCP if its requests need no routing, or leave it to the proxy"
            }
            Self::ServerName => {
                "give the service an address of its own (`addresses` or `dns.allocateVips`) and \
                 no `sniHosts`"
            }
            Self::Strict | Self::VerifiedDestination(_) => {
                "set `strict: false`, or leave it to the proxy"
            }
            Self::Policy => "declare the destination in a ServiceEntry",
            Self::OwnSocket => "let the connections be captured instead",
            Self::NoCluster(_) => "declare the service, port or subset that the route names",
            Self::ManyClusters(_) => "split the traffic among at most 8 destinations",
            Self::MixedTimeouts => {
                "give all destinations of the route the same idleTimeout and \
                 maxConnectionDuration"
            }
            Self::Tls(_) => "let the application speak TLS itself, or leave it to the proxy",
            Self::MeshTls(_) => "leave it to the proxy, which speaks mesh TLS",
            Self::ProxyProtocol(_) => "remove `proxyProtocol`, or leave it to the proxy",
            Self::Tunnel(_) => "remove `tunnel`, or leave it to the proxy",
            Self::UnixSocket(_) => {
                "let the endpoint listen on an address, or leave it to the proxy"
            }
            Self::DynamicDns(_) => "use resolution STATIC, DNS or DNS_ROUND_ROBIN",
            Self::SameDestination(_) => {
                "set `targetPort`, or leave it to the proxy: there is nothing to choose"
            }
            Self::Allocated(_) => "use resolution STATIC or DNS, or write `addresses`",
            Self::ManyPriorities(_) => "use at most 8 priorities of localities",
            Self::NoRoute => "lead a TCP port's route to it",
            Self::NoRoom => "say `path: proxy` of services that need no speed",
            Self::NoAddress => {
                "give the service an address of its own (`addresses` or `dns.allocateVips`)"
            }
        }
    }

    /// The reason as one word in kebab-case, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Annotated(_) => "annotation",
            Self::Configured => "configuration",
            Self::Automatic => "auto",
            Self::Requests => "http",
            Self::ServerName => "server-name",
            Self::Strict | Self::VerifiedDestination(_) => "strict",
            Self::Policy => "policy",
            Self::OwnSocket => "own-socket",
            Self::NoCluster(_) => "no-cluster",
            Self::ManyClusters(_) => "many-clusters",
            Self::MixedTimeouts => "mixed-timeouts",
            Self::Tls(_) => "tls",
            Self::MeshTls(_) => "mesh-tls",
            Self::ProxyProtocol(_) => "proxy-protocol",
            Self::Tunnel(_) => "tunnel",
            Self::UnixSocket(_) => "unix-socket",
            Self::DynamicDns(_) => "dynamic-dns",
            Self::SameDestination(_) => "same-destination",
            Self::Allocated(_) => "allocated",
            Self::ManyPriorities(_) => "many-priorities",
            Self::NoRoute => "no-route",
            Self::NoRoom => "no-room",
            Self::NoAddress => "no-address",
        }
    }
}

impl fmt::Display for NotDirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Annotated(entry) => {
                write!(f, "the annotation egressd.io/path of ServiceEntry {entry} says proxy")
            }
            Self::Configured => f.write_str("egressd.yaml says `path: proxy`"),
            Self::Automatic => f.write_str("`path: auto` is the proxy's"),
            Self::Requests => f.write_str("its requests are routed one by one"),
            Self::ServerName => f.write_str("the server name in the first bytes decides"),
            Self::Strict => f.write_str("`strict` compares the server name with the host"),
            Self::VerifiedDestination(cluster) => {
                write!(f, "`strict` compares the address dialled with those of {cluster}")
            }
            Self::Policy => f.write_str("the outbound traffic policy decides"),
            Self::OwnSocket => f.write_str("the application dials a socket of the proxy"),
            Self::NoCluster(cluster) => write!(f, "{cluster} does not exist"),
            Self::ManyClusters(many) => {
                write!(f, "the route leads to {many} clusters, more than {MAX_DIRECT_CLUSTERS}")
            }
            Self::MixedTimeouts => {
                f.write_str("the clusters of the route differ in idleTimeout or duration")
            }
            Self::Tls(cluster) => write!(f, "TLS is spoken to the endpoints of {cluster}"),
            Self::MeshTls(cluster) => write!(f, "mesh TLS is spoken to endpoints of {cluster}"),
            Self::ProxyProtocol(cluster) => write!(f, "{cluster} wants a PROXY header"),
            Self::Tunnel(cluster) => write!(f, "{cluster} is reached by a tunnel"),
            Self::UnixSocket(cluster) => write!(f, "an endpoint of {cluster} is a Unix socket"),
            Self::DynamicDns(cluster) => {
                write!(f, "{cluster} resolves the name that the application asks for")
            }
            Self::SameDestination(cluster) => {
                write!(f, "{cluster} is the destination itself, unchanged")
            }
            Self::Allocated(cluster) => {
                write!(f, "{cluster} is the address dialled, which is allocated and leads nowhere")
            }
            Self::ManyPriorities(cluster) => {
                write!(f, "{cluster} has more than {MAX_DIRECT_PRIORITIES} priorities")
            }
            Self::NoRoute => f.write_str("no route that the destination alone decides leads to it"),
            Self::NoRoom => f.write_str("the kernel has no room for more direct routes"),
            Self::NoAddress => f.write_str("datagrams are known by address, and it has none"),
        }
    }
}
