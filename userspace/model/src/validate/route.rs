//! tls and tcp rules, destinations and weights.

use crate::decode::{At, Cx};
use crate::resource::{Destination, L4Match, RouteDestination, TlsMatch, VirtualService};
use crate::validate::domain::{self, is_dns_label};
use crate::validate::virtual_service::has_mesh;
use crate::validate::{http_match, limits};
use crate::{Spanned, value::HostPattern};

pub(super) fn tls_routes(service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    let at = at.field("tls");
    for (index, tls) in service.tls.iter().enumerate() {
        let at = at.index(index);
        if tls.matches.is_empty() {
            cx.lacking(&at.field("match"), "missing-field", "at least one match is required");
        }
        for (index, matches) in tls.matches.iter().enumerate() {
            tls_match(matches, service, &at.field("match").index(index), cx);
        }
        destinations(&tls.route, &at, cx);
    }
}

pub(super) fn tcp_routes(service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    let at = at.field("tcp");
    for (index, tcp) in service.tcp.iter().enumerate() {
        let at = at.index(index);
        for (index, matches) in tcp.matches.iter().enumerate() {
            tcp_match(matches, &at.field("match").index(index), cx);
        }
        destinations(&tcp.route, &at, cx);
    }
}

fn tls_match(matches: &TlsMatch, service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    if matches.sni_hosts.is_empty() {
        cx.lacking(&at.field("sniHosts"), "missing-field", "at least one server name is required");
    }
    for (index, host) in matches.sni_hosts.iter().enumerate() {
        sni_host(host, service, &at.field("sniHosts").index(index), cx);
    }
    http_match::source(
        &matches.source_labels,
        &matches.gateways,
        &matches.source_namespace,
        at,
        cx,
    );
}

fn sni_host(host: &Spanned<HostPattern>, service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    let name = host.as_str();
    let checked =
        if has_mesh(service) { domain::wildcard_name(name) } else { domain::generated_sni(name) };
    match checked {
        Err(_) if domain::is_ip(name) => {
            let message =
                format!("{name} is an address: clients do not send addresses as server names");
            cx.warning(at, "ip-as-server-name", message);
        }
        Err(error) => {
            cx.error(at, "invalid-host", error.to_string());
        }
        Ok(()) if service.hosts.iter().any(|hosts| host.is_subset_of(hosts)) => {}
        Ok(()) => {
            let hosts: Vec<&str> = service.hosts.iter().map(|host| host.as_str()).collect();
            let message = format!(
                "{name:?} is not covered by the hosts of the service ({})",
                hosts.join(", ")
            );
            cx.error(at, "host-not-covered", message).help("add it to `hosts`");
        }
    }
}

fn tcp_match(matches: &L4Match, at: &At<'_>, cx: &mut Cx) {
    http_match::source(
        &matches.source_labels,
        &matches.gateways,
        &matches.source_namespace,
        at,
        cx,
    );
}

fn destinations(routes: &[Spanned<RouteDestination>], rule: &At<'_>, cx: &mut Cx) {
    let at = rule.field("route");
    if routes.is_empty() {
        cx.lacking(rule, "missing-field", "`route` is required");
    }
    for (index, weighted) in routes.iter().enumerate() {
        destination(&weighted.destination, &at.index(index).field("destination"), cx);
    }
    weights(routes.iter().map(|weighted| weighted.weight.value), &at, cx);
}

/// Several destinations need a weight that is not zero among them.
pub(super) fn weights(weights: impl ExactSizeIterator<Item = u32>, at: &At<'_>, cx: &mut Cx) {
    if weights.len() > 1 && weights.into_iter().all(|weight| weight == 0) {
        cx.error(at, "no-weight", "all weights are 0, so that nothing is ever chosen")
            .help("give each destination its share; they need not sum to 100");
    }
}

/// Checks a host, subset and port; an absent destination has been reported before.
pub(super) fn destination(destination: &Spanned<Destination>, at: &At<'_>, cx: &mut Cx) {
    if !destination.is_written() {
        return;
    }
    let host = &destination.host;
    if host.is_catch_all() {
        cx.error(&at.field("host"), "invalid-host", "`*` is not a destination");
    } else if host.is_written()
        && let Err(error) = domain::wildcard_name(host.as_str())
    {
        cx.error(&at.field("host"), "invalid-host", error.to_string());
    }
    if !destination.subset.is_empty() {
        subset_name(&destination.subset, &at.field("subset"), cx);
    }
    if let Some(port) = &destination.port {
        limits::port(&port.number, &at.field("port").field("number"), cx);
    }
}

/// The name of a subset.
pub(super) fn subset_name(name: &str, at: &At<'_>, cx: &mut Cx) {
    if !is_dns_label(name) {
        cx.error(at, "invalid-name", format!("{name:?} is not the name of a subset"))
            .help("1 to 63 letters, digits and `-`, beginning and ending with a letter or digit");
    }
}
