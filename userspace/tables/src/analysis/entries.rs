//! ServiceEntries that say less, or something else, than they seem to.

use std::collections::BTreeSet;

use egressd_model::resource::{
    ClientTlsMode, ClientTlsSettings, DestinationRule, Resource, ServiceEntry, WorkloadEntry,
};
use egressd_model::value::Labels;

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::World;

/// Labels that sound like a place, and set none: the field `locality` and the label `istio-locality` do.
const PLACES: [&str; 10] = [
    "region",
    "zone",
    "subzone",
    "locality",
    "priority",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];
/// The label that does set a locality.
const LOCALITY_LABEL: &str = "istio-locality";

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for entry in world.subject.model.service_entries() {
        resolution(entry, findings);
        alt_names(world, entry, findings);
        localities(world, entry, findings);
    }
    for workload in world.subject.model.workload_entries() {
        let keys: BTreeSet<_> = place_labels(workload, Some(&workload.meta.labels)).collect();
        if !keys.is_empty() {
            let place = Place::new(&workload.meta, "spec.labels", workload.address.span);
            tell_place(findings, place, &keys, 1);
        }
    }
    exhausted(world, findings);
}

fn resolution(entry: &Resource<ServiceEntry>, findings: &mut Findings) {
    if !entry.resolution.is_written() {
        findings.inform(
            "resolution-absent",
            Place::new(&entry.meta, "spec.resolution", entry.resolution.span),
            "`resolution` is absent, which means NONE: connections go to the address that was dialled"
                .to_owned(),
            "write `resolution: DNS` to have the hosts resolved, or `resolution: NONE` if this is meant"
                .to_owned(),
        );
    }
}

/// `subjectAltNames` that no `tls` block ever looks at (semantics.md §1.1).
fn alt_names(world: &World<'_>, entry: &Resource<ServiceEntry>, findings: &mut Findings) {
    let Some(first) = entry.subject_alt_names.first() else { return };
    let mut rules = entry.hosts.iter().flat_map(|host| world.rules_over(host.as_str()));
    if rules.any(|rule| originates_tls(rule)) {
        return;
    }
    let hosts: Vec<_> = entry.hosts.iter().map(|host| host.as_str()).collect();
    findings.inform(
        "subject-alt-names-without-tls",
        Place::new(&entry.meta, "spec.subjectAltNames", first.span),
        "`subjectAltNames` verify nothing: no DestinationRule has a `tls` block for these hosts"
            .to_owned(),
        format!(
            "add a DestinationRule for {} with `trafficPolicy.tls.mode: SIMPLE`, or remove the names",
            hosts.join(", ")
        ),
    );
}

fn originates_tls(rule: &DestinationRule) -> bool {
    let is_on = |tls: &ClientTlsSettings| tls.mode.value != ClientTlsMode::Disable;
    let policies = rule
        .subsets
        .iter()
        .filter_map(|subset| subset.traffic_policy.as_ref())
        .chain(&rule.traffic_policy);
    policies.into_iter().any(|policy| {
        let ports = policy.port_level_settings.iter().filter_map(|port| port.tls.as_ref());
        ports.chain(&policy.tls).any(|tls| is_on(tls))
    })
}

/// Labels such as `region` on endpoints without a locality, unless subsets are chosen by them.
fn localities(world: &World<'_>, entry: &Resource<ServiceEntry>, findings: &mut Findings) {
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    let mut guilty = Vec::new();
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let mut own = place_labels(endpoint, None).peekable();
        if own.peek().is_some() {
            guilty.push((index, endpoint));
            keys.extend(own);
        }
    }
    if guilty.is_empty() {
        return;
    }
    let rules = entry.hosts.iter().flat_map(|host| world.rules_over(host.as_str()));
    for label in rules.flat_map(|rule| &rule.subsets).flat_map(|subset| subset.labels.keys()) {
        keys.remove(label.as_str());
    }
    let Some((index, endpoint)) = guilty.first().filter(|_| !keys.is_empty()) else { return };
    let field = format!("spec.endpoints[{index}].labels");
    tell_place(findings, Place::new(&entry.meta, field, endpoint.span), &keys, guilty.len());
}

fn place_labels<'a>(
    endpoint: &'a WorkloadEntry,
    own: Option<&'a Labels>,
) -> impl Iterator<Item = &'static str> {
    let has = move |key: &str| {
        endpoint.labels.contains_key(key) || own.is_some_and(|l| l.contains_key(key))
    };
    let placed = endpoint.locality.is_written() || has(LOCALITY_LABEL);
    PLACES.into_iter().filter(move |key| !placed && has(key))
}

fn tell_place(findings: &mut Findings, place: Place<'_>, keys: &BTreeSet<&str>, endpoints: usize) {
    let names: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    let (labels, set) = if names.len() == 1 { ("label", "sets") } else { ("labels", "set") };
    let of = if endpoints == 1 { String::new() } else { format!(" of {endpoints} endpoints") };
    findings.inform(
        "label-is-not-locality",
        place,
        format!("the {labels} {}{of} {set} no locality", names.join(", ")),
        "write `locality: REGION/ZONE/SUBZONE` at the endpoint; labels serve subsets only"
            .to_owned(),
    );
}

fn exhausted(world: &World<'_>, findings: &mut Findings) {
    let model = world.subject.model;
    for left_out in world.subject.exhausted {
        let entry = model.service_entries().iter().find(|entry| entry.meta.key() == left_out.entry);
        let Some(entry) = entry else { continue };
        let at = entry.hosts.iter().enumerate().find(|(_, host)| *host.as_str() == *left_out.host);
        let Some((index, host)) = at else { continue };
        findings.warn(
            "vip-range-exhausted",
            Place::new(&entry.meta, format!("spec.hosts[{index}]"), host.span),
            format!("no virtual address is left in {} for {}", left_out.range, left_out.host),
            "the host resolves upstream; write `addresses`, or remove hosts that are not needed"
                .to_owned(),
        );
    }
}
