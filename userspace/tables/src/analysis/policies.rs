//! DestinationRules about hosts and ports that are not there.

use std::collections::BTreeSet;

use egressd_model::resource::{DestinationRule, Resource};

use crate::analysis::destinations::{is_short, not_exported, short};
use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::{Entry, World, port_of};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for rule in world.subject.model.destination_rules() {
        let namespace = &*rule.meta.namespace;
        let found = world.find(rule.host.as_str(), namespace);
        let place = || Place::new(&rule.meta, "spec.host", rule.host.span);
        if is_short(&found) {
            short(&found, place(), findings);
        }
        let entries = world.governed(rule);
        let Some(first) = entries.first() else {
            findings.warn(
                "unknown-host",
                place(),
                format!("no ServiceEntry has the host {}: the rule does nothing", found.host),
                format!("add a ServiceEntry with the host {}", found.host),
            );
            continue;
        };
        if entries.iter().all(|one| !world.sees(namespace, one.entry)) {
            not_exported(first, namespace, place(), findings);
        }
        ports(rule, entries, findings);
    }
}

/// `portLevelSettings` for ports that no service has.
fn ports(rule: &Resource<DestinationRule>, entries: &[Entry<'_>], findings: &mut Findings) {
    let policies = rule.traffic_policy.iter().flat_map(|policy| &policy.port_level_settings);
    for (index, settings) in policies.enumerate() {
        let Some(port) = &settings.port else { continue };
        let number = port.number.value;
        if number == 0 || entries.iter().any(|one| port_of(one.entry, number).is_some()) {
            continue;
        }
        let known: BTreeSet<u16> = entries
            .iter()
            .flat_map(|one| one.entry.ports.iter().map(|port| port.number.value))
            .collect();
        let known: Vec<_> = known.iter().take(LISTED).map(u16::to_string).collect();
        let field = format!("spec.trafficPolicy.portLevelSettings[{index}].port.number");
        findings.warn(
            "unknown-port",
            Place::new(&rule.meta, field, port.number.span),
            format!("{} has no port {number}: these settings do nothing", rule.host),
            format!("the number is that of the ServiceEntry's port: {}", known.join(", ")),
        );
    }
}

/// How many ports a message lists.
const LISTED: usize = 10;
