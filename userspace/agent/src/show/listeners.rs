//! Listeners and their filter chains.

use std::sync::Arc;

use egressd_tables::{Bind, Chain, ChainAction, Listener, Tables, TcpRoute};
use serde_json::{Value, json};

use super::{Filter, Table};

/// The columns of `istioctl proxy-config listeners`.
pub(super) fn table(tables: &Tables, filter: &Filter) -> Table {
    let mut table = Table::new(&["ADDRESSES", "PORT", "MATCH", "DESTINATION"]);
    for listener in chosen(tables, filter) {
        for chain in chains(&listener).filter(|chain| has_host(tables, filter, chain)) {
            table.add([address(&listener), port(&listener), matches(chain), destination(chain)]);
        }
    }
    table
}

/// Every listener with its chains.
pub(super) fn json(tables: &Tables, filter: &Filter) -> Value {
    chosen(tables, filter).map(|listener| one(tables, &listener)).collect()
}

/// The listeners for captured connections, and those of egress gateways.
pub(super) fn all(tables: &Tables) -> Vec<Listener> {
    let mut all = tables.listeners();
    for server in tables.gateway_servers() {
        if !all.iter().any(|known| known.is(&server.listener)) {
            all.push(server.listener.clone());
        }
    }
    all
}

fn chosen<'a>(tables: &'a Tables, filter: &'a Filter) -> impl Iterator<Item = Listener> {
    all(tables).into_iter().filter(|listener| {
        let any_address = matches!(listener.bind, Bind::Wildcard);
        filter.name(&listener.name())
            && filter.port(listener.port)
            && (filter.address.is_none()
                || filter.addresses([address(listener)])
                || (any_address && chains(listener).any(|one| filter.addresses(&one.destinations))))
            && chains(listener).any(|chain| has_host(tables, filter, chain))
    })
}

/// Whether a chain is for a host that is asked for.
fn has_host(tables: &Tables, filter: &Filter, chain: &Chain) -> bool {
    let service = chain.service.and_then(|id| tables.service(id));
    let names = chain.server_names.iter().map(|name| name.as_str());
    let routed: Vec<Arc<str>> = match &chain.action {
        ChainAction::Http(table) => {
            table.virtual_hosts.iter().flat_map(|host| host.domains.iter().cloned()).collect()
        }
        ChainAction::Tcp(_) => Vec::new(),
    };
    let own = service.map(|service| &*service.host);
    filter.hosts(own.into_iter().chain(names).chain(routed.iter().map(|host| &**host)))
}

/// The chains, the default one last.
fn chains(listener: &Listener) -> impl Iterator<Item = &Arc<Chain>> {
    let default = &listener.default_chain;
    let others = listener.chains.iter().filter(move |chain| !Arc::ptr_eq(chain, default));
    others.chain(std::iter::once(default))
}

fn address(listener: &Listener) -> String {
    match listener.bind {
        Bind::Wildcard => "0.0.0.0".to_owned(),
        Bind::Address(ip) | Bind::Socket(ip) => ip.to_string(),
    }
}

/// `*` for the listener of everything that no other one has.
fn port(listener: &Listener) -> String {
    if listener.port == 0 { "*".to_owned() } else { listener.port.to_string() }
}

fn matches(chain: &Chain) -> String {
    let mut parts = Vec::new();
    let list = |items: Vec<String>| items.join(",");
    if !chain.server_names.is_empty() {
        let names = chain.server_names.iter().map(ToString::to_string).collect();
        parts.push(format!("SNI: {}", list(names)));
    }
    if chain.http_only {
        parts.push("Trans: raw_buffer; App: http/1.1,h2c".to_owned());
    }
    if !chain.destinations.is_empty() {
        let blocks = chain.destinations.iter().map(ToString::to_string).collect();
        parts.push(format!("Addr: {}", list(blocks)));
    }
    if parts.is_empty() { "ALL".to_owned() } else { parts.join("; ") }
}

fn destination(chain: &Chain) -> String {
    match &chain.action {
        ChainAction::Http(table) if table.name.is_empty() => "Inline Route: /*".to_owned(),
        ChainAction::Http(table) => format!("Route: {}", table.name),
        ChainAction::Tcp(route) => cluster_names(route),
    }
}

fn cluster_names(route: &TcpRoute) -> String {
    match route.clusters.as_slice() {
        [(only, _)] if only.name().contains('|') => format!("Cluster: {}", only.name()),
        [(only, _)] => only.name().to_string(),
        several => {
            let shares: Vec<_> =
                several.iter().map(|(one, weight)| format!("{}={weight}", one.name())).collect();
            format!("Weighted: {}", shares.join(","))
        }
    }
}

fn one(tables: &Tables, listener: &Listener) -> Value {
    let name = |id| tables.service(id).map(|service| service.host.to_string());
    let chains = chains(listener).map(|chain| {
        json!({
            "name": *chain.name,
            "serverNames": chain.server_names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "destinations": chain.destinations.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "httpOnly": chain.http_only,
            "catchAll": chain.catch_all,
            "destination": destination(chain),
        })
    });
    let conflicts = listener.conflicts.iter().map(|conflict| {
        json!({
            "winner": name(conflict.winner),
            "loser": name(conflict.loser),
            "reason": conflict.reason.to_string(),
        })
    });
    json!({
        "name": listener.name(),
        "address": address(listener),
        "port": listener.port,
        "inspectsTls": listener.sniff.tls,
        "inspectsHttp": listener.sniff.http,
        "chains": chains.collect::<Vec<_>>(),
        "conflicts": conflicts.collect::<Vec<_>>(),
    })
}
