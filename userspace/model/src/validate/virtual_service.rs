//! VirtualService (semantics.md §3): hosts, gateways and what a delegate may not have.

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{Meta, VirtualService};
use crate::validate::domain::{self, is_dns_label};
use crate::validate::export_to::{self, Allowed};
use crate::validate::http_route::{self, Role};
use crate::validate::{header, reach, route};

/// Checks one VirtualService.
pub(crate) fn virtual_service(service: &VirtualService, meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    let delegate = service.hosts.is_empty();
    if delegate {
        self::delegate(service, at, cx);
    }
    gateway_names(&service.gateways, &at.field("gateways"), cx);
    hosts(service, at, cx);
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        cx.lacking(at, "missing-field", "one of `http`, `tls` and `tcp` is required");
    }
    for (index, route) in service.http.iter().enumerate() {
        let role = match (delegate, &route.delegate) {
            (true, _) => Role::Delegate,
            (false, Some(_)) => Role::Root,
            (false, None) => Role::Independent,
        };
        let at = at.field("http");
        let at = at.index(index);
        http_route::http_route(route, role, &at, cx);
        if service.gateways.is_empty() || has_mesh(service) {
            no_claims(route, &at, cx);
        }
    }
    route::tls_routes(service, at, cx);
    route::tcp_routes(service, at, cx);
    export_to::export_to(
        &service.export_to,
        &meta.namespace,
        Allowed::Namespaces,
        &at.field("exportTo"),
        cx,
    );
    reach::unreachable_rules(service, at, cx);
}

/// Whether `mesh` is among the gateways.
pub(super) fn has_mesh(service: &VirtualService) -> bool {
    service.gateways.iter().any(|gateway| gateway.value == "mesh")
}

/// A service without hosts is taken for a delegate, which lends its http rules and nothing else.
fn delegate(service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    for (name, present) in [
        ("gateways", !service.gateways.is_empty()),
        ("tls", !service.tls.is_empty()),
        ("tcp", !service.tcp.is_empty()),
    ] {
        if present {
            let message =
                format!("a VirtualService without hosts is a delegate and takes no `{name}`");
            cx.error(&at.field(name), "conflicting-fields", message).help("give it `hosts`");
        }
    }
}

fn hosts(service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    let at = at.field("hosts");
    let gateway_only = !service.gateways.is_empty() && !has_mesh(service);
    let generated = gateway_only
        && service.tls.iter().any(|tls| tls.matches.iter().any(|m| !m.sni_hosts.is_empty()));
    let mut valid = true;
    for (index, host) in service.hosts.iter().enumerate() {
        let name = host.as_str();
        let checked =
            if generated { domain::generated_sni(name) } else { domain::wildcard_name(name) };
        match checked {
            Err(error) if !domain::is_ip(name) => {
                cx.error(&at.index(index), "invalid-host", error.to_string());
                valid = false;
            }
            Ok(()) if host.is_catch_all() && !gateway_only => {
                cx.error(
                    &at.index(index),
                    "invalid-host",
                    "`*` is allowed only on gateways, not for the mesh",
                )
                .help("name the hosts, or set `gateways` to gateways other than `mesh`");
                valid = false;
            }
            Ok(()) | Err(_) => {}
        }
    }
    if valid {
        overlaps(service, &at, cx);
    }
}

/// Two hosts of one service must not cover a common name. Only wildcards are compared with all others.
fn overlaps(service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    let mut first = std::collections::HashMap::new();
    let mut wildcards: Vec<usize> = Vec::new();
    for (index, host) in service.hosts.iter().enumerate() {
        let among = |candidates: &[usize]| {
            candidates.iter().copied().find(|other| service.hosts[*other].overlaps(host))
        };
        let earlier = if host.is_wildcard() {
            among(&(0..index).collect::<Vec<_>>())
        } else {
            first.get(host.as_str()).copied().or_else(|| among(&wildcards))
        };
        if let Some(earlier) = earlier {
            let message =
                format!("`{host}` overlaps with `{}` of the same service", service.hosts[earlier]);
            cx.error(&at.index(index), "duplicate-value", message);
        }
        first.entry(host.as_str()).or_insert(index);
        if host.is_wildcard() {
            wildcards.push(index);
        }
    }
}

/// Gateways as `name` or `namespace/name`, or in the old form `name.namespace.svc…`.
pub(super) fn gateway_names(gateways: &[Spanned<String>], at: &At<'_>, cx: &mut Cx) {
    for (index, gateway) in gateways.iter().enumerate() {
        let at = at.index(index);
        let Some((namespace, name)) = gateway.split_once('/') else {
            let mut labels = gateway.split('.');
            if let (Some(name), Some(namespace)) = (labels.next(), labels.next()) {
                let message = format!("`{}` is the old form of a gateway's name", gateway.value);
                cx.warning(&at, "legacy-name", message).help(format!("write `{namespace}/{name}`"));
            }
            if let Err(error) = domain::name(gateway) {
                cx.error(&at, "invalid-name", format!("not a gateway: {error}"));
            }
            continue;
        };
        if !is_dns_label(namespace) || !is_dns_label(name) {
            let message = format!("{:?} is not a gateway", gateway.value);
            cx.error(&at, "invalid-name", message)
                .help("write `NAMESPACE/NAME`, both without wildcards");
        }
    }
}

/// Claims of a token are known on gateways only.
fn no_claims(route: &crate::resource::HttpRoute, at: &At<'_>, cx: &mut Cx) {
    for (index, matches) in route.matches.iter().enumerate() {
        let at = at.field("match");
        let at = at.index(index);
        for (field, headers) in
            [("headers", &matches.headers), ("withoutHeaders", &matches.without_headers)]
        {
            for name in headers.keys().filter(|name| header::is_claim(name)) {
                let message = format!("`{name}`: claims of a token are known on gateways only");
                cx.error(&at.field(field).key(name), "gateway-only", message);
            }
        }
    }
}
