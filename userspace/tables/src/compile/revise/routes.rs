//! Routes whose rule has changed or that lead to another cluster, and the tables they are in.

use std::sync::Arc;

use egressd_model::resource::{Resource, VirtualService};

use crate::compile::context::{Context, GatewayName};
use crate::compile::delegates::Delegates;
use crate::compile::http_rules::HttpRules;
use crate::compile::memo::{Id, KnownRoutes};
use crate::compile::revise::Kept;
use crate::compile::revise::changes::Changes;
use crate::compile::revise::refs::Refs;
use crate::compile::vhosts::targets;
use crate::compile::virtual_services::Rule;
use crate::fast::{FastMap, FastSet};
use crate::route::{PortRule, Route, RouteTable, VhostOrigin, VirtualHost};
use crate::service::ServiceId;

/// Routes by the place in memory of those that they replace.
type Replaced = FastMap<*const Arc<Route>, Arc<[Arc<Route>]>>;

/// What has changed of the shared tables.
#[derive(Default)]
pub(super) struct Touched {
    /// Services whose virtual host on a port is another than before.
    pub(super) hosts: FastSet<(ServiceId, u16)>,
    /// The tables before, by port.
    pub(super) tables: FastMap<u16, Arc<RouteTable>>,
}

/// Revises the tables in `kept`; nothing if a rule acts on a port where it did not before, or no more.
pub(super) fn revise(
    context: &Context<'_, '_>,
    changes: &Changes<'_>,
    refs: &Refs,
    kept: &mut Kept,
) -> Option<Touched> {
    let mut replaced: FastMap<u16, Replaced> = FastMap::default();
    for (old, new) in &changes.rules {
        changed_rule(context, old, new, &mut replaced)?;
    }
    if !refs.services.is_empty() {
        rules_elsewhere(context, changes, refs, &mut replaced);
        services(context, refs, kept, &mut replaced);
    }
    let mut touched = Touched::default();
    for (port, replaced) in replaced.iter().filter(|(_, replaced)| !replaced.is_empty()) {
        let Some(table) = kept.tables.get(port) else { continue };
        if let Some(new) = table_with(context, table, *port, replaced, &mut touched.hosts) {
            touched.tables.insert(*port, Arc::clone(table));
            kept.tables.insert(*port, Arc::new(new));
        }
    }
    Some(touched)
}

/// A VirtualService that is another than before.
fn changed_rule(
    context: &Context<'_, '_>,
    old: &Resource<VirtualService>,
    new: &Resource<VirtualService>,
    replaced: &mut FastMap<u16, Replaced>,
) -> Option<()> {
    let default = context.mesh.default_virtual_service_export_to();
    let rule = Rule::new(new, context.names, &Delegates::new(&[]), &default);
    let (key, gateway) = (rule.key(), GatewayName::Mesh);
    for (port, known) in context.memo.routes.all(|(id, _)| *id == Id::of(old)) {
        let port = port.1;
        let rules = HttpRules { context, rules: &rule.http, key: &key, port, gateway, tls: false };
        let routes: Arc<[_]> = Arc::from(rules.routes());
        if routes.is_empty() != known.routes.is_empty() {
            return None;
        }
        replaced.entry(port).or_default().insert(known.routes.as_ptr(), Arc::clone(&routes));
        let targets = Arc::from(targets(context, &rule)?);
        context.memo.routes.leave((Id::of(new), port), KnownRoutes { targets, routes });
    }
    Some(())
}

/// Rules that lead to services with other clusters than before.
fn rules_elsewhere(
    context: &Context<'_, '_>,
    changes: &Changes<'_>,
    refs: &Refs,
    replaced: &mut FastMap<u16, Replaced>,
) {
    let changed: FastSet<Id> =
        changes.rules.iter().flat_map(|(old, new)| [Id::of(*old), Id::of(*new)]).collect();
    let hosts: FastSet<&str> = refs
        .services
        .keys()
        .filter_map(|id| context.services.get(*id).map(|service| &*service.host))
        .collect();
    for (key, known) in context.memo.routes.all(|(id, _)| !changed.contains(id)) {
        if !known.targets.iter().any(|target| hosts.contains(&*target.host)) {
            continue;
        }
        let targets = known.targets.iter().map(|target| {
            let id = context.services.owner(&target.host);
            let clusters = id.and_then(|id| context.clusters_of(id)).cloned();
            crate::compile::memo::Target { host: Arc::clone(&target.host), clusters }
        });
        let targets = targets.collect();
        let routes = refs.routes(&known.routes).unwrap_or_else(|| Arc::clone(&known.routes));
        replaced.entry(key.1).or_default().insert(known.routes.as_ptr(), Arc::clone(&routes));
        context.memo.routes.leave(key, KnownRoutes { targets, routes });
    }
}

/// Services without rules whose clusters are others than before.
fn services(
    context: &Context<'_, '_>,
    refs: &Refs,
    kept: &Kept,
    replaced: &mut FastMap<u16, Replaced>,
) {
    for service in refs.services.keys().filter_map(|id| context.services.get(*id)) {
        for port in service.ports.iter().map(|port| port.number) {
            let Some(table) = kept.tables.get(&port) else { continue };
            let PortRule::Ignored(domains) = &table.domains else { continue };
            let own = domains.0.get(&service.host);
            let own = own.filter(|own| matches!(own.origin, VhostOrigin::Service(_)));
            if let Some(own) = own
                && let Some(routes) = refs.routes(&own.routes)
            {
                replaced.entry(port).or_default().insert(own.routes.as_ptr(), routes);
            }
        }
    }
}

/// The table with other routes; nothing if it has none of those replaced.
fn table_with(
    context: &Context<'_, '_>,
    table: &RouteTable,
    port: u16,
    replaced: &Replaced,
    hosts: &mut FastSet<(ServiceId, u16)>,
) -> Option<RouteTable> {
    let PortRule::Ignored(domains) = &table.domains else { return None };
    let mut new = None;
    for (place, old) in table.virtual_hosts.iter().enumerate() {
        let Some(routes) = replaced.get(&old.routes.as_ptr()) else { continue };
        if Arc::ptr_eq(routes, &old.routes) {
            continue;
        }
        let (all, domains) =
            new.get_or_insert_with(|| (table.virtual_hosts.clone(), domains.clone()));
        let host = Arc::new(VirtualHost { routes: Arc::clone(routes), ..VirtualHost::clone(old) });
        for domain in &host.domains {
            if let Some(slot) = domains.0.get_mut(domain) {
                *slot = Arc::clone(&host);
            }
        }
        let owner = match &host.origin {
            VhostOrigin::Service(of) | VhostOrigin::VirtualService(_, Some(of)) => {
                context.services.owner(of)
            }
            VhostOrigin::VirtualService(_, None) | VhostOrigin::CatchAll => None,
        };
        hosts.extend(owner.map(|id| (id, port)));
        if let Some(slot) = all.get_mut(place) {
            *slot = host;
        }
    }
    let (virtual_hosts, domains) = new?;
    Some(RouteTable {
        name: Arc::clone(&table.name),
        virtual_hosts,
        domains: PortRule::Ignored(domains),
        expected: None,
    })
}
