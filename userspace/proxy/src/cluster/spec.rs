//! What the proxy needs to know of a cluster, out of everything the tables say.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use egressd_tables as tables;
use egressd_tables::{
    Discovery, IpFamilies, LbPolicy, OutlierDetection, ProxyProtocol, Tunnel, UpstreamTls, Warmup,
};

use crate::{
    addrs::{UnixName, UpstreamAddr},
    cluster::shares::gcd,
    socket::Keepalive,
};

/// A cluster as the tables describe it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterSpec {
    /// `outbound|PORT|SUBSET|HOST` or one of the fixed names.
    pub(crate) name: Arc<str>,
    /// The endpoints, those of the first priority first.
    pub(crate) endpoints: Vec<EndpointSpec>,
    /// How names become endpoints.
    pub(crate) lookup: Lookup,
    /// How an endpoint is chosen.
    pub(crate) balance: Balance,
    /// How the share of a new endpoint grows.
    pub(crate) warmup: Option<Warmup>,
    /// Limit for one attempt to connect.
    pub(crate) connect_timeout: Duration,
    /// Connections there may be at once.
    pub(crate) max_connections: u32,
    /// Probes on idle connections.
    pub(crate) keepalive: Option<Keepalive>,
    /// After which a connection is closed whatever happens on it; `None` for never.
    pub(crate) max_duration: Option<Duration>,
    /// Idle time after which a connection is closed; `None` for never.
    pub(crate) idle_timeout: Option<Duration>,
    /// When endpoints are taken out for misbehaving.
    pub(crate) outlier: Option<OutlierDetection>,
    /// Below this share of healthy endpoints, in percent, health is ignored.
    pub(crate) panic_threshold: f64,
    /// Whether and how TLS is spoken to the endpoints.
    pub(crate) tls: UpstreamTls,
    /// The header that says whose connection it is, before anything else.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// The request that opens the way through the endpoint to somewhere else.
    pub(crate) tunnel: Option<Tunnel>,
}

/// One endpoint, or several behind one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndpointSpec {
    /// Where it is.
    pub(crate) source: HostSource,
    /// 0 is used first.
    pub(crate) priority: u32,
    /// Share among those of its priority; at least 1.
    pub(crate) weight: u64,
    /// What it is in a mesh.
    pub(crate) mesh: Mesh,
}

/// What an endpoint is in a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Mesh {
    /// It announces that it speaks mesh TLS.
    pub(crate) tls: bool,
    /// The SPIFFE identity of its service account, if it has one.
    pub(crate) peer: Option<Arc<str>>,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostSource {
    /// At an address.
    Fixed(UpstreamAddr),
    /// At every address of a name, on a port.
    Name(Arc<str>, u16),
}

/// How names become endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Every address of the answer is one.
    Every(IpFamilies),
    /// The first address of the answer is one.
    First(IpFamilies),
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two drawn by weight.
    LeastRequest,
    /// Drawn by weight.
    Random,
    /// By the application's address, the same for the same address.
    SourceIp,
}

impl ClusterSpec {
    /// Reads a cluster of the tables.
    pub(crate) fn new(cluster: &tables::Cluster) -> Self {
        let pool = &cluster.pool;
        Self {
            name: Arc::clone(&cluster.name),
            endpoints: endpoints(cluster),
            lookup: Lookup::of(cluster.discovery),
            balance: Balance::of(cluster),
            warmup: cluster.load_balancer.warmup,
            connect_timeout: cluster.connect_timeout,
            max_connections: pool.max_connections,
            keepalive: pool.tcp_keepalive.map(|keepalive| Keepalive {
                time: keepalive.time,
                interval: keepalive.interval,
                probes: keepalive.probes,
            }),
            max_duration: pool.max_connection_duration,
            idle_timeout: pool.tcp_idle_timeout,
            outlier: cluster.outlier.clone(),
            panic_threshold: cluster.load_balancer.panic_threshold,
            tls: cluster.tls.clone(),
            proxy_protocol: cluster.proxy_protocol,
            tunnel: cluster.tunnel.clone(),
        }
    }

    /// Whether there are endpoints behind names, which may have addresses of either family.
    pub(crate) fn has_names_of_both_families(&self) -> bool {
        let is_name = |endpoint: &EndpointSpec| matches!(endpoint.source, HostSource::Name(..));
        self.lookup.families() == IpFamilies::Dual && self.endpoints.iter().any(is_name)
    }
}

impl Lookup {
    fn of(discovery: Discovery) -> Self {
        match discovery {
            Discovery::StrictDns(families) | Discovery::DynamicForwardProxy { families, .. } => {
                Self::Every(families)
            }
            Discovery::LogicalDns(families) => Self::First(families),
            Discovery::Static | Discovery::OriginalDst { .. } => Self::Every(IpFamilies::Dual),
        }
    }

    /// The records to ask for.
    pub(crate) fn families(self) -> IpFamilies {
        match self {
            Self::Every(families) | Self::First(families) => families,
        }
    }

    /// The addresses of an answer that are endpoints.
    pub(crate) fn used(self, addresses: &[IpAddr]) -> &[IpAddr] {
        match self {
            Self::Every(_) => addresses,
            Self::First(_) => &addresses[..addresses.len().min(1)],
        }
    }
}

impl Balance {
    /// Ring hash and Maglev come to the same here: what the application's address decides is
    /// decided by rendezvous hashing, which needs no table. A cluster that hashes something a byte
    /// stream does not have draws at random (semantics.md §4).
    fn of(cluster: &tables::Cluster) -> Self {
        let balancer = &cluster.load_balancer;
        match balancer.policy {
            LbPolicy::RoundRobin => Self::RoundRobin,
            LbPolicy::LeastRequest => Self::LeastRequest,
            LbPolicy::Random => Self::Random,
            LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } => {
                match balancer.hash.as_ref().map(|hash| &hash.key) {
                    Some(tables::HashKey::SourceIp) => Self::SourceIp,
                    Some(
                        tables::HashKey::Header(_)
                        | tables::HashKey::Cookie { .. }
                        | tables::HashKey::QueryParameter(_),
                    )
                    | None => Self::Random,
                }
            }
            LbPolicy::ClusterProvided => Self::RoundRobin,
        }
    }
}

fn endpoints(cluster: &tables::Cluster) -> Vec<EndpointSpec> {
    let mut all = Vec::new();
    for group in &cluster.endpoints {
        let sum: u64 = group.endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        for endpoint in &group.endpoints {
            let Some(source) = source(&endpoint.address.to_string(), endpoint.port) else {
                continue;
            };
            let mut weight = u64::from(endpoint.weight);
            if cluster.load_balancer.locality_weighted {
                // The group's share first, then the endpoint's within the group.
                weight = weight * u64::from(group.weight) * FINE / sum.max(1);
            }
            let mesh = Mesh { tls: endpoint.mesh_tls, peer: endpoint.service_account.clone() };
            all.push(EndpointSpec {
                source,
                priority: group.priority,
                weight: weight.max(1),
                mesh,
            });
        }
    }
    let common = all.iter().fold(0, |common, one| gcd(common, one.weight));
    for endpoint in &mut all {
        // Small numbers make turns exact over few connections.
        endpoint.weight /= common.max(1);
    }
    all
}

/// Reads an endpoint's address; nothing for one that has none (it is of another network).
fn source(address: &str, port: u16) -> Option<HostSource> {
    if address.is_empty() {
        return None;
    }
    if let Some(name) = address.strip_prefix("unix://") {
        return Some(HostSource::Fixed(UpstreamAddr::Unix(UnixName::new(name))));
    }
    Some(match address.parse::<IpAddr>() {
        Ok(ip) => HostSource::Fixed(UpstreamAddr::Ip(SocketAddr::new(ip, port))),
        Err(_not_an_address) => HostSource::Name(address.into(), port),
    })
}

/// Precision of the share of an endpoint in a weighted locality.
const FINE: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let fixed = |addr: UpstreamAddr| Some(HostSource::Fixed(addr));
        let ip = |text: &str| UpstreamAddr::Ip(text.parse().unwrap());
        assert_eq!(source("10.0.0.1", 80), fixed(ip("10.0.0.1:80")));
        assert_eq!(source("2001:db8::1", 80), fixed(ip("[2001:db8::1]:80")));
        assert_eq!(source("unix:///run/x", 0), fixed(UpstreamAddr::Unix(UnixName::new("/run/x"))));
        assert_eq!(source("unix://@x", 0), fixed(UpstreamAddr::Unix(UnixName::new("@x"))));
        assert_eq!(source("a.example", 81), Some(HostSource::Name("a.example".into(), 81)));
        assert_eq!(source("", 80), None);
    }
}
