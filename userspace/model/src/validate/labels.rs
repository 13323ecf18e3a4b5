//! Labels and selectors.

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{MatchLabels, WorkloadSelector};
use crate::validate::domain::is_dns_label;
use crate::validate::limits;
use crate::value::Labels;

/// Labels that something has: keys and values in Kubernetes' form.
pub(super) fn labels(labels: &Labels, at: &At<'_>, cx: &mut Cx) {
    for (key, value) in labels {
        if !is_key(key) {
            cx.error(&at.key(key), "invalid-label", format!("{key:?} is not a label key"))
                .help("letters, digits, `-`, `_` and `.`, optionally after a DNS name and `/`");
        }
        if !is_value(value) {
            cx.error(&at.key(key), "invalid-label", format!("{value:?} is not a label value"))
                .help("at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit");
        }
    }
}

fn is_key(key: &str) -> bool {
    let (prefix, name) =
        key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefixed = |prefix: &str| prefix.len() <= 253 && prefix.split('.').all(is_dns_label);
    prefix.is_none_or(prefixed) && !name.is_empty() && is_value(name)
}

fn is_value(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let outer = |c: char| c.is_ascii_alphanumeric();
    value.is_empty()
        || (value.len() <= 63
            && value.bytes().all(inner)
            && value.starts_with(outer)
            && value.ends_with(outer))
}

/// `workloadSelector.labels` of ServiceEntry and Sidecar.
pub(super) fn workload_selector(
    selector: Option<&Spanned<WorkloadSelector>>,
    at: &At<'_>,
    cx: &mut Cx,
) {
    let Some(selector) = selector else { return };
    let labels = at.field("labels");
    selects(&selector.labels, &labels, cx);
    limits::count(selector.labels.len(), 256, &labels, cx);
    for (key, value) in &selector.labels {
        limits::length(value, 63, &labels.key(key), cx);
    }
    if selector.labels.is_empty() {
        cx.warning(
            at,
            "selects-everything",
            "a selector without labels selects every workload of the namespace",
        );
    }
}

/// `matchLabels` of a selector.
pub(super) fn match_labels(selector: Option<&Spanned<MatchLabels>>, at: &At<'_>, cx: &mut Cx) {
    let Some(selector) = selector else { return };
    let labels = at.field("matchLabels");
    selects(&selector.match_labels, &labels, cx);
    limits::count(selector.match_labels.len(), 4096, &labels, cx);
    for (key, value) in &selector.match_labels {
        limits::length(value, 63, &labels.key(key), cx);
    }
    if selector.match_labels.is_empty() {
        cx.warning(
            at,
            "selects-everything",
            "a selector without labels selects every workload of the namespace",
        );
    }
}

fn selects(labels: &Labels, at: &At<'_>, cx: &mut Cx) {
    for (key, value) in labels {
        if key.is_empty() {
            cx.error(&at.key(key), "invalid-label", "the key of a label must not be empty");
        }
        if key.contains('*') || value.contains('*') {
            cx.error(
                &at.key(key),
                "invalid-label",
                format!("`{key}: {value}`: selectors know no wildcards"),
            )
            .help("leave the label out to allow any value");
        }
    }
}
