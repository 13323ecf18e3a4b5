//! What has changed since the generation before, if it leaves everything in its place.

use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::{Resource, ServiceEntry, VirtualService};

use crate::compile::delegates;
use crate::compile::memo::{Id, same};
use crate::compile::revise::Before;

/// Resources before and after.
type Pairs<'a, T> = Vec<(&'a Resource<T>, &'a Resource<T>)>;

/// What has changed.
pub(super) struct Changes<'a> {
    pub(super) entries: Pairs<'a, ServiceEntry>,
    pub(super) rules: Pairs<'a, VirtualService>,
    /// WorkloadEntries or Pods are others than before.
    pub(super) workloads: bool,
}

/// More changed resources than this are better compiled as a whole.
const MANY: usize = 64;

impl<'a> Changes<'a> {
    /// Compares; nothing if hosts, ports, addresses or rules may be elsewhere.
    pub(super) fn find(before: &Before<'a>, model: &'a Model) -> Option<Self> {
        let old = before.model;
        let other = before.kept.revisable
            && same(old.destination_rules(), model.destination_rules())
            && same(old.sidecars(), model.sidecars())
            && same(old.gateways(), model.gateways());
        let entries = pairs(old.service_entries(), model.service_entries(), entry_stays)?;
        let rules = pairs(old.virtual_services(), model.virtual_services(), rule_stays)?;
        let workloads = !same(old.workload_entries(), model.workload_entries())
            || !same(old.pods(), model.pods());
        other.then_some(Self { entries, rules, workloads })
    }

    /// The VirtualServices that are no more, by their place in memory.
    pub(super) fn gone_rules(&self) -> Vec<Id> {
        self.rules.iter().map(|(old, _)| Id::of(*old)).collect()
    }
}

/// What differs between two lists, each against what stands in its place.
fn pairs<'a, T>(
    old: &'a [Arc<Resource<T>>],
    new: &'a [Arc<Resource<T>>],
    stays: fn(&T, &T) -> bool,
) -> Option<Pairs<'a, T>> {
    let mut pairs = Vec::new();
    for (a, b) in old.iter().zip(new).filter(|(a, b)| !Arc::ptr_eq(a, b)) {
        let meta = (&a.meta, &b.meta);
        let in_place = meta.0.namespace == meta.1.namespace
            && meta.0.name == meta.1.name
            && meta.0.creation == meta.1.creation
            && meta.0.on_proxy_down() == meta.1.on_proxy_down()
            && meta.0.path_mode() == meta.1.path_mode();
        if !in_place || !stays(&a.spec, &b.spec) || pairs.len() == MANY {
            return None;
        }
        pairs.push((&**a, &**b));
    }
    (old.len() == new.len()).then_some(pairs)
}

/// Endpoints and the names expected of them may differ.
fn entry_stays(a: &ServiceEntry, b: &ServiceEntry) -> bool {
    a.hosts == b.hosts
        && a.addresses == b.addresses
        && a.ports == b.ports
        && a.location == b.location
        && a.resolution == b.resolution
        && a.export_to == b.export_to
        && a.workload_selector.is_some() == b.workload_selector.is_some()
}

/// What http rules do may differ.
fn rule_stays(a: &VirtualService, b: &VirtualService) -> bool {
    let plain = |rule: &VirtualService| {
        !delegates::is_part(rule) && rule.tls.is_empty() && rule.tcp.is_empty()
    };
    a.hosts == b.hosts
        && a.gateways == b.gateways
        && a.export_to == b.export_to
        && plain(a)
        && plain(b)
}
