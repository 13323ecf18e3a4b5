//! Hosts that two resources claim: who has them, and why.

use std::collections::HashMap;

use egressd_model::resource::{DestinationRule, Meta, Resource, ServiceEntry, VirtualService};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::{Entry, World};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for entry in world.entries() {
        // Once for each host: by its oldest entry.
        let declared = world.declared(entry.host.as_str());
        let oldest = declared.first().is_some_and(|first| {
            std::ptr::eq(first.entry, entry.entry) && first.index == entry.index
        });
        if oldest && declared.len() > 1 {
            namespaces(world, declared, findings);
            resolutions(declared, findings);
        }
    }
    virtual_services(world, findings);
    destination_rules(world, findings);
}

/// Why of two resources the first goes before the second (semantics.md §9.3).
pub(super) fn why_older(winner: &Meta, loser: &Meta) -> &'static str {
    match (winner.creation, loser.creation) {
        (Some(a), Some(b)) if a != b => "it was created earlier",
        (None, Some(_)) => "without a creationTimestamp it counts as older",
        _ if winner.namespace != loser.namespace && winner.name != loser.name => {
            "it comes first by namespace and name"
        }
        _ if winner.namespace != loser.namespace => "its namespace comes first",
        _ if winner.name != loser.name => "its name comes first",
        _ => "its host is written first",
    }
}

/// The node's own namespace wins, else the oldest that it sees; there is no merge (semantics.md §1.5).
fn namespaces(world: &World<'_>, declared: &[Entry<'_>], findings: &mut Findings) {
    let node = &*world.subject.node.namespace;
    let seen: Vec<_> = declared.iter().filter(|one| world.sees(node, one.entry)).collect();
    let own = seen.iter().find(|one| *one.entry.meta.namespace == *node);
    let Some(winner) = own.or(seen.first()) else { return };
    let first = &winner.entry.meta;
    for loser in seen.iter().filter(|one| one.entry.meta.namespace != first.namespace) {
        let why = if *first.namespace == *node {
            "it is in this node's namespace"
        } else {
            why_older(first, &loser.entry.meta)
        };
        findings.warn(
            "duplicate-host",
            host_place(loser),
            format!("{} is ServiceEntry {}'s: {why}", loser.host, first.key()),
            "declare a host in one namespace, or export each to other namespaces".to_owned(),
        );
    }
}

/// Entries of one namespace are merged, and the oldest says how endpoints are found.
fn resolutions(declared: &[Entry<'_>], findings: &mut Findings) {
    let mut oldest: HashMap<&str, &Resource<ServiceEntry>> = HashMap::new();
    for one in declared {
        let first = *oldest.entry(&one.entry.meta.namespace).or_insert(one.entry);
        if first.resolution.value != one.entry.resolution.value {
            findings.warn(
                "resolution-of-oldest",
                Place::new(&one.entry.meta, "spec.resolution", one.entry.resolution.span),
                format!(
                    "{} is found by {}, as ServiceEntry {} says: {}",
                    one.host,
                    first.resolution.value.as_str(),
                    first.meta.key(),
                    why_older(&first.meta, &one.entry.meta)
                ),
                "give all entries of a host the same resolution".to_owned(),
            );
        }
    }
}

/// On the mesh a host has one VirtualService, the oldest; nothing is merged (semantics.md §3).
fn virtual_services(world: &World<'_>, findings: &mut Findings) {
    let mut owners: HashMap<&str, &Resource<VirtualService>> = HashMap::new();
    let exports = world.subject.mesh.default_virtual_service_export_to();
    let node = &*world.subject.node.namespace;
    for service in world.subject.model.virtual_services() {
        let visible = service.export_to.is_visible(&service.meta.namespace, node, &exports);
        if !visible || !service.applies_to_mesh() {
            continue;
        }
        for (index, host) in service.hosts.iter().enumerate() {
            let owner = *owners.entry(host.as_str()).or_insert(service);
            if std::ptr::eq(owner, &**service) {
                continue;
            }
            findings.warn(
                "host-taken",
                Place::new(&service.meta, format!("spec.hosts[{index}]"), host.span),
                format!(
                    "{} is VirtualService {}'s: {}; no rule written here acts on it",
                    host.value,
                    owner.meta.key(),
                    why_older(&owner.meta, &service.meta)
                ),
                "put all rules for a host in one VirtualService".to_owned(),
            );
        }
    }
}

/// Rules for one host are merged within a namespace: the oldest gives the policy (semantics.md §4).
fn destination_rules(world: &World<'_>, findings: &mut Findings) {
    let mut owners: HashMap<(&str, &str), Vec<&Resource<DestinationRule>>> = HashMap::new();
    for rule in world.subject.model.destination_rules() {
        let known = owners.entry((&rule.meta.namespace, rule.host.as_str())).or_default();
        let alike = known.iter().find(|other| {
            other.workload_selector == rule.workload_selector && other.export_to == rule.export_to
        });
        let Some(owner) = alike else {
            known.push(rule);
            continue;
        };
        if let Some(policy) = &rule.traffic_policy {
            findings.warn(
                "policy-ignored",
                Place::new(&rule.meta, "spec.trafficPolicy", policy.span),
                format!(
                    "the policy for {} is DestinationRule {}'s: {}; only subsets are added to it",
                    rule.host,
                    owner.meta.key(),
                    why_older(&owner.meta, &rule.meta)
                ),
                "put the policy for a host in one DestinationRule".to_owned(),
            );
        }
        for (index, subset) in rule.subsets.iter().enumerate() {
            if owner.subsets.iter().any(|other| other.name == subset.name) {
                findings.warn(
                    "subset-ignored",
                    Place::new(&rule.meta, format!("spec.subsets[{index}].name"), subset.name.span),
                    format!(
                        "DestinationRule {} has a subset {} already",
                        owner.meta.key(),
                        subset.name
                    ),
                    "rename one of them, or write it once".to_owned(),
                );
            }
        }
    }
}

fn host_place<'a>(entry: &Entry<'a>) -> Place<'a> {
    let span = entry.entry.hosts.get(entry.index).map(|host| host.span).unwrap_or_default();
    Place::new(&entry.entry.meta, format!("spec.hosts[{}]", entry.index), span)
}
