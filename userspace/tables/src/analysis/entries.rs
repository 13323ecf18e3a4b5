//! ServiceEntries and WorkloadEntries that say less than they seem to.

use egressd_model::resource::{
    ClientTlsMode, ClientTlsSettings, DestinationRule, Resource, ServiceEntry, WorkloadEntry,
};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::World;

/// Labels that sound like a place, and set none.
const PLACES: [&str; 3] = ["region", "zone", "subzone"];
/// The label that does set a locality.
const LOCALITY_LABEL: &str = "istio-locality";

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for entry in world.subject.model.service_entries() {
        alt_names(world, entry, findings);
    }
    for workload in world.subject.model.workload_entries() {
        locality(workload, findings);
    }
    exhausted(world, findings);
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

/// Labels such as `region` without a locality. For endpoints of a ServiceEntry its own rules say so.
fn locality(workload: &Resource<WorkloadEntry>, findings: &mut Findings) {
    let has =
        |key: &str| workload.labels.contains_key(key) || workload.meta.labels.contains_key(key);
    let names: Vec<_> = PLACES.into_iter().filter(|key| has(key)).collect();
    if names.is_empty() || workload.locality.is_written() || has(LOCALITY_LABEL) {
        return;
    }
    findings.inform(
        "labels-set-no-locality",
        Place::new(&workload.meta, "spec.labels", workload.address.span),
        format!("labels ({}) set no locality", names.join(", ")),
        "write `locality: REGION/ZONE` beside them".to_owned(),
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
