//! The VirtualServices that act on the node, and which of them owns a host (semantics.md §3).

use std::borrow::Cow;

use egressd_model::Model;
use egressd_model::resource::{HttpRoute, Key, MeshConfig, Resource, VirtualService};
use egressd_model::value::{ExportTarget, HostPattern};

use crate::compile::delegates::Delegates;
use crate::compile::scope::Egress;
use crate::compile::short_names::ShortNames;
use crate::fast::FastMap;
use crate::host_map::{HostMap, lower_case};
use crate::options::Node;
use crate::overlap::OverlapIndex;

/// One VirtualService with its delegates in place and its hosts in full.
pub(crate) struct Rule<'m> {
    pub(crate) resource: &'m Resource<VirtualService>,
    pub(crate) hosts: Vec<HostPattern>,
    pub(crate) http: Vec<Cow<'m, HttpRoute>>,
}

/// The rules that one egress listener sees, in the order of their precedence.
pub(crate) struct Rules<'m> {
    pub(crate) all: Vec<Rule<'m>>,
    /// The first rule for each host; wildcards included.
    owners: HostMap<usize>,
    /// All rules for a host that is no wildcard, by its lower-case name.
    named: FastMap<String, Vec<usize>>,
    /// The rules with a wildcard among their hosts.
    wide: Vec<usize>,
    /// The rules that act on opaque bytes and TLS, by their hosts.
    opaque: OverlapIndex<usize>,
}

/// Collects the rules for the gateway `mesh`: first those that only the node's namespace sees, then
/// those exported to it by name, then the public ones, each oldest first.
pub(crate) fn collect<'m>(
    model: &'m Model,
    mesh: &MeshConfig,
    node: &Node,
    names: &ShortNames,
    egress: &Egress<'_>,
) -> Rules<'m> {
    let default = mesh.default_virtual_service_export_to();
    let delegates = Delegates::new(model.virtual_services());
    let mut found: Vec<(Reach, Rule<'m>)> = Vec::new();
    for resource in model.virtual_services() {
        if resource.hosts.is_empty() || !resource.applies_to_mesh() {
            continue;
        }
        let Some(reach) = reach(resource, node, &default) else { continue };
        let rule = Rule::new(resource, names, &delegates, &default);
        if egress.imports_rule(&resource.meta.namespace, rule.hosts.iter()) {
            found.push((reach, rule));
        }
    }
    found.sort_by_key(|(reach, _)| *reach);
    Rules::new(found.into_iter().map(|(_, rule)| rule).collect())
}

/// How far a resource is exported, seen from the node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Own,
    Named,
    Public,
}

fn reach(
    resource: &Resource<VirtualService>,
    node: &Node,
    default: &[ExportTarget],
) -> Option<Reach> {
    let own: &str = &resource.meta.namespace;
    let written: Vec<_> = resource.export_to.0.iter().map(|target| &target.value).collect();
    let targets: Vec<_> = if written.is_empty() { default.iter().collect() } else { written };
    if targets.is_empty() || targets.contains(&&ExportTarget::Public) {
        return Some(Reach::Public);
    }
    let reach = |target: &&ExportTarget| match target {
        ExportTarget::Own if own == node.namespace => Some(Reach::Own),
        ExportTarget::Namespace(name) if *name == node.namespace => {
            Some(if name == own { Reach::Own } else { Reach::Named })
        }
        ExportTarget::Own
        | ExportTarget::Namespace(_)
        | ExportTarget::Nobody
        | ExportTarget::Public => None,
    };
    targets.iter().filter_map(reach).min()
}

impl<'m> Rule<'m> {
    /// A rule with its hosts in full and its delegates in place.
    pub(crate) fn new(
        resource: &'m Resource<VirtualService>,
        names: &ShortNames,
        delegates: &Delegates<'m>,
        default: &[ExportTarget],
    ) -> Self {
        let resolve = |host: &HostPattern| names.resolve(host, &resource.meta.namespace);
        Self {
            resource,
            hosts: resource.hosts.iter().map(|host| resolve(host)).collect(),
            http: delegates.expand(resource, default),
        }
    }

    /// What connections and requests name it by.
    pub(crate) fn key(&self) -> Key {
        self.resource.meta.key()
    }
}

impl<'m> Rules<'m> {
    fn new(all: Vec<Rule<'m>>) -> Self {
        let (mut owners, mut opaque) = (HostMap::default(), OverlapIndex::default());
        let (mut named, mut wide) = (FastMap::<_, Vec<_>>::default(), Vec::new());
        for (place, rule) in all.iter().enumerate() {
            for host in &rule.hosts {
                owners.insert(host.as_str(), place);
                if !(rule.resource.tls.is_empty() && rule.resource.tcp.is_empty()) {
                    opaque.insert(host, place);
                }
                if !host.is_wildcard() {
                    let name = lower_case(host.as_str()).into_owned();
                    named.entry(name).or_default().push(place);
                }
            }
            if rule.hosts.iter().any(HostPattern::is_wildcard) {
                wide.push(place);
            }
        }
        Self { all, owners, named, wide, opaque }
    }

    /// Whether some rule acts on opaque bytes or TLS.
    pub(crate) fn has_opaque(&self) -> bool {
        !self.opaque.is_empty()
    }

    /// Whether some rule has a wildcard among its hosts.
    pub(crate) fn has_wildcards(&self) -> bool {
        !self.wide.is_empty()
    }

    /// The rules that may act on some of these hosts, in order, and their places.
    pub(crate) fn candidates<'h>(
        &self,
        hosts: impl Iterator<Item = &'h str>,
    ) -> Vec<(usize, &Rule<'m>)> {
        let named = hosts.filter_map(|host| self.named.get(&*lower_case(host))).flatten();
        let mut places: Vec<_> = named.chain(&self.wide).copied().collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| Some((place, self.all.get(place)?))).collect()
    }

    /// Whether some rule acts on opaque bytes or TLS of a host.
    pub(crate) fn is_opaque(&self, host: &str) -> bool {
        !self.opaque.is_empty() && self.opaque.overlaps(&HostPattern::new(host))
    }

    /// The rule that owns a host: the most specific host, then the first in order.
    pub(crate) fn owner(&self, host: &str) -> Option<usize> {
        self.owners.find_covering(host).copied()
    }

    /// All rules one of whose hosts overlaps with this one, in order: those that act on opaque
    /// bytes and on TLS.
    pub(crate) fn overlapping(&self, host: &HostPattern) -> impl Iterator<Item = &Rule<'m>> {
        self.opaque.overlapping(host).into_iter().filter_map(|place| self.all.get(place))
    }
}
