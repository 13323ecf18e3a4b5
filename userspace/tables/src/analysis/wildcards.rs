//! Hosts that let in more than they name: ports where names are not looked at, wildcards over whole top-level
//! domains, and services that go wherever the application dialled.

use egressd_model::Severity;
use egressd_model::resource::{Resolution, ServicePort};
use egressd_model::value::ProtocolFamily;

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::{Entry, World};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for entry in world.entries() {
        whole_ports(world, entry, findings);
        if entry.host.is_wildcard() {
            unnamed_ports(world, entry, findings);
            top_level(entry, findings);
            any_address(world, entry, findings);
        }
    }
}

/// A port that would be told from others by an allocated address, where none is allocated. For entries that
/// never get one their own rules say so.
fn whole_ports(world: &World<'_>, entry: Entry<'_>, findings: &mut Findings) {
    if world.has_address(entry) || !world.asks_for_address(entry) {
        return;
    }
    for (index, port) in entry.entry.ports.iter().enumerate() {
        let Some(what) = taken(port) else { continue };
        let number = port.number.value;
        findings.warn(
            "tcp-takes-port",
            Place::new(&entry.entry.meta, format!("spec.ports[{index}]"), port.span),
            format!(
                "{} has no address, so it takes {what} to port {number}, whatever its destination",
                entry.host
            ),
            "give the entry `addresses`, or allocate virtual addresses (`dns.allocateVips`)"
                .to_owned(),
        );
    }
}

/// A wildcard on a port where nobody looks at names.
fn unnamed_ports(world: &World<'_>, entry: Entry<'_>, findings: &mut Findings) {
    if world.has_address(entry) {
        return;
    }
    let unnamed = entry.entry.ports.iter().find_map(|port| taken(port).map(|what| (port, what)));
    let Some((port, what)) = unnamed else { return };
    findings.warn(
        "wildcard-opens-port",
        place(entry),
        format!(
            "{} limits nothing on port {number}: {what} to port {number} is taken, whatever its name",
            entry.host,
            number = port.number.value
        ),
        "declare the port as TLS or HTTP, where the name decides, or write `addresses`".to_owned(),
    );
}

/// What a port without an address takes (semantics.md §0).
fn taken(port: &ServicePort) -> Option<&'static str> {
    match port.protocol.family() {
        ProtocolFamily::Tcp => Some("every connection"),
        ProtocolFamily::Unset => Some("every connection that is not HTTP"),
        ProtocolFamily::Http | ProtocolFamily::Tls | ProtocolFamily::Udp => None,
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
