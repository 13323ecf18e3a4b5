//! Where requests go: endpoints of clusters, original destinations, and names that requests ask for.

use std::{net::IpAddr, sync::Arc};

use egressd_tables as tables;
use egressd_tables::{Cluster, Discovery, IpFamilies, LbPolicy, UpstreamTls, strip_port};

use super::upstream::{NoEndpoint, Picked, Picker, Picking, Wish, bare_host};
use crate::{
    addrs::UpstreamAddr,
    cluster::{self, HostSet, Mesh, Observation, Registry},
    resolve::{Addresses, Resolver},
};

/// Chooses endpoints from the clusters at run time.
pub(crate) struct Places {
    /// The clusters, which outlive generations.
    pub(crate) clusters: Arc<Registry>,
    /// Resolves names.
    pub(crate) resolver: Arc<dyn Resolver>,
}

impl Picker for Places {
    fn observe(&self, cluster: &Arc<Cluster>, picked: &Picked, seen: Observation) {
        if cluster.outlier.is_some()
            && let Some(lease) = &picked.lease
        {
            self.clusters.get(cluster).observe(&picked.addr, lease.state(), seen);
        }
    }

    fn pick<'a>(&'a self, cluster: &'a Arc<Cluster>, wish: Wish<'a>) -> Picking<'a> {
        if cluster.is_black_hole() {
            return Picking::Now(Err(NoEndpoint::NoneHealthy));
        }
        match cluster.discovery {
            Discovery::Static | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => {
                self.endpoint(cluster, wish)
            }
            Discovery::OriginalDst { port } => self.original(cluster, wish, port),
            Discovery::DynamicForwardProxy { families, .. } => {
                self.asked_for(cluster, wish, families)
            }
        }
    }
}

impl Places {
    fn endpoint<'a>(&'a self, origin: &'a Arc<Cluster>, wish: Wish<'a>) -> Picking<'a> {
        let cluster = self.clusters.get(origin);
        if let Some(hosts) = cluster.known_hosts(&*self.resolver) {
            return Picking::Now(choose(origin, &cluster, &hosts, wish));
        }
        Picking::Later(Box::pin(async move {
            let hosts = cluster.hosts(&*self.resolver).await.map_err(|error| {
                tracing::debug!(%error, cluster = %origin.name, "no endpoint resolves");
                NoEndpoint::NoneHealthy
            })?;
            choose(origin, &cluster, &hosts, wish)
        }))
    }

    /// The original destination. `port` is gone to instead of the one that was dialled.
    fn original<'a>(
        &'a self,
        cluster: &'a Arc<Cluster>,
        wish: Wish<'a>,
        port: Option<u16>,
    ) -> Picking<'a> {
        let origin = wish.origin;
        if origin.explicit {
            return self.asked_for(cluster, wish, IpFamilies::Dual);
        }
        let dialled = origin.destination;
        match &origin.original {
            tables::Original::Dialled => {
                let picked = picked(dialled.with_port(port));
                match &cluster.verify_destination {
                    Some(blocks) if !blocks.iter().any(|one| one.contains(dialled.0.ip())) => {
                        self.verified(wish, dialled.0.ip(), picked)
                    }
                    Some(_) | None => Picking::Now(Ok(picked)),
                }
            }
            tables::Original::Resolve(host) => {
                let port = port.unwrap_or(dialled.0.port());
                self.named(host, port, IpFamilies::Dual, wish, false)
            }
            tables::Original::Nowhere => Picking::Now(Err(NoEndpoint::NoneHealthy)),
        }
    }

    /// What the request asks for, whatever was dialled.
    fn asked_for<'a>(
        &'a self,
        cluster: &Cluster,
        wish: Wish<'a>,
        families: IpFamilies,
    ) -> Picking<'a> {
        let by_default = match &cluster.tls {
            UpstreamTls::Originate(_) => 443,
            UpstreamTls::Plaintext | UpstreamTls::Auto(_) => 80,
        };
        let port = port_of(wish.authority).unwrap_or(by_default);
        match bare_host(wish.authority) {
            "" => Picking::Now(Err(NoEndpoint::Unresolved)),
            name => self.named(name, port, families, wish, true),
        }
    }

    /// An address of a name. `asked`: the request brings it, and it may be any.
    fn named<'a>(
        &'a self,
        name: &'a str,
        port: u16,
        families: IpFamilies,
        wish: Wish<'a>,
        asked: bool,
    ) -> Picking<'a> {
        let first_untried = move |addresses: Addresses| {
            let admitted = addresses.iter().filter(|ip| self.resolver.admits(**ip));
            let mut all = admitted.map(|ip| UpstreamAddr::Ip((*ip, port).into()));
            let untried = all.clone().find(|addr| !wish.tried.contains(addr));
            let none =
                if addresses.is_empty() { NoEndpoint::Unresolved } else { NoEndpoint::Local };
            untried.or_else(|| all.next()).map(picked).ok_or(none)
        };
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Picking::Now(first_untried(Arc::from([ip])));
        }
        if let Some(known) = self.resolver.cached(name, families) {
            return Picking::Now(first_untried(known));
        }
        Picking::Later(Box::pin(async move {
            let resolved = match asked {
                true => self.resolver.resolve_asked(name, families, wish.origin.asker).await,
                false => self.resolver.resolve(name, families).await,
            };
            first_untried(resolved.map_err(|error| {
                tracing::debug!(%error, "the name asked for does not resolve");
                if error.overload { NoEndpoint::DnsOverflow } else { NoEndpoint::Unresolved }
            })?)
        }))
    }

    /// `strict`: the destination must be one of those that the request's host resolves to.
    fn verified<'a>(&'a self, wish: Wish<'a>, dialled: IpAddr, picked: Picked) -> Picking<'a> {
        let name = bare_host(wish.authority);
        if name.parse::<IpAddr>().is_ok_and(|ip| ip == dialled) {
            return Picking::Now(Ok(picked));
        }
        Picking::Later(Box::pin(async move {
            let resolved = match self.resolver.cached(name, IpFamilies::Dual) {
                Some(known) => Ok(known),
                None => {
                    self.resolver.resolve_asked(name, IpFamilies::Dual, wish.origin.asker).await
                }
            };
            match resolved {
                Ok(addresses) if addresses.contains(&dialled) => Ok(picked),
                Ok(_) | Err(_) => Err(NoEndpoint::Foreign),
            }
        }))
    }
}

/// One of the endpoints: of those not tried before, as long as there are any and the route asks for
/// that.
fn choose(
    origin: &Cluster,
    cluster: &cluster::Cluster,
    hosts: &HostSet,
    wish: Wish<'_>,
) -> Result<Picked, NoEndpoint> {
    let hashing =
        matches!(origin.load_balancer.policy, LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. });
    let client = wish.origin.client.0.ip();
    let mut choice = cluster.choose(hosts, client).by_key(wish.hash.filter(|_| hashing));
    let first = choice.next().ok_or(NoEndpoint::NoneHealthy)?;
    let others = (0..wish.reselections).map_while(|_| choice.next());
    let mut untried = std::iter::once(first).chain(others);
    let host = untried.find(|host| !wish.tried.contains(&host.addr)).unwrap_or(first);
    let (addr, mesh) = (host.addr.clone(), host.mesh.clone());
    Ok(Picked { addr, mesh, lease: Some(host.state.lease()) })
}

fn picked(addr: UpstreamAddr) -> Picked {
    Picked { addr, mesh: Mesh::default(), lease: None }
}

fn port_of(authority: &str) -> Option<u16> {
    let host = strip_port(authority);
    authority.get(host.len()..)?.strip_prefix(':')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_authorities() {
        assert_eq!(port_of("a.example:8080"), Some(8080));
        assert_eq!(port_of("a.example"), None);
        assert_eq!(port_of("[::1]:81"), Some(81));
        assert_eq!(port_of("[::1]"), None);
        assert_eq!(port_of("a.example:"), None);
    }
}
