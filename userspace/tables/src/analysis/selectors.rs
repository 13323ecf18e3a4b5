//! Selectors and subsets that select nothing.

use egressd_model::resource::{DestinationRule, Resolution, Resource, ServiceEntry, Subset};
use egressd_model::value::{Labels, selects};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::{Entry, World};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for entry in world.subject.model.service_entries() {
        workloads(world, entry, findings);
    }
    for rule in world.subject.model.destination_rules() {
        let services = world.governed(rule);
        if services.is_empty() {
            continue;
        }
        for (index, subset) in rule.subsets.iter().enumerate() {
            if !services.iter().any(|one| has_members(world, one.entry, subset)) {
                tell_subset(rule, index, subset.span, subset, services, findings);
            }
        }
    }
}

fn workloads(world: &World<'_>, entry: &Resource<ServiceEntry>, findings: &mut Findings) {
    let Some(selector) = &entry.workload_selector else { return };
    let resolution = entry.resolution.value;
    if resolution == Resolution::None {
        // Its own rules say that the selector has no effect.
        return;
    }
    let namespace = &*entry.meta.namespace;
    let selected = world.selected(namespace, &[&selector.labels], resolution);
    if selected.usable > 0 {
        return;
    }
    let message = if selected.all > 0 {
        "the selected WorkloadEntries have names and the selected Pods no address, which STATIC passes over"
            .to_owned()
    } else {
        format!(
            "no WorkloadEntry and no Pod of namespace {namespace} has {}",
            list(&selector.labels)
        )
    };
    findings.warn(
        "selector-selects-nothing",
        Place::new(&entry.meta, "spec.workloadSelector", selector.span),
        message,
        "correct the labels, or add a WorkloadEntry with them to this namespace".to_owned(),
    );
}

/// Whether a subset has an endpoint. NONE needs none, DYNAMIC_DNS has no subsets, and what a host name resolves
/// to has no labels (semantics.md §4).
fn has_members(world: &World<'_>, entry: &Resource<ServiceEntry>, subset: &Subset) -> bool {
    let resolution = entry.resolution.value;
    if matches!(resolution, Resolution::None | Resolution::DynamicDns) {
        return true;
    }
    let inline = entry.endpoints.iter().any(|endpoint| selects(&subset.labels, &endpoint.labels));
    let selected = entry.workload_selector.as_ref().is_some_and(|selector| {
        let labels = [&selector.labels, &subset.labels];
        world.selected(&entry.meta.namespace, &labels, resolution).usable > 0
    });
    let by_host = entry.endpoints.is_empty() && entry.workload_selector.is_none();
    inline || selected || (by_host && resolution.is_dns() && subset.labels.is_empty())
}

fn tell_subset(
    rule: &Resource<DestinationRule>,
    index: usize,
    span: egressd_model::Span,
    subset: &Subset,
    services: &[Entry<'_>],
    findings: &mut Findings,
) {
    let resolved = services.iter().all(|one| {
        let entry = one.entry;
        entry.endpoints.is_empty()
            && entry.workload_selector.is_none()
            && entry.resolution.value.is_dns()
    });
    let why = if resolved { ": addresses that a host resolves to have no labels" } else { "" };
    findings.warn(
        "subset-selects-nothing",
        Place::new(&rule.meta, format!("spec.subsets[{index}]"), span),
        format!(
            "no endpoint of {} has {}{why}; requests to subset {} fail",
            rule.host,
            list(&subset.labels),
            subset.name
        ),
        "correct the labels, or add an endpoint with them".to_owned(),
    );
}

fn list(labels: &Labels) -> String {
    let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("`{key}: {value}`")).collect();
    match pairs.as_slice() {
        [] => "any labels".to_owned(),
        [one] => format!("the label {one}"),
        _ => format!("the labels {}", pairs.join(", ")),
    }
}
