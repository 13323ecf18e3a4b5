//! Hosts that let in more than they name: ports where names are not looked at, wildcards over whole top-level
//! domains, and services that go wherever the application dialled.

use egressd_model::Severity;
use egressd_model::resource::{Resolution, Resource, ServiceEntry, ServicePort};
use egressd_model::value::{HostPattern, ProtocolFamily};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::{Entry, World};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for entry in world.entries() {
        // Several hosts of one entry share its ports: what is said of the first holds for all.
        let first_like_it = |like: fn(&HostPattern) -> bool| {
            entry.entry.hosts.iter().position(|host| like(host)) == Some(entry.index)
        };
        let wildcard = entry.host.is_wildcard();
        if wildcard && first_like_it(HostPattern::is_wildcard)
            || !wildcard && first_like_it(|host| !host.is_wildcard())
        {
            whole_ports(world, entry, findings);
        }
        if wildcard {
            top_level(entry, findings);
            any_address(world, entry, findings);
        }
    }
}

/// A port without an address of its own that is routed by nothing but its number (semantics.md §0).
fn whole_ports(world: &World<'_>, entry: Entry<'_>, findings: &mut Findings) {
    if world.has_address(entry) {
        return;
    }
    for (index, port) in entry.entry.ports.iter().enumerate() {
        let what = match port.protocol.family() {
            ProtocolFamily::Tcp => "every connection",
            ProtocolFamily::Unset => "every connection that is not HTTP",
            ProtocolFamily::Http | ProtocolFamily::Tls | ProtocolFamily::Udp => continue,
        };
        let (code, message) = words(entry, port, what);
        findings.warn(
            code,
            Place::new(&entry.entry.meta, format!("spec.ports[{index}]"), port.span),
            message,
            remedy(entry.entry, entry.host),
        );
    }
}

fn words(entry: Entry<'_>, port: &ServicePort, what: &str) -> (&'static str, String) {
    let (number, host) = (port.number.value, entry.host);
    let does = match entry.entry.resolution.value {
        Resolution::None => "lets through",
        Resolution::Static
        | Resolution::Dns
        | Resolution::DnsRoundRobin
        | Resolution::DynamicDns => "takes",
    };
    let protocol = match port.protocol.as_str() {
        "" => "without a protocol",
        protocol => protocol,
    };
    let port = format!("port {number} ({protocol}) {does} {what} to port {number}");
    if entry.host.is_wildcard() {
        let message = format!("{port}, whatever its destination: {host} is never looked at");
        ("wildcard-opens-port", message)
    } else {
        let message = format!("{port}, whatever its destination: {host} has no address");
        ("tcp-takes-port", message)
    }
}

fn remedy(entry: &Resource<ServiceEntry>, host: &HostPattern) -> String {
    let allocated = "allocate virtual addresses (`dns.allocateVips`)";
    match (entry.resolution.value, host.is_wildcard()) {
        (Resolution::None, _) => "write `addresses`: the blocks that may be dialled".to_owned(),
        (_, true) => "use TLS or HTTP, where the name decides, or write `addresses`".to_owned(),
        (_, false) => format!("write `addresses`, or {allocated}"),
    }
}

/// `*.com`: one label is left, which is somebody else's.
fn top_level(entry: Entry<'_>, findings: &mut Findings) {
    let rest = entry.host.suffix().map(|suffix| suffix.trim_start_matches('.'));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('.')) {
        findings.warn(
            "wildcard-too-broad",
            place(entry),
            format!("{} covers every name of a top-level domain", entry.host),
            "name the domain that is meant, such as `*.example.com`".to_owned(),
        );
    }
}

/// The name is whatever the client says, and the packet goes where it dialled (semantics.md §9.1).
fn any_address(world: &World<'_>, entry: Entry<'_>, findings: &mut Findings) {
    let by_name = entry.entry.ports.iter().any(|port| match port.protocol.family() {
        ProtocolFamily::Http | ProtocolFamily::Tls => true,
        ProtocolFamily::Tcp | ProtocolFamily::Unset | ProtocolFamily::Udp => false,
    });
    let anywhere = entry.entry.resolution.value == Resolution::None
        && entry.entry.addresses.is_empty()
        && by_name;
    if !anywhere || world.subject.tables.is_strict() {
        return;
    }
    let severity = if world.is_registry_only() { Severity::Warning } else { Severity::Info };
    findings.add(
        severity,
        "wildcard-any-address",
        place(entry),
        format!(
            "whoever names a host under {} reaches any address: with resolution NONE the connection goes \
             where it was dialled",
            entry.host
        ),
        "use `resolution: DYNAMIC_DNS`, which resolves the name itself, or `strict: true`".to_owned(),
    );
}

fn place(entry: Entry<'_>) -> Place<'_> {
    let span = entry.entry.hosts.get(entry.index).map(|host| host.span).unwrap_or_default();
    Place::new(&entry.entry.meta, format!("spec.hosts[{}]", entry.index), span)
}
