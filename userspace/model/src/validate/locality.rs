//! Locality settings: weights that sum to 100, localities that do not overlap, failover between regions.

use std::collections::{BTreeMap, HashSet};

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{
    LocalityDistribute, LocalityFailover, LocalityLoadBalancer, ZoneAwareLoadBalancer,
};

/// Labels of endpoints that stand for their locality.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// Checks `localityLbSetting`, of a policy or of the mesh.
pub(super) fn locality(
    setting: Option<&LocalityLoadBalancer>,
    outlier: bool,
    at: &At<'_>,
    cx: &mut Cx,
) {
    let Some(setting) = setting else { return };
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        let message = "only one of `distribute` and `failover` may be set";
        cx.error(&at.field("failover"), "conflicting-fields", message);
        return;
    }
    if !setting.failover.is_empty() {
        no_topology(&setting.failover_priority, "cannot be combined with `failover`", at, cx);
    }
    distribute(&setting.distribute, &at.field("distribute"), cx);
    failover(&setting.failover, &setting.failover_priority, outlier, at, cx);
}

/// Checks `zoneAwareLbSetting`, of a policy or of the mesh.
pub(super) fn zone_aware(
    setting: Option<&ZoneAwareLoadBalancer>,
    outlier: bool,
    at: &At<'_>,
    cx: &mut Cx,
) {
    let Some(setting) = setting else { return };
    no_topology(&setting.failover_priority, "is what the setting itself looks at", at, cx);
    failover(&setting.failover, &setting.failover_priority, outlier, at, cx);
}

fn no_topology(priority: &[Spanned<String>], why: &str, at: &At<'_>, cx: &mut Cx) {
    for (index, label) in priority.iter().enumerate() {
        let key = label.split_once('=').map_or(label.as_str(), |(key, _)| key);
        if TOPOLOGY.contains(&key) {
            cx.error(
                &at.field("failoverPriority").index(index),
                "conflicting-fields",
                format!("`{key}` {why}"),
            );
        }
    }
}

fn failover(
    failover: &[Spanned<LocalityFailover>],
    priority: &[Spanned<String>],
    outlier: bool,
    at: &At<'_>,
    cx: &mut Cx,
) {
    if (!failover.is_empty() || !priority.is_empty()) && !outlier {
        let message = "without `outlierDetection` no failure is noticed, and nothing fails over";
        cx.warning(at, "outlier-detection-needed", message)
            .help("add `outlierDetection: {}` to the policy");
    }
    for (index, step) in failover.iter().enumerate() {
        let at = at.field("failover");
        let at = at.index(index);
        if step.from.value == step.to.value {
            cx.error(&at.field("to"), "invalid-locality", "`from` and `to` must differ");
        }
        for (field, region) in [("from", &step.from), ("to", &step.to)] {
            if region.contains(['/', '*']) {
                let message = format!(
                    "{:?} is not a region: failover goes between whole regions",
                    region.value
                );
                cx.error(&at.field(field), "invalid-locality", message);
            }
        }
    }
}

fn distribute(distribute: &[Spanned<LocalityDistribute>], at: &At<'_>, cx: &mut Cx) {
    for (index, rule) in distribute.iter().enumerate() {
        let at = at.index(index);
        let at = at.field("to");
        let mut total = 0_u64;
        for (locality, weight) in &rule.to {
            total += u64::from(weight.value);
            if !(1..=100).contains(&weight.value) {
                let message = format!("{} is not a weight (1 to 100)", weight.value);
                cx.error(&at.key(locality), "out-of-range", message);
            }
        }
        if total != 100 {
            cx.error(&at, "weights-not-100", format!("the weights sum to {total}, not to 100"));
        }
        if let Err(message) = overlap(rule.to.keys().map(String::as_str)) {
            cx.error(&at, "invalid-locality", message);
        }
    }
    if let Err(message) = overlap(distribute.iter().map(|rule| rule.from.value.as_str())) {
        cx.error(at, "invalid-locality", message);
    }
}

/// What is wrong with a list of localities: a misplaced wildcard, an empty part, or two that share an endpoint.
pub(super) fn overlap<'a>(localities: impl Iterator<Item = &'a str>) -> Result<(), String> {
    // Region to zone to subzones; `*` where all are taken.
    let mut taken: BTreeMap<&str, BTreeMap<&str, HashSet<&str>>> = BTreeMap::new();
    for locality in localities {
        let stars = locality.matches('*').count();
        if stars > 1 || (stars == 1 && !locality.ends_with('*')) {
            return Err(format!("{locality:?}: a wildcard may only be the last part"));
        }
        let parts: Vec<&str> = locality.splitn(3, '/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(format!("{locality:?}: a part is empty"));
        }
        let part = |index: usize| parts.get(index).copied().unwrap_or("*");
        let (region, zone, subzone) = (part(0), part(1), part(2));
        let again = || Err(format!("{locality:?} overlaps with another locality of the list"));
        if taken.contains_key("*") || (region == "*" && !taken.is_empty()) {
            return again();
        }
        let zones = taken.entry(region).or_default();
        if zones.contains_key("*") || (zone == "*" && !zones.is_empty()) {
            return again();
        }
        let subzones = zones.entry(zone).or_default();
        if subzones.contains("*")
            || (subzone == "*" && !subzones.is_empty())
            || !subzones.insert(subzone)
        {
            return again();
        }
    }
    Ok(())
}
