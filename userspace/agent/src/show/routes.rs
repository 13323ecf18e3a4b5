//! Route tables of HTTP.

use std::{collections::BTreeMap, sync::Arc};

use egressd_tables::{
    ChainAction, Destinations, Route, RouteAction, RouteTable, Tables, TextMatch, VirtualHost,
};
use serde_json::{Value, json};

use super::{Filter, Table, listeners};

/// The columns of `istioctl proxy-config routes`.
pub(super) fn table(tables: &Tables, filter: &Filter) -> Table {
    let mut table = Table::new(&["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"]);
    for (name, host) in chosen(tables, filter) {
        for route in &*host.routes {
            table.add([
                name.to_string(),
                host.name.to_string(),
                domains(&host),
                matches(route),
                route
                    .virtual_service
                    .as_ref()
                    .map_or_else(String::new, |key| format!("{}.{}", key.name, key.namespace)),
            ]);
        }
    }
    table
}

/// Every table with its virtual hosts and rules.
pub(super) fn json(tables: &Tables, filter: &Filter) -> Value {
    let mut by_table: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
    for (name, host) in chosen(tables, filter) {
        let host = json!({
            "name": *host.name,
            "domains": host.domains.iter().map(|domain| &**domain).collect::<Vec<_>>(),
            "routes": host.routes.iter().map(|route| one(route)).collect::<Vec<_>>(),
        });
        by_table.entry(name).or_default().push(host);
    }
    let tables = by_table.into_iter();
    tables.map(|(name, hosts)| json!({"name": *name, "virtualHosts": hosts})).collect()
}

/// Every virtual host with the name of its table, in the order of names.
fn chosen(tables: &Tables, filter: &Filter) -> Vec<(Arc<str>, Arc<VirtualHost>)> {
    let mut known: BTreeMap<Arc<str>, Arc<RouteTable>> = BTreeMap::new();
    for listener in listeners::all(tables) {
        for chain in listener.chains.iter().chain(std::iter::once(&listener.default_chain)) {
            if let ChainAction::Http(table) = &chain.action {
                known.entry(Arc::clone(&table.name)).or_insert_with(|| Arc::clone(table));
            }
        }
    }
    let mut all = Vec::new();
    for (name, table) in known {
        if !filter.name(&name) || !has_port(&name, filter) {
            continue;
        }
        let domains = |host: &VirtualHost| filter.hosts(host.domains.iter().map(|one| &**one));
        let hosts = table.virtual_hosts.iter().filter(|host| domains(host));
        all.extend(hosts.map(|host| (Arc::clone(&name), Arc::clone(host))));
    }
    all
}

/// Tables are named by their port, alone or behind a host.
fn has_port(name: &str, filter: &Filter) -> bool {
    let Some(port) = filter.port else { return true };
    name.rsplit(':').next() == Some(port.to_string().as_str())
}

/// The first ones and the number of the others, as istioctl has it.
fn domains(host: &VirtualHost) -> String {
    const SHOWN: usize = 2;
    let shown: Vec<_> = host.domains.iter().take(SHOWN).map(|domain| &**domain).collect();
    match host.domains.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

/// `/api*`, `/exact`, `regex /x.*`; other conditions behind it.
fn matches(route: &Route) -> String {
    let matcher = &route.matcher;
    let path = match &matcher.path {
        None | Some(TextMatch::Present) => "/*".to_owned(),
        Some(TextMatch::Exact(path)) => path.to_string(),
        Some(TextMatch::Prefix(prefix)) => format!("{prefix}*"),
        Some(TextMatch::Regex(pattern)) => format!("regex {}", pattern.as_str()),
    };
    let others = matcher.conditions().map(|one| one.to_string());
    let others: Vec<_> = others.filter(|one| !one.starts_with("path ")).collect();
    if others.is_empty() { path } else { format!("{path} {}", others.join(", ")) }
}

fn one(route: &Route) -> Value {
    let seconds = |limit: Option<std::time::Duration>| {
        limit.map_or(Value::Null, |limit| json!(format!("{}s", limit.as_secs_f64())))
    };
    let action = match &route.action {
        RouteAction::Forward(forward) => {
            let clusters = forward.destinations.all().iter().map(|destination| {
                let weight = match forward.destinations {
                    Destinations::Single(_) => Value::Null,
                    Destinations::Weighted(_) => json!(destination.weight),
                };
                json!({"cluster": destination.cluster.to_string(), "weight": weight})
            });
            json!({
                "clusters": clusters.collect::<Vec<_>>(),
                "timeout": seconds(forward.timeout),
                "retries": forward.retry.as_ref().map(|retry| json!({
                    "attempts": retry.attempts,
                    "retryOn": *retry.retry_on,
                    "statusCodes": retry.status_codes,
                    "perTryTimeout": seconds(retry.per_try_timeout),
                })),
                "authority": forward.authority.as_ref().map(|authority| authority.to_string()),
                "mirrors": forward.mirrors.iter().map(|mirror| json!({
                    "cluster": mirror.cluster.to_string(),
                    "perMillion": mirror.per_million,
                })).collect::<Vec<_>>(),
            })
        }
        RouteAction::Redirect(redirect) => json!({
            "redirect": redirect.status,
            "authority": *redirect.authority,
            "scheme": redirect.scheme.as_ref().map(|scheme| scheme.to_string()),
            "port": redirect.port,
        }),
        RouteAction::Respond { status, body } => {
            json!({"directResponse": status, "bodyBytes": body.len()})
        }
        RouteAction::Nothing => json!("none"),
    };
    json!({
        "name": *route.name,
        "match": route.matcher.conditions().map(|one| one.to_string()).collect::<Vec<_>>(),
        "action": action,
        "virtualService": route.virtual_service.as_ref().map(ToString::to_string),
    })
}
