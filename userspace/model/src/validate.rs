//! The rules: Istio's webhook and its schema together (semantics.md §1.1: a tool should report the union).

use crate::decode::{At, Cx};
use crate::resource::{
    DestinationRule, Gateway, Meta, ServiceEntry, Sidecar, Telemetry, VirtualService, WorkloadEntry,
};

/// Whether it is a DNS label (RFC 1123): at most 63 lower-case letters, digits and `-`, no `-` at either end.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
pub(crate) fn service_entry(_: &ServiceEntry, _: &Meta, _: &At<'_>, _: &mut Cx) {}
pub(crate) fn workload_entry(_: &WorkloadEntry, _: &At<'_>, _: &mut Cx) {}
pub(crate) fn virtual_service(_: &VirtualService, _: &Meta, _: &At<'_>, _: &mut Cx) {}
pub(crate) fn destination_rule(_: &DestinationRule, _: &Meta, _: &At<'_>, _: &mut Cx) {}
pub(crate) fn gateway(_: &Gateway, _: &Meta, _: &At<'_>, _: &mut Cx) {}
pub(crate) fn sidecar(_: &Sidecar, _: &Meta, _: &At<'_>, _: &mut Cx) {}
pub(crate) fn telemetry(_: &Telemetry, _: &At<'_>, _: &mut Cx) {}
