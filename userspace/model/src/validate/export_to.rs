//! `exportTo`: no entry twice, and nothing beside the signs that stand alone.

use std::collections::HashSet;

use crate::decode::{At, Cx};
use crate::validate::domain::is_dns_label;
use crate::value::{ExportTarget, ExportTo};

/// What a kind's list may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Namespaces, `.` and `*`.
    Namespaces,
    /// Also `~`: ServiceEntry.
    OrNobody,
    /// Only the own namespace: DestinationRule with a workloadSelector.
    OwnOnly,
}

/// Checks a list; `own` is the resource's namespace.
pub(super) fn export_to(list: &ExportTo, own: &str, allowed: Allowed, at: &At<'_>, cx: &mut Cx) {
    let mut seen = HashSet::new();
    for (index, target) in list.0.iter().enumerate() {
        let at = at.index(index);
        let namespace = match &target.value {
            ExportTarget::Own => own.to_owned(),
            ExportTarget::Namespace(namespace) => namespace.clone(),
            ExportTarget::Public | ExportTarget::Nobody => target.to_string(),
        };
        if !seen.insert(namespace) {
            let message = match target.value {
                ExportTarget::Own => {
                    format!("`.` stands for {own:?}, which is already in the list")
                }
                ExportTarget::Public | ExportTarget::Nobody | ExportTarget::Namespace(_) => {
                    format!("`{target}` is already in the list")
                }
            };
            cx.error(&at, "duplicate-value", message);
            continue;
        }
        let valid = match &target.value {
            ExportTarget::Public | ExportTarget::Own => true,
            ExportTarget::Nobody => allowed == Allowed::OrNobody,
            ExportTarget::Namespace(namespace) => is_dns_label(namespace),
        };
        if !valid {
            cx.error(
                &at,
                "invalid-namespace",
                format!("{:?} is not a namespace", target.to_string()),
            )
            .help("the name of a namespace, `.` for the own one or `*` for all");
        }
        if list.0.len() > 1 && matches!(target.value, ExportTarget::Public | ExportTarget::Nobody) {
            cx.error(&at, "conflicting-values", format!("`{target}` must stand alone"));
        }
    }
    if allowed == Allowed::OwnOnly && !seen.is_empty() && (seen.len() > 1 || !seen.contains(own)) {
        cx.error(
            at,
            "conflicting-fields",
            "with a workloadSelector only the own namespace is allowed",
        )
        .help("write `exportTo: [\".\"]` or leave it out");
    }
}
