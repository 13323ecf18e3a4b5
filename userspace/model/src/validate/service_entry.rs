//! ServiceEntry (semantics.md §1.1).

use std::collections::HashSet;

use crate::decode::{At, Cx, written};
use crate::resource::{Location, Meta, Resolution, ServiceEntry};
use crate::validate::export_to::{self, Allowed};
use crate::validate::{domain, labels, limits, service_port, workload_entry};
use crate::value::Protocol;

/// Label that opts out of an allocated address.
const AUTO_ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";
/// Label that hands the service to a waypoint.
const WAYPOINT: &str = "istio.io/use-waypoint";

/// Checks one entry.
pub(crate) fn service_entry(entry: &ServiceEntry, meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    hosts(entry, at, cx);
    addresses(entry, at, cx);
    let ports = service_port::ports(entry, at, cx);
    if entry.addresses.is_empty() && !is_allocated(entry, meta) {
        service_port::addresses_needed(entry, at, cx);
    }
    selection(entry, at, cx);
    match entry.resolution.value {
        Resolution::None => none(entry, at, cx),
        Resolution::Static => endpoints(entry, at, cx, |entry, at, cx| {
            workload_entry::static_endpoint(entry, &ports, at, cx);
        }),
        Resolution::Dns | Resolution::DnsRoundRobin => dns(entry, &ports, at, cx),
        Resolution::DynamicDns => dynamic_dns(entry, meta, at, cx),
    }
    one_host_a_port(entry, at, cx);
    export_to::export_to(
        &entry.export_to,
        &meta.namespace,
        Allowed::OrNobody,
        &at.field("exportTo"),
        cx,
    );
    if !entry.resolution.is_written() {
        cx.info(
            &at.field("resolution"),
            "resolution-absent",
            "`resolution` is absent, which means NONE",
        )
        .help("write it out; DNS resolves the host");
    }
}

/// Whether at least one host gets an address from the allocator (semantics.md §2).
fn is_allocated(entry: &ServiceEntry, meta: &Meta) -> bool {
    let opted_out =
        meta.labels.get(AUTO_ALLOCATE).is_some_and(|value| value.eq_ignore_ascii_case("false"));
    let qualifies = |wildcard: bool| !wildcard || entry.resolution.value == Resolution::DynamicDns;
    entry.resolution.value != Resolution::None
        && !opted_out
        && entry.hosts.iter().any(|host| qualifies(host.is_wildcard()))
}

fn hosts(entry: &ServiceEntry, at: &At<'_>, cx: &mut Cx) {
    let hosts = at.field("hosts");
    if entry.hosts.is_empty() {
        cx.lacking(&hosts, "missing-field", "at least one host is required");
    }
    limits::count(entry.hosts.len(), 256, &hosts, cx);
    for (index, host) in entry.hosts.iter().enumerate() {
        let at = hosts.index(index);
        if host.is_catch_all() {
            cx.error(&at, "invalid-host", "`*` is not allowed as a host")
                .help("for example `*.example.com`");
        } else if let Err(error) = domain::wildcard_name(host.as_str()) {
            cx.error(&at, "invalid-host", error.to_string());
        } else if host.is_partial_wildcard() && entry.resolution.value != Resolution::DynamicDns {
            let message = format!("{:?} is a wildcard for a part of a label", host.as_str());
            cx.warning(&at, "partial-wildcard", message)
                .help("write `*.` followed by whole labels");
        }
    }
}

fn addresses(entry: &ServiceEntry, at: &At<'_>, cx: &mut Cx) {
    let addresses = at.field("addresses");
    limits::count(entry.addresses.len(), 256, &addresses, cx);
    for index in 0..entry.addresses.len() {
        let at = addresses.index(index);
        let Some(text) = written(&at) else { continue };
        limits::length(text.value, 64, &at, cx);
        if entry.resolution.is_dns() && text.value.contains('/') {
            let message = format!(
                "{} is a block, which resolution {} does not allow",
                text.value, entry.resolution
            );
            cx.error(&at, "invalid-address", message)
                .help("use single addresses, or resolution NONE or STATIC");
        }
    }
}

fn selection(entry: &ServiceEntry, at: &At<'_>, cx: &mut Cx) {
    let selector = at.field("workloadSelector");
    labels::workload_selector(entry.workload_selector.as_ref(), &selector, cx);
    limits::count(entry.endpoints.len(), 4096, &at.field("endpoints"), cx);
    let has_endpoints = at.field("endpoints").node().is_some_and(|node| !node.is_null());
    if entry.workload_selector.is_some() && has_endpoints {
        cx.error(
            &selector,
            "conflicting-fields",
            "only one of `endpoints` and `workloadSelector` may be set",
        );
    }
    if entry.workload_selector.is_some() && entry.resolution.value == Resolution::None {
        cx.warning(
            &selector,
            "selector-without-effect",
            "resolution NONE does not use a workloadSelector",
        );
    }
    workload_entry::labels_are_no_locality(entry, at, cx);
}

fn none(entry: &ServiceEntry, at: &At<'_>, cx: &mut Cx) {
    if !entry.endpoints.is_empty() {
        cx.error(
            &at.field("endpoints"),
            "conflicting-fields",
            "resolution NONE takes no endpoints",
        )
        .help("use resolution STATIC for addresses, DNS for names");
    }
}

fn dns(entry: &ServiceEntry, ports: &HashSet<&str>, at: &At<'_>, cx: &mut Cx) {
    let resolution = entry.resolution.value;
    if entry.endpoints.is_empty() {
        for (index, host) in entry.hosts.iter().enumerate() {
            if host.is_wildcard()
                && !host.is_catch_all()
                && domain::wildcard_name(host.as_str()).is_ok()
            {
                let message = format!(
                    "{:?} cannot be resolved: resolution {resolution} needs full names",
                    host.as_str()
                );
                cx.error(&at.field("hosts").index(index), "invalid-host", message)
                    .help("add `endpoints`, or use resolution NONE or DYNAMIC_DNS");
            }
        }
    }
    if resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
        let message = format!(
            "{} endpoints, resolution DNS_ROUND_ROBIN takes at most 1",
            entry.endpoints.len()
        );
        cx.error(&at.field("endpoints"), "too-many", message)
            .help("use resolution DNS for several");
    }
    endpoints(entry, at, cx, |entry, at, cx| workload_entry::dns_endpoint(entry, ports, at, cx));
    let tls = entry.ports.iter().position(|port| port.protocol.is_tls());
    if let Some(index) = tls.filter(|_| !entry.addresses.is_empty() && entry.hosts.len() > 1) {
        let message = "several hosts share the addresses: at this port only one of them is reached";
        cx.warning(&at.field("ports").index(index), "shared-address", message)
            .help("write one entry a host");
    }
}

fn endpoints(
    entry: &ServiceEntry,
    at: &At<'_>,
    cx: &mut Cx,
    check: impl Fn(&crate::resource::WorkloadEntry, &At<'_>, &mut Cx),
) {
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        check(endpoint, &at.field("endpoints").index(index), cx);
    }
}

fn dynamic_dns(entry: &ServiceEntry, meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    for (index, host) in entry.hosts.iter().enumerate() {
        if !host.is_wildcard() && domain::wildcard_name(host.as_str()).is_ok() {
            let message =
                format!("{:?} is no wildcard, which resolution DYNAMIC_DNS needs", host.as_str());
            cx.error(&at.field("hosts").index(index), "invalid-host", message)
                .help("use resolution DNS");
        }
    }
    if !entry.addresses.is_empty() {
        cx.error(
            &at.field("addresses"),
            "conflicting-fields",
            "resolution DYNAMIC_DNS takes no addresses",
        );
    }
    if !entry.endpoints.is_empty() {
        cx.error(
            &at.field("endpoints"),
            "conflicting-fields",
            "resolution DYNAMIC_DNS takes no endpoints",
        );
    }
    for (index, port) in entry.ports.iter().enumerate() {
        let protocol = port.protocol.value;
        if !matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls) {
            let shown =
                if protocol == Protocol::Unset { "an unset protocol" } else { protocol.as_str() };
            let report = cx.error(
                &at.field("ports").index(index).field("protocol"),
                "unsupported-protocol",
                format!(
                    "resolution DYNAMIC_DNS does not take {shown}: only HTTP, HTTP2, GRPC and TLS"
                ),
            );
            if protocol == Protocol::Https {
                report.help("write TLS");
            }
        }
    }
    let waypoint = meta.labels.get(WAYPOINT).is_some_and(|name| name != "none");
    if waypoint && entry.location.value == Location::MeshInternal {
        let message = "MESH_INTERNAL with resolution DYNAMIC_DNS does not work with a waypoint";
        cx.error(&at.field("location"), "conflicting-fields", message);
    }
}

/// Several hosts on a port whose protocol names no host cannot be told apart, unless nobody looks at them.
fn one_host_a_port(entry: &ServiceEntry, at: &At<'_>, cx: &mut Cx) {
    if entry.hosts.len() < 2 || entry.resolution.value == Resolution::None {
        return;
    }
    let mixed =
        |port: &crate::resource::ServicePort| !port.protocol.is_http() && !port.protocol.is_tls();
    if let Some(index) = entry.ports.iter().position(|port| mixed(port)) {
        let protocol = entry.ports[index].protocol.value;
        let shown =
            if protocol == Protocol::Unset { "an unset protocol" } else { protocol.as_str() };
        let message = format!(
            "{} hosts cannot share a port with {shown}: it names no host",
            entry.hosts.len()
        );
        cx.error(&at.field("ports").index(index).field("protocol"), "ambiguous-host", message)
            .help("write one entry a host");
    }
}
