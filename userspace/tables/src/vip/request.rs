//! Which hosts need a virtual address (semantics.md §2).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::{Key, Resolution, Resource, ServiceEntry};

use crate::vip::Vip;

/// What one ServiceEntry asks of the allocator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipRequest {
    /// The ServiceEntry.
    pub entry: Key,
    /// The hosts that need a pair, in the order written, each once.
    pub hosts: Vec<Arc<str>>,
    /// The single addresses it writes itself: nobody else gets these.
    pub written: Vec<IpAddr>,
    /// What its `status` says was given to its hosts before: kept if nobody else has it.
    pub assigned: BTreeMap<Arc<str>, Vip>,
}

/// The label that keeps a ServiceEntry out of allocation when its value is `false`.
pub const ALLOCATE_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// What all ServiceEntries ask, oldest first.
pub fn requests(model: &Model) -> Vec<VipRequest> {
    model.service_entries().iter().map(|entry| request(entry)).collect()
}

fn request(entry: &Resource<ServiceEntry>) -> VipRequest {
    let mut hosts: Vec<Arc<str>> = Vec::new();
    if qualifies(entry) {
        let dynamic = entry.resolution.value == Resolution::DynamicDns;
        for host in entry.hosts.iter().filter(|host| dynamic || !host.is_wildcard()) {
            if !hosts.iter().any(|known| **known == *host.as_str()) {
                hosts.push(host.to_arc());
            }
        }
    }
    let written = entry.addresses.iter().filter(|range| range.is_single());
    VipRequest {
        entry: entry.meta.key(),
        assigned: hosts.iter().filter_map(|host| assigned(entry, host)).collect(),
        hosts,
        written: written.map(|range| range.address()).collect(),
    }
}

/// Not NONE, no address of its own, not opted out.
fn qualifies(entry: &Resource<ServiceEntry>) -> bool {
    entry.resolution.value != Resolution::None
        && entry.addresses.is_empty()
        && entry.meta.labels.get(ALLOCATE_LABEL).is_none_or(|value| value != "false")
}

/// The pair that `status` has for a host; both families or nothing.
fn assigned(entry: &Resource<ServiceEntry>, host: &Arc<str>) -> Option<(Arc<str>, Vip)> {
    let mine = entry.assigned.iter().filter(|assigned| {
        assigned.host.as_ref().is_some_and(|written| *written.as_str() == **host)
    });
    let (mut v4, mut v6) = (None, None);
    for assigned in mine {
        match assigned.address {
            IpAddr::V4(address) => v4 = v4.or(Some(address)),
            IpAddr::V6(address) => v6 = v6.or(Some(address)),
        }
    }
    (v4.is_some() && v6.is_some()).then(|| (Arc::clone(host), Vip { v4, v6 }))
}
