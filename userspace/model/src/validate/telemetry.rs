//! Telemetry: whom it concerns, and its access log.

use crate::decode::{At, Cx};
use crate::resource::{TargetReference, Telemetry};
use crate::validate::labels;

/// Kinds that settings may attach to, with their API groups.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

/// Checks one Telemetry.
pub(crate) fn telemetry(telemetry: &Telemetry, at: &At<'_>, cx: &mut Cx) {
    let ways = [
        telemetry.selector.is_some(),
        telemetry.target_ref.is_some(),
        !telemetry.target_refs.is_empty(),
    ];
    if ways.into_iter().filter(|set| *set).count() > 1 {
        let message = "only one of `selector`, `targetRef` and `targetRefs` may be set";
        cx.error(at, "conflicting-fields", message);
    }
    labels::match_labels(telemetry.selector.as_ref(), &at.field("selector"), cx);
    if let Some(target) = &telemetry.target_ref {
        self::target(target, &at.field("targetRef"), cx);
    }
    for (index, target) in telemetry.target_refs.iter().enumerate() {
        self::target(target, &at.field("targetRefs").index(index), cx);
    }
    for (index, logging) in telemetry.access_logging.iter().enumerate() {
        let at = at.field("accessLogging");
        let at = at.index(index);
        for (index, provider) in logging.providers.iter().enumerate() {
            if provider.name.is_written() && provider.name.is_empty() {
                let at = at.field("providers");
                let at = at.index(index);
                cx.error(&at.field("name"), "missing-field", "the name must not be empty");
            }
        }
    }
}

fn target(target: &TargetReference, at: &At<'_>, cx: &mut Cx) {
    if target.name.is_empty() {
        cx.lacking(&at.field("name"), "missing-field", "`name` is required");
    }
    if !target.namespace.is_empty() {
        cx.error(
            &at.field("namespace"),
            "unsupported-field",
            "a target is always in the own namespace",
        );
    }
    let group = if target.group.value == "core" { "" } else { target.group.as_str() };
    if !TARGETS.contains(&(group, target.kind.as_str())) {
        let message =
            format!("settings cannot attach to {} of {:?}", target.kind, target.group.value);
        cx.error(&at.field("kind"), "unknown-value", message)
            .help("a Service, a ServiceEntry, or a Gateway of gateway.networking.k8s.io");
    }
}
