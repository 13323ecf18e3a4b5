//! Which rows of the kernel lead straight to endpoints: those of listeners that the destination alone
//! decides, to clusters that nothing has to be done for (design.md, "Two paths").

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use egressd_abi::{MAX_CLUSTERS, MAX_DIRECT_ROUTES, Row, RowVerdict};
use egressd_model::resource::PathMode;
use egressd_model::value::{IpRange, Protocol};

use crate::chain::{Chain, ChainAction};
use crate::cluster::Cluster;
use crate::compile::clusters;
use crate::decide::{Original, Sniffed};
use crate::fast::{FastMap, FastSet};
use crate::listener::{Listener, ListenerRules};
use crate::path::{DirectRoute, NotDirect, Path};
use crate::rows::KernelRows;
use crate::service::{Port, Service, ServiceId};
use crate::tables::Tables;

/// Listeners by what they are bound to, and what else decides the path.
#[derive(Clone, Copy)]
pub(crate) struct Paths<'a> {
    pub(crate) services: &'a [Arc<Service>],
    pub(crate) addresses: &'a FastMap<(IpAddr, u16), Arc<ListenerRules>>,
    pub(crate) wildcards: &'a FastMap<u16, Listener>,
    pub(crate) clusters: &'a clusters::ByName,
    pub(crate) vips: &'a FastMap<IpAddr, Original>,
    pub(crate) vip_ranges: &'a [IpRange],
    /// What holds for services that say nothing themselves.
    pub(crate) node: PathMode,
}

impl Paths<'_> {
    /// Turns the rows that may be direct into direct ones, and adds those of datagrams.
    pub(crate) fn assign(&self, rows: &mut KernelRows) {
        let wanted = |service: &Arc<Service>| service.wants_direct(self.node).is_ok();
        if !self.services.iter().any(wanted) {
            return;
        }
        let mut routes = Routes::default();
        for (key, row) in &mut rows.exact {
            if let Ok(route) = self.of_address(key.ip(), key.port()) {
                routes.turn(row, route);
            }
        }
        for ((bits, key), row) in &mut rows.prefixes {
            let block = IpRange::of(key.ip(), *bits);
            if key.port() != 0
                && let Some(block) = block.filter(|block| !self.vip_ranges.contains(block))
                && let Ok(route) = self.of_block(block, key.port())
            {
                routes.turn(row, route);
            }
        }
        for (port, row) in &mut rows.ports {
            if let Ok(route) = self.of_port(*port) {
                routes.turn(row, route);
            }
        }
        self.datagrams(rows, &mut routes);
        rows.direct = routes.all;
    }

    /// Connections to an address and port.
    pub(crate) fn of_address(&self, ip: IpAddr, port: u16) -> Result<DirectRoute, NotDirect> {
        let wildcard = || self.wildcards.get(&port).map(|listener| &listener.rules);
        let listener = self.addresses.get(&(ip, port)).or_else(wildcard);
        let listener = listener.ok_or(NotDirect::Policy)?;
        decided(listener)?;
        let (chain, _) = listener.select(ip, &Sniffed::Nothing);
        self.of_chain(chain, self.vips.contains_key(&ip))
    }

    /// Connections to a block and port that no listener of an address and no smaller block has.
    fn of_block(&self, block: IpRange, port: u16) -> Result<DirectRoute, NotDirect> {
        let listener = self.wildcards.get(&port).ok_or(NotDirect::Policy)?;
        decided(listener)?;
        self.of_chain(listener.select_block(block), false)
    }

    /// Connections to a port that nothing more specific has.
    fn of_port(&self, port: u16) -> Result<DirectRoute, NotDirect> {
        let listener = self.wildcards.get(&port).ok_or(NotDirect::Policy)?;
        decided(listener)?;
        self.of_chain(&listener.default_chain, false)
    }

    fn of_chain(&self, chain: &Chain, allocated: bool) -> Result<DirectRoute, NotDirect> {
        let owner = chain.service.filter(|_| !chain.catch_all).ok_or(NotDirect::Policy)?;
        let route = match &chain.action {
            _ if chain.expected.is_some() => return Err(NotDirect::Strict),
            ChainAction::Http(_) => return Err(NotDirect::Requests),
            ChainAction::Tcp(route) => route.direct(allocated)?,
        };
        // Last: what cannot be, whatever is asked for, is the better reason.
        self.service(owner).ok_or(NotDirect::Policy)?.wants_direct(self.node)?;
        Ok(route)
    }

    /// Rows for datagrams to the addresses of services (an extension: Istio builds nothing for them).
    fn datagrams(&self, rows: &mut KernelRows, routes: &mut Routes) {
        for (id, service) in (0..).map(ServiceId).zip(self.services) {
            for port in service.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
                let Ok(route) = self.of_datagrams(service, port) else { continue };
                let Some(index) = routes.index(route) else { continue };
                let row = Row::new_direct(id.0, index).on_down(service.on_down);
                for ip in service.vips.iter().flat_map(|vip| vip.addresses()) {
                    rows.udp.add(IpRange::single(ip), port.number, row.allocated());
                }
                for range in &service.addresses {
                    rows.udp.add(range.masked(), port.number, row);
                }
            }
        }
    }

    /// Datagrams to a port of a service.
    pub(crate) fn of_datagrams(
        &self,
        service: &Service,
        port: &Port,
    ) -> Result<DirectRoute, NotDirect> {
        service.wants_direct(self.node)?;
        if service.vips.is_empty() && service.addresses.is_empty() {
            return Err(NotDirect::NoAddress);
        }
        let name = clusters::name(port.number, "", &service.host);
        let Some(cluster) = self.clusters.get(&*name) else {
            return Err(NotDirect::NoCluster(Arc::from(name)));
        };
        if let Some(reason) = cluster.not_direct() {
            return Err(reason);
        }
        Ok(DirectRoute { clusters: vec![(Arc::clone(&cluster.name), 1)] })
    }

    fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(usize::try_from(id.0).ok()?)
    }
}

/// Whether the destination alone decides, whoever connects and whatever is said.
fn decided(listener: &ListenerRules) -> Result<(), NotDirect> {
    if listener.is_socket {
        return Err(NotDirect::OwnSocket);
    }
    if listener.reserved.is_some() {
        return Err(NotDirect::Policy);
    }
    if listener.sniff.is_nothing() {
        return Ok(());
    }
    let strict = listener.chains.iter().any(|chain| chain.expected.is_some());
    Err(match listener.sniff.http {
        true => NotDirect::Requests,
        false if strict => NotDirect::Strict,
        false => NotDirect::ServerName,
    })
}

/// The routes of a generation, each once.
#[derive(Default)]
struct Routes {
    all: Vec<DirectRoute>,
    known: BTreeMap<Vec<(Arc<str>, u32)>, u32>,
    clusters: FastSet<Arc<str>>,
}

impl Routes {
    /// The place of a route; nothing if the kernel has no room for one more.
    fn index(&mut self, route: DirectRoute) -> Option<u32> {
        if let Some(index) = self.known.get(&route.clusters) {
            return Some(*index);
        }
        let index =
            u32::try_from(self.all.len()).ok().filter(|index| *index < MAX_DIRECT_ROUTES)?;
        let room = usize::try_from(MAX_CLUSTERS).unwrap_or(usize::MAX);
        if self.clusters.len() + route.clusters.len() > room {
            return None;
        }
        self.clusters.extend(route.clusters.iter().map(|(name, _)| Arc::clone(name)));
        self.known.insert(route.clusters.clone(), index);
        self.all.push(route);
        Some(index)
    }

    /// Makes a row that leads to the proxy lead there straight.
    fn turn(&mut self, row: &mut Row, route: DirectRoute) {
        if row.verdict() == Some(RowVerdict::Proxy)
            && !row.is_policy()
            && let Some(index) = self.index(route)
        {
            let direct = Row::new_direct(row.service(), index);
            let direct = direct.on_down(row.when_down());
            *row = if row.is_allocated() { direct.allocated() } else { direct };
        }
    }
}

/// Which way the connections of each cluster and service port take. Made once for many questions.
#[derive(Debug)]
pub struct PathsTaken<'a> {
    tables: &'a Tables,
    direct: FastMap<&'a str, &'a DirectRoute>,
}

impl Tables {
    /// Which way connections to a destination take.
    pub fn path(&self, destination: SocketAddr) -> Path {
        let (_, row) = self.rows.find(destination);
        if row.verdict() == Some(RowVerdict::Direct)
            && let Some(route) = self.rows.route(&row)
        {
            return Path::Direct(route.clone());
        }
        let why = self.paths().of_address(destination.ip().to_canonical(), destination.port());
        Path::Proxied(why.err().unwrap_or(NotDirect::NoRoom))
    }

    /// Which way the connections of all clusters and ports take.
    pub fn paths_taken(&self) -> PathsTaken<'_> {
        let mut direct = FastMap::default();
        for route in &self.rows.direct {
            for (cluster, _) in &route.clusters {
                direct.entry(&**cluster).or_insert(route);
            }
        }
        PathsTaken { tables: self, direct }
    }

    /// What decides the paths of this generation.
    fn paths(&self) -> Paths<'_> {
        Paths {
            services: &self.services,
            addresses: &self.addresses,
            wildcards: &self.wildcards,
            clusters: &self.clusters,
            vips: &self.vips,
            vip_ranges: &self.vip_ranges,
            node: self.path,
        }
    }
}

impl PathsTaken<'_> {
    /// A cluster's. One that both paths lead to counts as direct.
    pub fn of_cluster(&self, cluster: &Cluster) -> Path {
        if let Some(route) = self.direct.get(&*cluster.name) {
            return Path::Direct(DirectRoute::clone(route));
        }
        if let Some(reason) = cluster.not_direct() {
            return Path::Proxied(reason);
        }
        let of = cluster.service();
        let service = of.and_then(|of| {
            let mut services = self.tables.services.iter();
            let service =
                services.find(|one| one.host == of.host && one.namespace == of.namespace)?;
            Some((service, service.port(of.port)?))
        });
        match service {
            Some((service, port)) => match self.of_port(service, port) {
                // Its own connections go elsewhere.
                Path::Direct(_) => Path::Proxied(NotDirect::NoRoute),
                other @ (Path::Proxied(_) | Path::LeftAlone(_)) => other,
            },
            None => Path::Proxied(NotDirect::NoRoute),
        }
    }

    /// A service port's: the first of its places that is not direct decides.
    pub fn of_port(&self, service: &Service, port: &Port) -> Path {
        let paths = self.tables.paths();
        if port.protocol == Protocol::Udp {
            return match paths.of_datagrams(service, port) {
                Ok(route) => Path::Direct(route),
                Err(reason) => Path::LeftAlone(reason),
            };
        }
        let addresses = service.ips().map(|ip| paths.of_address(ip.to_canonical(), port.number));
        let blocks = service.addresses.iter().filter(|range| !range.is_single());
        let blocks = blocks.map(|block| paths.of_block(block.masked(), port.number));
        let mut places = addresses.chain(blocks).peekable();
        let taken = match places.peek() {
            None => paths.of_port(port.number),
            Some(_) => places.reduce(Result::and).unwrap_or(Err(NotDirect::NoRoute)),
        };
        match taken {
            Ok(route) => Path::Direct(route),
            Err(reason) => Path::Proxied(reason),
        }
    }
}
