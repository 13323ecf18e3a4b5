//! Route tables: the virtual hosts of a port (semantics.md §0, §3).
//!
//! A VirtualService acts on the services of the port that it owns. Its hosts that are no service act
//! too, beside one that is, and on port 80 always. Every other service of the port has one route to
//! itself; what is left belongs to the outbound traffic policy.

mod builder;
mod tables;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use egressd_model::resource::Key;
use egressd_model::value::{HostPattern, ProtocolFamily};

use crate::cluster::{Cluster, ClusterRef, HashPolicy};
use crate::compile::context::{Context, GatewayName};
use crate::compile::http_rules::{self, HttpRules};
use crate::compile::memo::{Id, KnownRoutes, KnownVirtualHost, Leads, Target};
use crate::compile::services::Seen;
use crate::compile::vhosts::builder::Builder;
pub(crate) use crate::compile::vhosts::tables::{PROXY, domains_of, private_table, proxy_table};
use crate::compile::virtual_services::{Rule, Rules};
use crate::fast::{FastMap, FastSet};
use crate::host_map::lower_case;
use crate::options::Answers;
use crate::overlap::OverlapIndex;
use crate::route::{
    DEFAULT_ROUTE, Destination, Destinations, Forward, HeaderOps, PortRule, Route, RouteAction,
    RouteMatch, RouteTable, VhostOrigin, VirtualHost,
};
use crate::service::{Port, Service, ServiceId};

/// Makes the route tables of one egress listener.
pub(crate) struct Vhosts<'a, 'm> {
    context: &'a Context<'a, 'm>,
    rules: &'a Rules<'m>,
    catch_all: Arc<VirtualHost>,
    /// The services of each port, oldest first.
    ports: BTreeMap<u16, Vec<ServiceId>>,
    shared: FastMap<u16, Arc<RouteTable>>,
}

impl<'a, 'm> Vhosts<'a, 'm> {
    pub(crate) fn new(
        context: &'a Context<'a, 'm>,
        rules: &'a Rules<'m>,
        seen: &Seen<'m>,
        catch_all: Arc<VirtualHost>,
    ) -> Self {
        let mut ports: BTreeMap<u16, Vec<ServiceId>> = BTreeMap::new();
        let mut known = FastSet::default();
        for view in &seen.views {
            for port in &view.entry.ports {
                if known.insert((port.number.value, view.service)) {
                    ports.entry(port.number.value).or_default().push(view.service);
                }
            }
        }
        Self { context, rules, catch_all, ports, shared: FastMap::default() }
    }

    /// The table that all services of a port share.
    pub(crate) fn shared(&mut self, port: u16) -> Arc<RouteTable> {
        if let Some(table) = self.shared.get(&port) {
            return Arc::clone(table);
        }
        let table = Arc::new(self.build(port));
        self.shared.insert(port, Arc::clone(&table));
        table
    }

    /// The virtual host that a service of a port has.
    pub(crate) fn own(&mut self, service: &Service, port: u16) -> Option<Arc<VirtualHost>> {
        match &self.shared(port).domains {
            PortRule::Ignored(domains) => domains.0.get(&service.host).cloned(),
            PortRule::Chooses { .. } => None,
        }
    }

    /// The table of one sniffed service at an address of its own.
    pub(crate) fn private(&mut self, service: &Service, port: u16) -> Arc<RouteTable> {
        let own = self.own(service, port);
        Arc::new(private_table(own.as_ref(), service, port, self.context.options.strict))
    }

    /// The table of an explicit proxy.
    pub(crate) fn proxy(&mut self) -> Arc<RouteTable> {
        if self.context.options.answers == Answers::Istio {
            // Istio strips the port before it looks, so that only port 80 is ever found.
            return Arc::new(RouteTable { name: Arc::from(PROXY), ..self.build(80) });
        }
        let numbers: Vec<_> =
            self.ports.keys().copied().filter(|port| self.has_http(*port)).collect();
        let ports = numbers.into_iter().map(|port| (port, self.shared(port))).collect();
        Arc::new(proxy_table(ports, &self.catch_all))
    }

    /// The tables made so far, by port.
    pub(crate) fn tables(self) -> FastMap<u16, Arc<RouteTable>> {
        self.shared
    }

    fn has_http(&self, port: u16) -> bool {
        let services = self.ports.get(&port).into_iter().flatten();
        let mut services = services.filter_map(|id| self.context.services.get(*id));
        services.any(|service| service.port(port).is_some_and(speaks_http))
    }

    fn build(&self, port: u16) -> RouteTable {
        let ids = self.ports.get(&port).map(Vec::as_slice).unwrap_or_default();
        let services: Vec<(ServiceId, &Arc<Service>)> =
            ids.iter().filter_map(|id| Some((*id, self.context.services.get(*id)?))).collect();
        let mut table = Builder::new(port, services.len());
        let ruled = self.add_rules(&services, &mut table);
        for (id, service) in services {
            let own = service.port(port).filter(|own| speaks_http(own));
            if let Some(own) = own.filter(|_| !ruled.contains(&*service.host)) {
                self.add_service(id, service, own, &mut table);
            }
        }
        table.finish(&self.catch_all)
    }

    /// Adds the virtual hosts of VirtualServices; gives the hosts of services that have one.
    fn add_rules(
        &self,
        services: &[(ServiceId, &'a Arc<Service>)],
        table: &mut Builder,
    ) -> FastSet<&'a str> {
        let mut ruled = FastSet::default();
        if self.rules.all.is_empty() {
            return ruled;
        }
        let by_host: FastMap<_, _> =
            services.iter().map(|(_, service)| (lower_case(&service.host), *service)).collect();
        let mut hosts = OverlapIndex::default();
        let mut owned: FastMap<usize, Vec<&Arc<Service>>> = FastMap::default();
        for (_, service) in services.iter().filter(|_| self.rules.has_wildcards()) {
            hosts.insert(&HostPattern::new(&service.host), ());
            if let Some(owner) = self.rules.owner(&service.host) {
                owned.entry(owner).or_default().push(service);
            }
        }
        // Hosts that are no service act beside one that is, and on port 80 (semantics.md §3).
        let all = || self.rules.all.iter().enumerate().collect();
        let named = || self.rules.candidates(services.iter().map(|(_, service)| &*service.host));
        let rules: Vec<_> = if table.port == 80 { all() } else { named() };
        for (place, rule) in rules {
            let mut split = Split::default();
            for host in rule.hosts.iter().filter(|host| !host.is_wildcard()) {
                match by_host.get(&*lower_case(host.as_str())) {
                    Some(service) => split.services.push(service),
                    None => split.others.push(host),
                }
            }
            for host in rule.hosts.iter().filter(|host| host.is_wildcard()) {
                let mine = owned.get(&place).into_iter().flatten();
                let mine = mine.filter(|service| HostPattern::new(&service.host).overlaps(host));
                split.services.extend(mine);
                if !hosts.overlaps(host) {
                    split.others.push(host);
                }
            }
            split.services.retain(|service| service.port(table.port).is_some_and(speaks_http));
            if !split.services.is_empty() || table.port == 80 {
                self.add_rule(rule, &split, table, &mut ruled);
            }
        }
        ruled
    }

    /// Adds the virtual host of a service without rules.
    fn add_service(&self, id: ServiceId, service: &Arc<Service>, own: &Port, table: &mut Builder) {
        let cluster = self.context.own_cluster(id, &service.host, own.number);
        let origin = || VhostOrigin::Service(Arc::clone(&service.host));
        let routes = || Arc::from([self.default_route(service, own, cluster.clone())]);
        match &cluster {
            // A cluster is made anew with the rules that its route depends on.
            ClusterRef::Known(known) if is_of(known, service) => {
                self.add_host(service, &Leads::To(Arc::clone(known)), routes, origin, table);
            }
            ClusterRef::Known(_) | ClusterRef::Missing(_) => {
                table.add(&service.host, domains_of(service), &routes(), origin());
            }
        }
    }

    /// Adds the virtual host of a service: that of the compilation before, if nothing of it has
    /// changed.
    fn add_host(
        &self,
        service: &Arc<Service>,
        leads: &Leads,
        routes: impl FnOnce() -> Arc<[Arc<Route>]>,
        origin: impl FnOnce() -> VhostOrigin,
        table: &mut Builder,
    ) {
        let (id, memo) = ((Id::of(&**service), table.port), &self.context.memo.virtual_hosts);
        let holds = |known: &KnownVirtualHost| {
            Arc::ptr_eq(&known.service, service) && known.leads.is(leads)
        };
        if let Some(known) = memo.get(&id, holds)
            && table.add_known(&known)
        {
            return;
        }
        let all = domains_of(service);
        let taken = all.iter().filter(|domain| table.domains.get(domain).is_some());
        let taken = taken.map(|domain| Arc::from(domain.as_str())).collect();
        if let Some(made) = table.add(&service.host, all, &routes(), origin()) {
            let known = KnownVirtualHost {
                service: Arc::clone(service),
                leads: leads.clone(),
                taken,
                virtual_host: Arc::clone(made),
            };
            memo.keep(id, known);
        }
    }

    fn add_rule(
        &self,
        rule: &Rule<'m>,
        split: &Split<'_, 'a>,
        table: &mut Builder,
        ruled: &mut FastSet<&'a str>,
    ) {
        let key = rule.key();
        let routes = self.routes(rule, &key, table.port);
        if routes.is_empty() {
            return;
        }
        for host in &split.others {
            let domain = match host.as_str().parse::<IpAddr>() {
                Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
                Ok(IpAddr::V4(_)) | Err(_) => host.as_str().to_owned(),
            };
            let origin = VhostOrigin::VirtualService(key.clone(), None);
            table.add(host.as_str(), vec![domain], &routes, origin);
        }
        for service in &split.services {
            let (leads, routes) = (Leads::By(Arc::clone(&routes)), || Arc::clone(&routes));
            let origin =
                || VhostOrigin::VirtualService(key.clone(), Some(Arc::clone(&service.host)));
            self.add_host(service, &leads, routes, origin, table);
            ruled.insert(&service.host);
        }
    }

    /// The routes of a rule on a port: those of the compilation before, if nothing they lead to has
    /// changed.
    fn routes(&self, rule: &Rule<'m>, key: &Key, port: u16) -> Arc<[Arc<Route>]> {
        let (context, gateway) = (self.context, GatewayName::Mesh);
        let rules = HttpRules { context, rules: &rule.http, key, port, gateway, tls: false };
        let Some(targets) = targets(self.context, rule) else { return Arc::from(rules.routes()) };
        let id = (Id::of(rule.resource), port);
        let holds = |known: &KnownRoutes| {
            known.targets.len() == targets.len()
                && known.targets.iter().zip(&targets).all(|(a, b)| a.is(b))
        };
        if let Some(known) = self.context.memo.routes.get(&id, holds) {
            return known.routes;
        }
        let routes: Arc<[_]> = Arc::from(rules.routes());
        let known = KnownRoutes { targets: Arc::from(targets), routes: Arc::clone(&routes) };
        self.context.memo.routes.keep(id, known);
        routes
    }

    /// The route of a service without a VirtualService.
    fn default_route(&self, service: &Service, port: &Port, cluster: ClusterRef) -> Arc<Route> {
        let hash = self.context.hash_of_service(service, port.number);
        Arc::new(default_route(
            Arc::from(DEFAULT_ROUTE),
            RouteAction::Forward(Box::new(Forward {
                destinations: Destinations::Single(Destination {
                    cluster,
                    weight: 1,
                    request_headers: HeaderOps::default(),
                    response_headers: HeaderOps::default(),
                    authority: None,
                }),
                timeout: None,
                retry: http_rules::retry(
                    self.context.mesh.default_http_retry_policy.as_ref().map(|r| &r.value),
                    false,
                ),
                rewrite: None,
                authority: None,
                mirrors: Vec::new(),
                hash: hash.into_iter().collect::<Vec<HashPolicy>>(),
            })),
        ))
    }
}

/// The clusters of every service that a rule leads to, in its order; nothing if its routes depend
/// on more than these.
pub(crate) fn targets(context: &Context<'_, '_>, rule: &Rule<'_>) -> Option<Vec<Target>> {
    let mut targets = Vec::new();
    for http in &rule.http {
        let std::borrow::Cow::Borrowed(http) = http else { return None };
        let routes = http.route.iter().map(|one| &*one.destination);
        let mirrors = http.mirrors.iter().map(|one| &*one.destination);
        for to in routes.chain(http.mirror.as_deref()).chain(mirrors) {
            let host = context.names.resolve_text(&to.host, &rule.resource.meta.namespace);
            let clusters = match context.services.owner(&host) {
                // A host that is no service has no cluster either.
                None => None,
                Some(id) => Some(Arc::clone(context.clusters_of(id)?)),
            };
            targets.push(Target { host, clusters });
        }
    }
    Some(targets)
}

/// A route that matches everything and comes from no resource.
pub(crate) fn default_route(name: Arc<str>, action: RouteAction) -> Route {
    Route {
        name,
        matcher: RouteMatch::default(),
        action,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        fault: None,
        cors: None,
        virtual_service: None,
        stat_prefix: Arc::from(""),
    }
}

/// The hosts of one rule on one port: services it owns, and others.
#[derive(Default)]
struct Split<'r, 'a> {
    services: Vec<&'a Arc<Service>>,
    others: Vec<&'r HostPattern>,
}

fn is_of(cluster: &Cluster, service: &Service) -> bool {
    cluster.service().is_some_and(|of| of.namespace == service.namespace)
}

fn speaks_http(port: &Port) -> bool {
    matches!(port.protocol.family(), ProtocolFamily::Http | ProtocolFamily::Unset)
}
