//! WorkloadEntry, standalone and as an endpoint (semantics.md §1.3).

use std::collections::HashSet;

use crate::decode::{At, Cx, written};
use crate::resource::{ServiceEntry, WorkloadEntry};
use crate::validate::domain::{self, is_dns_label};
use crate::validate::{labels, limits};
use crate::value::{EndpointAddress, UnixSocket};

/// A standalone entry: an IP, a name or a socket.
pub(crate) fn workload_entry(entry: &WorkloadEntry, at: &At<'_>, cx: &mut Cx) {
    sizes(entry, at, cx);
    labels::labels(&entry.labels, &at.field("labels"), cx);
    ports(entry, None, at, cx);
    match &entry.address.value {
        EndpointAddress::Unset => unset(entry, at, cx),
        EndpointAddress::Ip(_) => {}
        EndpointAddress::Name(name) => full_name(name, at, cx),
        EndpointAddress::Unix(socket) => unix(socket, entry, at, cx),
    }
}

/// An endpoint of a ServiceEntry with resolution STATIC: an IP or a socket.
pub(super) fn static_endpoint(
    entry: &WorkloadEntry,
    ports: &HashSet<&str>,
    at: &At<'_>,
    cx: &mut Cx,
) {
    sizes(entry, at, cx);
    labels::labels(&entry.labels, &at.field("labels"), cx);
    self::ports(entry, Some(ports), at, cx);
    match &entry.address.value {
        EndpointAddress::Unset => unset(entry, at, cx),
        EndpointAddress::Ip(_) => {}
        EndpointAddress::Name(name) => {
            let message = format!("{name:?} is not an IP address, which resolution STATIC needs");
            cx.error(&at.field("address"), "invalid-address", message)
                .help("use resolution DNS for endpoints with names");
        }
        EndpointAddress::Unix(socket) => {
            unix(socket, entry, at, cx);
            if ports.len() != 1 {
                let message = format!(
                    "a service with a Unix socket has exactly 1 port, this one has {}",
                    ports.len()
                );
                cx.error(&at.field("address"), "unix-socket-ports", message);
            }
        }
    }
}

/// An endpoint of a ServiceEntry with resolution DNS or DNS_ROUND_ROBIN: an IP or a name.
pub(super) fn dns_endpoint(entry: &WorkloadEntry, ports: &HashSet<&str>, at: &At<'_>, cx: &mut Cx) {
    sizes(entry, at, cx);
    labels::labels(&entry.labels, &at.field("labels"), cx);
    self::ports(entry, Some(ports), at, cx);
    match &entry.address.value {
        EndpointAddress::Unset => {
            cx.error(&at.field("address"), "missing-field", "`address` is required");
        }
        EndpointAddress::Ip(_) => {}
        EndpointAddress::Name(name) => full_name(name, at, cx),
        EndpointAddress::Unix(socket) => {
            let message = format!(
                "unix://{socket} is neither an IP address nor a name, one of which DNS needs"
            );
            cx.error(&at.field("address"), "invalid-address", message)
                .help("use resolution STATIC for Unix sockets");
        }
    }
}

/// Labels that people take for a locality (seeds.md 19).
const LOCALITY_LABELS: [&str; 3] = ["region", "zone", "subzone"];

/// Says once that labels of endpoints set no locality, where they look as if they should.
pub(super) fn labels_are_no_locality(entry: &ServiceEntry, at: &At<'_>, cx: &mut Cx) {
    let named = |endpoint: &WorkloadEntry| {
        let named = LOCALITY_LABELS.into_iter().filter(|name| endpoint.labels.contains_key(*name));
        let names: Vec<&str> = named.collect();
        (!names.is_empty() && endpoint.locality.is_empty()).then(|| names.join(", "))
    };
    let first = entry
        .endpoints
        .iter()
        .enumerate()
        .find_map(|(index, endpoint)| named(endpoint).map(|names| (index, names)));
    if let Some((index, names)) = first {
        let at = at.field("endpoints");
        let at = at.index(index);
        cx.info(
            &at.field("labels"),
            "labels-set-no-locality",
            format!("labels ({names}) set no locality"),
        )
        .help("write `locality: REGION/ZONE` beside them");
    }
}

fn unset(entry: &WorkloadEntry, at: &At<'_>, cx: &mut Cx) {
    if entry.network.is_empty() {
        cx.error(&at.field("address"), "missing-field", "`address` is required")
            .help("it may be left out only where `network` is set");
    } else {
        let message = format!(
            "no address: the endpoint stands for the gateway of network {:?}",
            entry.network.value
        );
        cx.warning(&at.field("network"), "address-unset", message);
    }
}

fn full_name(name: &str, at: &At<'_>, cx: &mut Cx) {
    if domain::name(name).is_err() {
        let message = format!("{name:?} is neither an IP address nor a host name");
        cx.error(&at.field("address"), "invalid-address", message)
            .help("a name without wildcard, port or path");
    }
}

fn unix(socket: &UnixSocket, entry: &WorkloadEntry, at: &At<'_>, cx: &mut Cx) {
    if let Some(reason) = unix_error(socket) {
        cx.error(&at.field("address"), "invalid-address", format!("unix://{socket}: {reason}"))
            .help("for example unix:///run/service.sock, or unix://@name for an abstract socket");
    }
    if !entry.ports.is_empty() {
        cx.error(&at.field("ports"), "unix-socket-ports", "a Unix socket has no ports");
    }
}

/// What is wrong with a socket's place, if anything.
pub(super) fn unix_error(socket: &UnixSocket) -> Option<&'static str> {
    match socket {
        UnixSocket::Path(path) if path.is_empty() => Some("the path is empty"),
        UnixSocket::Path(path) if !path.starts_with('/') => Some("the path is not absolute"),
        UnixSocket::Path(path) | UnixSocket::Abstract(path) if path.ends_with('/') => {
            Some("this is a directory, not a socket")
        }
        UnixSocket::Path(_) | UnixSocket::Abstract(_) => None,
    }
}

fn ports(entry: &WorkloadEntry, service: Option<&HashSet<&str>>, at: &At<'_>, cx: &mut Cx) {
    let at = at.field("ports");
    limits::count(entry.ports.len(), 128, &at, cx);
    for (name, port) in &entry.ports {
        let at = at.key(name);
        if !is_dns_label(name) || name.len() > 62 {
            cx.error(&at, "invalid-name", format!("{name:?} is not a port name"))
                .help("at most 62 letters, digits and `-`");
        } else if service.is_some_and(|ports| !ports.contains(name.as_str())) {
            cx.error(&at, "unknown-port", format!("the service has no port named {name:?}"));
        }
        limits::port(port, &at, cx);
    }
}

fn sizes(entry: &WorkloadEntry, at: &At<'_>, cx: &mut Cx) {
    limits::count(entry.labels.len(), 256, &at.field("labels"), cx);
    limits::length(&entry.network, 2048, &at.field("network"), cx);
    limits::length(&entry.service_account, 253, &at.field("serviceAccount"), cx);
    for (field, most) in [("address", 256), ("locality", 2048)] {
        if let Some(text) = written(&at.field(field)) {
            limits::length(text.value, most, &at.field(field), cx);
        }
    }
}
