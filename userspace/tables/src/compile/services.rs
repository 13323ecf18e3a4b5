//! The services that a node sees, and the addresses each ServiceEntry gives them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use egressd_abi::OnDown;
use egressd_model::Model;
use egressd_model::resource::{Key, MeshConfig, OnProxyDown, PathMode, Resource, ServiceEntry};
use egressd_model::value::{HostPattern, IpRange};

use crate::compile::memo::{Id, KnownService, Memo};
use crate::compile::scope::Egress;
use crate::fast::{FastMap, head};
use crate::options::{Node, Options};
use crate::service::{Port, Service, ServiceId};
use crate::vip::{Vip, VipAllocation};

/// All services that some egress listener sees.
pub(crate) struct Services<'m> {
    pub(crate) directory: Directory,
    /// What each of them is made of, oldest first.
    pub(crate) parts: Vec<Vec<Part<'m>>>,
    /// One list for each egress listener.
    pub(crate) seen: Vec<Seen<'m>>,
}

/// Services by their place and by their hosts.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    /// By host and namespace: the place is the [`ServiceId`].
    pub(crate) all: Arc<Vec<Arc<Service>>>,
    /// The service that a host means: the first listener's choice.
    owners: Arc<FastMap<Arc<str>, ServiceId>>,
}

/// One host of one ServiceEntry.
pub(crate) type Part<'m> = (&'m HostPattern, &'m Resource<ServiceEntry>);

/// What one egress listener sees.
pub(crate) struct Seen<'m> {
    /// Hosts of ServiceEntries, oldest entry first, then by host.
    pub(crate) views: Vec<View<'m>>,
}

/// One host of one ServiceEntry, and its service.
#[derive(Clone, Copy)]
pub(crate) struct View<'m> {
    pub(crate) service: ServiceId,
    pub(crate) entry: &'m Resource<ServiceEntry>,
}

impl Directory {
    /// One service.
    pub(crate) fn get(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.all.get(usize::try_from(id.0).ok()?)
    }

    /// The service that a host means.
    pub(crate) fn owner(&self, host: &str) -> Option<ServiceId> {
        self.owners.get(host).copied()
    }

    /// Every service with its place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ServiceId, &Arc<Service>)> {
        (0..).map(ServiceId).zip(self.all.iter())
    }
}

/// What services are collected from.
pub(crate) struct Sources<'a, 'm> {
    pub(crate) model: &'m Model,
    pub(crate) mesh: &'a MeshConfig,
    pub(crate) node: &'a Node,
    pub(crate) options: &'a Options,
    pub(crate) vips: &'a VipAllocation,
    pub(crate) memo: &'a Memo,
}

/// Addresses given to hosts, by namespace and name of their entry.
type Given<'a> = FastMap<(&'a str, &'a str), &'a BTreeMap<Arc<str>, Vip>>;

/// Collects the services.
pub(crate) fn collect<'m>(sources: &Sources<'_, 'm>, egress: &[Egress<'m>]) -> Services<'m> {
    let default = sources.mesh.default_service_export_to();
    let node = sources.node;
    let visible = |entry: &&Resource<ServiceEntry>| {
        entry.export_to.is_visible(&entry.meta.namespace, &node.namespace, &default)
    };
    let entries = sources.model.service_entries().iter().map(|entry| &**entry);
    let exported: Vec<_> = entries.filter(visible).flat_map(hosts).collect();
    let lists: Vec<_> = egress.iter().map(|one| one.select(&exported, node)).collect();
    let mut places: FastMap<(&str, &str), usize> = FastMap::default();
    places.reserve(exported.len());
    let mut parts: Vec<Vec<Part<'m>>> = Vec::with_capacity(exported.len());
    let mut groups = Vec::with_capacity(lists.len());
    for list in &lists {
        let group = |(host, entry): &Part<'m>| {
            let place =
                *places.entry((host.as_str(), &*entry.meta.namespace)).or_insert_with(|| {
                    parts.push(Vec::with_capacity(1));
                    parts.len() - 1
                });
            let mine = parts.get_mut(place)?;
            if !mine.iter().any(|(_, known)| std::ptr::eq(*known, *entry)) {
                mine.push((host, entry));
            }
            Some(place)
        };
        groups.push(list.iter().filter_map(group).collect::<Vec<_>>());
    }
    // A second listener may see older entries of a service than the first one did.
    for mine in parts.iter_mut().filter(|mine| mine.len() > 1) {
        mine.sort_by(|(_, a), (_, b)| a.meta.cmp_age(&b.meta));
    }
    let places = places.into_iter();
    let mut order: Vec<_> =
        places.map(|((host, namespace), place)| (head(host), host, namespace, place)).collect();
    order.sort_unstable();
    let mut ids = vec![ServiceId(0); parts.len()];
    for (id, (_, _, _, place)) in (0..).zip(&order) {
        if let Some(slot) = ids.get_mut(*place) {
            *slot = ServiceId(id);
        }
    }
    let mut owners: FastMap<Arc<str>, ServiceId> = FastMap::default();
    owners.reserve(ids.len());
    let seen = lists.into_iter().zip(groups).map(|(list, groups)| {
        let id = |place: usize| ids.get(place).copied().unwrap_or(ServiceId(0));
        let of = |((_, entry), place): (&Part<'m>, &usize)| View { service: id(*place), entry };
        let views: Vec<_> = list.iter().zip(&groups).map(of).collect();
        for ((host, _), view) in list.iter().zip(&views) {
            owners.entry(host.to_arc()).or_insert(view.service);
        }
        Seen { views }
    });
    let seen = seen.collect();
    let given = given(sources);
    let parts: Vec<_> = order
        .iter()
        .filter_map(|(_, _, _, place)| parts.get_mut(*place).map(std::mem::take))
        .collect();
    let all = order
        .iter()
        .zip(&parts)
        .map(|((_, host, namespace, _), parts)| service(sources, &given, host, namespace, parts));
    let directory = Directory { all: Arc::new(all.collect()), owners: Arc::new(owners) };
    Services { directory, parts, seen }
}

/// The allocated addresses, if they are used.
fn given<'a>(sources: &Sources<'a, '_>) -> Given<'a> {
    let given = sources.vips.given.iter().filter(|_| sources.options.dns_capture);
    given.map(|(key, hosts)| ((&*key.namespace, &*key.name), hosts)).collect()
}

/// The hosts of an entry, each once, by name.
fn hosts(
    entry: &Resource<ServiceEntry>,
) -> impl Iterator<Item = (&HostPattern, &Resource<ServiceEntry>)> {
    let mut hosts: Vec<_> = entry.hosts.iter().map(|host| &host.value).collect();
    hosts.sort();
    hosts.dedup();
    hosts.into_iter().map(move |host| (host, entry))
}

impl<'m> Egress<'m> {
    /// The hosts it sees. One namespace owns a host: the node's own, else that of the oldest entry.
    fn select(
        &self,
        exported: &[(&'m HostPattern, &'m Resource<ServiceEntry>)],
        node: &Node,
    ) -> Vec<(&'m HostPattern, &'m Resource<ServiceEntry>)> {
        let imported: Vec<_> = exported
            .iter()
            .filter(|(host, entry)| self.imports(&entry.meta.namespace, host))
            .filter(|(_, entry)| self.wants_port(entry))
            .copied()
            .collect();
        let mut owners: FastMap<&str, &str> = FastMap::default();
        owners.reserve(imported.len());
        for (host, entry) in &imported {
            let namespace = &*entry.meta.namespace;
            let owner = owners.entry(host.as_str()).or_insert(namespace);
            if *namespace == *node.namespace {
                *owner = namespace;
            }
        }
        imported
            .into_iter()
            .filter(|(host, entry)| {
                owners.get(host.as_str()).is_some_and(|owner| **owner == *entry.meta.namespace)
            })
            .collect()
    }

    /// A listener with a port sees services that have this port; an explicit proxy sees all.
    fn wants_port(&self, entry: &ServiceEntry) -> bool {
        match &self.port {
            Some(port) if port.protocol != egressd_model::value::Protocol::HttpProxy => {
                entry.ports.iter().any(|known| known.number.value == port.number)
            }
            Some(_) | None => true,
        }
    }
}

/// The service of these parts: that of the compilation before, if nothing of it has changed.
fn service(
    sources: &Sources<'_, '_>,
    given: &Given<'_>,
    host: &str,
    namespace: &str,
    parts: &[Part<'_>],
) -> Arc<Service> {
    let vip = |(_, entry): &Part<'_>| {
        let hosts = given.get(&(&*entry.meta.namespace, &*entry.meta.name))?;
        let vip = hosts.get(host)?.of(sources.node.families);
        vip.addresses().next().is_some().then_some(vip)
    };
    let vips: Vec<_> = parts.iter().filter_map(vip).collect();
    let Some((first, _)) = parts.first() else {
        return Arc::new(build(host, namespace, parts, vips));
    };
    let holds = |known: &KnownService| {
        let ids = parts.iter().map(|(_, entry)| Id::of(*entry));
        known.service.vips == vips && ids.eq(known.entries.iter().copied())
    };
    if let Some(known) = sources.memo.services.get(&Id::of(*first), holds) {
        return known.service;
    }
    let service = Arc::new(build(host, namespace, parts, vips));
    let entries = parts.iter().map(|(_, entry)| Id::of(*entry)).collect();
    let known = KnownService { entries, service: Arc::clone(&service) };
    sources.memo.services.keep(Id::of(*first), known);
    service
}

fn build(host: &str, namespace: &str, parts: &[Part<'_>], vips: Vec<Vip>) -> Service {
    let entries = || parts.iter().map(|(_, entry)| *entry);
    let mut ports: Vec<Port> = Vec::new();
    for entry in entries() {
        for port in &entry.ports {
            if !ports.iter().any(|known| known.number == port.number.value) {
                ports.push(Port {
                    number: port.number.value,
                    name: Arc::from(port.name.as_str()),
                    protocol: port.protocol.value,
                    target: port.target_port.value,
                    entry: entry.meta.key(),
                });
            }
        }
    }
    let mut known = HashSet::new();
    let written = entries().flat_map(|entry| &entry.addresses).map(|range| range.masked());
    let addresses: Vec<IpRange> = written.filter(|range| known.insert(*range)).collect();
    let oldest = entries().next();
    Service {
        host: parts.first().map_or_else(|| Arc::from(host), |(host, _)| host.to_arc()),
        namespace: oldest.map_or_else(|| Arc::from(namespace), |e| Arc::clone(&e.meta.namespace)),
        entries: entries().map(|entry| entry.meta.key()).collect(),
        location: oldest.map(|entry| entry.location.value).unwrap_or_default(),
        resolution: oldest.map(|entry| entry.resolution.value).unwrap_or_default(),
        ports,
        vips,
        addresses,
        on_down: entries().map(on_down).reduce(strictest).unwrap_or_default(),
        path: path(entries()),
    }
}

/// What the entries of a service say about the path.
fn path<'a>(entries: impl Iterator<Item = &'a Resource<ServiceEntry>>) -> Option<(PathMode, Key)> {
    let said = entries.filter_map(|entry| Some((entry.meta.path_mode()?, entry.meta.key())));
    // Of equals the first, which is the oldest.
    said.min_by_key(|(mode, _)| *mode != PathMode::Proxy)
}

fn on_down(entry: &Resource<ServiceEntry>) -> OnDown {
    match entry.meta.on_proxy_down() {
        Some(OnProxyDown::Reject) => OnDown::Reject,
        Some(OnProxyDown::Passthrough) => OnDown::Passthrough,
        None => OnDown::Default,
    }
}

/// What holds for a row that two services share: reject wins, and passthrough needs both.
pub(crate) fn strictest(a: OnDown, b: OnDown) -> OnDown {
    match (a, b) {
        (OnDown::Reject, _) | (_, OnDown::Reject) => OnDown::Reject,
        (OnDown::Passthrough, OnDown::Passthrough) => OnDown::Passthrough,
        (OnDown::Default | OnDown::Passthrough, OnDown::Default | OnDown::Passthrough) => {
            OnDown::Default
        }
    }
}
