//! Gateway (semantics.md §6).

use std::collections::HashSet;

use crate::decode::{At, Cx};
use crate::resource::{Gateway, Meta, Server, ServerPort, ServerTlsMode};
use crate::validate::domain::{self, is_dns_label};
use crate::validate::workload_entry::unix_error;
use crate::validate::{limits, server_tls};
use crate::value::{NamespacedHost, Protocol, UnixSocket};

/// Checks one gateway.
pub(crate) fn gateway(gateway: &Gateway, meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    if !meta.name.is_empty() && !is_dns_label(&meta.name) {
        let message = format!("{:?} is not the name of a gateway", meta.name);
        cx.error(at, "invalid-name", message).help("at most 63 letters, digits and `-`, no dots");
    }
    let servers = at.field("servers");
    if gateway.servers.is_empty() {
        cx.lacking(&servers, "missing-field", "at least one server is required");
    }
    let mut names = HashSet::new();
    for (index, server) in gateway.servers.iter().enumerate() {
        let at = servers.index(index);
        self::server(server, &at, cx);
        let Some(port) = &server.port else { continue };
        if port.name.is_written() && !names.insert(port.name.value.as_str()) {
            let message = format!("the port of another server is named {:?}", port.name.value);
            cx.error(&at.field("port").field("name"), "duplicate-value", message);
        }
        let redirect = server.tls.as_ref().is_some_and(|tls| tls.https_redirect.value);
        if redirect && !port.protocol.is_http() {
            let message = "`httpsRedirect` acts on plain HTTP ports only";
            cx.warning(&at.field("tls").field("httpsRedirect"), "no-effect", message);
        }
    }
}

fn server(server: &Server, at: &At<'_>, cx: &mut Cx) {
    let hosts = at.field("hosts");
    if server.hosts.is_empty() {
        cx.lacking(&hosts, "missing-field", "at least one host is required");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        self::host(host, &hosts.index(index), cx);
    }
    bind(server, at, cx);
    let mut fits = true;
    if let Some(port) = &server.port {
        self::port(port, server, &at.field("port"), cx);
        fits = tls_fits(server, port, at, cx);
    }
    if let Some(tls) = server.tls.as_ref().filter(|_| fits) {
        server_tls::server_tls(tls, &at.field("tls"), cx);
    }
}

fn port(port: &ServerPort, server: &Server, at: &At<'_>, cx: &mut Cx) {
    if port.number.is_written() && (port.number.value > 0 || !server.bind.starts_with("unix://")) {
        limits::port(&port.number, &at.field("number"), cx);
    }
    if port.protocol.is_written() && port.protocol.value == Protocol::Unset {
        cx.error(
            &at.field("protocol"),
            "unknown-protocol",
            "a gateway's port must have a protocol",
        );
    }
    if port.name.is_written() && port.name.is_empty() {
        cx.error(&at.field("name"), "missing-field", "the name must not be empty");
    }
    if port.target_port.value > 0 {
        cx.error(&at.field("targetPort"), "no-effect", "`targetPort` does nothing on a gateway");
    }
}

fn bind(server: &Server, at: &At<'_>, cx: &mut Cx) {
    let at_bind = at.field("bind");
    if let Some(socket) = server.bind.strip_prefix("unix://") {
        if let Some(reason) = unix_error(&UnixSocket::parse(socket)) {
            cx.error(&at_bind, "invalid-address", format!("{}: {reason}", server.bind.value));
        }
        if server.port.as_ref().is_some_and(|port| port.number.value != 0) {
            let message = "the number must be 0 where `bind` is a Unix socket";
            cx.error(&at.field("port").field("number"), "conflicting-fields", message);
        }
    } else if !server.bind.is_empty() && !domain::is_ip(&server.bind) {
        cx.error(
            &at_bind,
            "invalid-address",
            format!("{:?} is not an IP address", server.bind.value),
        );
    }
}

/// Whether the port's protocol goes with TLS being there or not.
fn tls_fits(server: &Server, port: &ServerPort, at: &At<'_>, cx: &mut Cx) -> bool {
    let at_tls = at.field("tls");
    let Some(tls) = &server.tls else {
        if port.protocol.is_tls() {
            let message = format!("protocol {} needs `tls`", port.protocol);
            cx.lacking(&at_tls, "missing-field", message);
        }
        return true;
    };
    let passthrough =
        matches!(tls.mode.value, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
    let files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate];
    let redirect_only = passthrough && files.into_iter().all(|file| file.is_empty());
    if port.protocol.is_tls() || (port.protocol.is_http() && redirect_only) {
        return true;
    }
    if port.protocol.value != Protocol::Unset {
        let message = format!("protocol {} cannot have TLS", port.protocol);
        cx.error(&at_tls, "conflicting-fields", message).help("use protocol HTTPS or TLS");
    }
    false
}

/// `host`, or `namespace/host` with `*` or `.` for the namespace. Short names are not allowed, addresses are.
fn host(host: &NamespacedHost, at: &At<'_>, cx: &mut Cx) {
    if let Some(namespace) = &host.namespace
        && namespace != "*"
        && namespace != "."
        && !is_dns_label(namespace)
    {
        cx.error(at, "invalid-namespace", format!("{namespace:?} is not a namespace"));
    }
    let name = host.host.as_str();
    if !domain::is_ip(name) {
        full_name(name, at, cx);
    }
}

/// A host as gateways and Sidecars write it: `*`, or a full name, with whole labels for wildcards.
pub(super) fn full_name(name: &str, at: &At<'_>, cx: &mut Cx) {
    if let Err(error) = domain::wildcard_name(name) {
        cx.error(at, "invalid-host", error.to_string());
    } else if name != "*" && !name.contains('.') {
        cx.error(at, "invalid-host", format!("{name:?} is a short name, a full one is needed"));
    } else if name.starts_with('*') && name != "*" && !name.starts_with("*.") {
        let message = format!("{name:?} is a wildcard for a part of a label");
        cx.error(at, "partial-wildcard", message).help("write `*.` followed by whole labels");
    }
}
