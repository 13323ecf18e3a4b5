//! The services that a node sees, and the addresses each ServiceEntry gives them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use egressd_abi::OnDown;
use egressd_model::Model;
use egressd_model::resource::{MeshConfig, OnProxyDown, Resource, ServiceEntry};
use egressd_model::value::{HostPattern, IpRange};

use crate::compile::scope::Egress;
use crate::options::{Node, Options};
use crate::service::{Port, Service, ServiceId};
use crate::vip::VipAllocation;

/// All services that some egress listener sees.
pub(crate) struct Services<'m> {
    /// By host and namespace: the place is the [`ServiceId`].
    pub(crate) all: Vec<Service>,
    /// One list for each egress listener.
    pub(crate) seen: Vec<Seen<'m>>,
}

impl Services<'_> {
    /// One service.
    pub(crate) fn get(&self, id: ServiceId) -> Option<&Service> {
        self.all.get(usize::try_from(id.0).ok()?)
    }
}

/// What one egress listener sees.
pub(crate) struct Seen<'m> {
    /// Hosts of ServiceEntries, oldest entry first, then by host.
    pub(crate) views: Vec<View<'m>>,
    /// The service that owns a host: one namespace for each.
    pub(crate) by_host: HashMap<Arc<str>, ServiceId>,
}

/// One host of one ServiceEntry.
#[derive(Clone, Copy)]
pub(crate) struct View<'m> {
    pub(crate) service: ServiceId,
    pub(crate) host: &'m HostPattern,
    pub(crate) entry: &'m Resource<ServiceEntry>,
}

/// Collects the services.
pub(crate) fn collect<'m>(
    model: &'m Model,
    mesh: &MeshConfig,
    node: &Node,
    options: &Options,
    vips: &VipAllocation,
    egress: &[Egress<'m>],
) -> Services<'m> {
    let default = mesh.default_service_export_to();
    let exported: Vec<_> = model
        .service_entries()
        .iter()
        .map(|entry| &**entry)
        .filter(|entry| {
            entry.export_to.is_visible(&entry.meta.namespace, &node.namespace, &default)
        })
        .flat_map(hosts)
        .collect();
    let lists: Vec<Vec<_>> = egress.iter().map(|one| one.select(&exported, node)).collect();
    let mut places: BTreeMap<(&str, &str), Vec<&Resource<ServiceEntry>>> = BTreeMap::new();
    for (host, entry) in lists.iter().flatten() {
        let entries = places.entry((host.as_str(), &entry.meta.namespace)).or_default();
        if !entries.iter().any(|known| std::ptr::eq(*known, *entry)) {
            entries.push(entry);
        }
    }
    // A second listener may see older entries of a service than the first one did.
    for entries in places.values_mut() {
        entries.sort_by(|a, b| a.meta.cmp_age(&b.meta));
    }
    let ids: HashMap<_, _> = places.keys().copied().zip((0..).map(ServiceId)).collect();
    let seen = lists
        .into_iter()
        .map(|list| {
            let views: Vec<_> = list
                .into_iter()
                .filter_map(|(host, entry)| {
                    let service = *ids.get(&(host.as_str(), &*entry.meta.namespace))?;
                    Some(View { service, host, entry })
                })
                .collect();
            let by_host = views.iter().map(|view| (view.host.to_arc(), view.service)).collect();
            Seen { views, by_host }
        })
        .collect();
    let all = places
        .into_iter()
        .map(|((host, namespace), entries)| service(host, namespace, &entries, node, options, vips))
        .collect();
    Services { all, seen }
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
        let mut owners: HashMap<&str, &str> = HashMap::with_capacity(imported.len());
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

fn service(
    host: &str,
    namespace: &str,
    entries: &[&Resource<ServiceEntry>],
    node: &Node,
    options: &Options,
    vips: &VipAllocation,
) -> Service {
    let mut ports: Vec<Port> = Vec::new();
    for entry in entries {
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
    let written = entries.iter().flat_map(|entry| &entry.addresses).map(|range| range.masked());
    let addresses: Vec<IpRange> = written.filter(|range| known.insert(*range)).collect();
    let allocated = entries.iter().filter(|_| options.dns_capture).filter_map(|entry| {
        let vip = vips.get(&entry.meta.key(), host)?.of(node.families);
        vip.addresses().next().is_some().then_some(vip)
    });
    let oldest = entries.first();
    Service {
        host: Arc::from(host),
        namespace: Arc::from(namespace),
        entries: entries.iter().map(|entry| entry.meta.key()).collect(),
        location: oldest.map(|entry| entry.location.value).unwrap_or_default(),
        resolution: oldest.map(|entry| entry.resolution.value).unwrap_or_default(),
        ports,
        vips: allocated.collect(),
        addresses,
        on_down: entries.iter().map(|entry| on_down(entry)).reduce(strictest).unwrap_or_default(),
    }
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
