//! DestinationRule (semantics.md §4).

use std::collections::HashSet;

use crate::decode::{At, Cx};
use crate::resource::{DestinationRule, Meta};
use crate::validate::export_to::{self, Allowed};
use crate::validate::{domain, labels, route, traffic_policy};

/// Checks one rule.
pub(crate) fn destination_rule(rule: &DestinationRule, meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    if rule.host.is_written()
        && let Err(error) = domain::wildcard_name(rule.host.as_str())
    {
        cx.error(&at.field("host"), "invalid-host", error.to_string());
    }
    traffic_policy::traffic_policy(rule.traffic_policy.as_ref(), &at.field("trafficPolicy"), cx);
    let mut names = HashSet::new();
    for (index, subset) in rule.subsets.iter().enumerate() {
        let at = at.field("subsets");
        let at = at.index(index);
        if subset.name.is_written() {
            route::subset_name(&subset.name, &at.field("name"), cx);
        }
        if !names.insert(subset.name.value.as_str()) {
            let message = format!("another subset is named {:?}", subset.name.value);
            cx.error(&at.field("name"), "duplicate-value", message);
        }
        labels::labels(&subset.labels, &at.field("labels"), cx);
        traffic_policy::traffic_policy(
            subset.traffic_policy.as_ref(),
            &at.field("trafficPolicy"),
            cx,
        );
    }
    let allowed = match rule.workload_selector {
        Some(_) => Allowed::OwnOnly,
        None => Allowed::Namespaces,
    };
    export_to::export_to(&rule.export_to, &meta.namespace, allowed, &at.field("exportTo"), cx);
    labels::match_labels(rule.workload_selector.as_ref(), &at.field("workloadSelector"), cx);
}
