//! Route tables: the virtual hosts of a port (semantics.md §0, §3).
//!
//! A VirtualService acts on the services of the port that it owns. Its hosts that are no service act
//! too, beside one that is, and on port 80 always. Every other service of the port has one route to
//! itself; what is left belongs to the outbound traffic policy.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use egressd_model::value::{HostPattern, ProtocolFamily};

use crate::cluster::HashPolicy;
use crate::compile::clusters;
use crate::compile::context::{Context, GatewayName};
use crate::compile::http_rules::{self, HttpRules};
use crate::compile::services::Seen;
use crate::compile::virtual_services::{Rule, Rules};
use crate::host_map::{HostMap, lower_case};
use crate::options::Answers;
use crate::overlap::OverlapIndex;
use crate::route::{
    DEFAULT_ROUTE, Destination, Destinations, Domains, Forward, HeaderOps, PortRule, Route,
    RouteAction, RouteMatch, RouteTable, VhostOrigin, VirtualHost,
};
use crate::service::{Port, Service, ServiceId};

/// Makes the route tables of one egress listener.
pub(crate) struct Vhosts<'a, 'm> {
    context: &'a Context<'a, 'm>,
    rules: &'a Rules<'m>,
    catch_all: Arc<VirtualHost>,
    /// The services of each port, oldest first.
    ports: BTreeMap<u16, Vec<ServiceId>>,
    shared: HashMap<u16, Arc<RouteTable>>,
}

impl<'a, 'm> Vhosts<'a, 'm> {
    pub(crate) fn new(
        context: &'a Context<'a, 'm>,
        rules: &'a Rules<'m>,
        seen: &Seen<'m>,
        catch_all: Arc<VirtualHost>,
    ) -> Self {
        let mut ports: BTreeMap<u16, Vec<ServiceId>> = BTreeMap::new();
        let mut known = HashSet::new();
        for view in &seen.views {
            for port in &view.entry.ports {
                if known.insert((port.number.value, view.service)) {
                    ports.entry(port.number.value).or_default().push(view.service);
                }
            }
        }
        Self { context, rules, catch_all, ports, shared: HashMap::new() }
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

    /// The table of one sniffed service at an address of its own: it answers to every host.
    pub(crate) fn private(&mut self, service: &Service, port: u16) -> Arc<RouteTable> {
        let name: Arc<str> = Arc::from(format!("{}:{port}", service.host));
        let shared = self.shared(port);
        let own = match &shared.domains {
            PortRule::Ignored(domains) => domains.0.get(&service.host),
            PortRule::Chooses { .. } => None,
        };
        let virtual_hosts: Vec<_> = own
            .map(|own| VirtualHost { domains: vec![Arc::from("*")], ..VirtualHost::clone(own) })
            .map(Arc::new)
            .into_iter()
            .collect();
        let mut domains = HostMap::default();
        for vhost in &virtual_hosts {
            domains.insert("*", Arc::clone(vhost));
        }
        let strict = self.context.options.strict;
        let expected = own.filter(|_| strict).map(|own| {
            let mut expected = HostMap::default();
            for domain in domains_of(service) {
                expected.insert(&domain, Arc::clone(own));
            }
            Arc::new(Domains(expected))
        });
        let domains = PortRule::Ignored(Domains(domains));
        Arc::new(RouteTable { name, virtual_hosts, domains, expected })
    }

    /// The table of an explicit proxy, where the authority says which port is meant.
    pub(crate) fn proxy(&mut self) -> Arc<RouteTable> {
        let name = Arc::from("http_proxy");
        if self.context.options.answers == Answers::Istio {
            // Istio strips the port before it looks, so that only port 80 is ever found.
            return Arc::new(RouteTable { name, ..self.build(80) });
        }
        let numbers: Vec<_> =
            self.ports.keys().copied().filter(|port| self.has_http(*port)).collect();
        let ports: BTreeMap<_, _> =
            numbers.into_iter().map(|port| (port, self.shared(port))).collect();
        let virtual_hosts = ports.values().flat_map(|table| own_vhosts(table)).cloned();
        Arc::new(RouteTable {
            name,
            virtual_hosts: virtual_hosts.chain([Arc::clone(&self.catch_all)]).collect(),
            domains: PortRule::Chooses { ports, otherwise: Arc::clone(&self.catch_all) },
            expected: None,
        })
    }

    fn has_http(&self, port: u16) -> bool {
        let services = self.ports.get(&port).into_iter().flatten();
        let mut services = services.filter_map(|id| self.context.services.get(*id));
        services.any(|service| service.port(port).is_some_and(speaks_http))
    }

    fn build(&self, port: u16) -> RouteTable {
        let ids = self.ports.get(&port).map(Vec::as_slice).unwrap_or_default();
        let services: Vec<&Service> =
            ids.iter().filter_map(|id| self.context.services.get(*id)).collect();
        let mut table = Builder {
            port,
            taken: HashSet::new(),
            vhosts: Vec::new(),
            domains: HostMap::default(),
        };
        let ruled = self.add_rules(&services, port, &mut table);
        for service in services {
            let own = service.port(port).filter(|own| speaks_http(own));
            if let Some(own) = own.filter(|_| !ruled.contains(&*service.host)) {
                let origin = VhostOrigin::Service(Arc::clone(&service.host));
                let routes = Arc::from([self.default_route(service, own)]);
                table.add(&service.host, domains_of(service), &routes, origin);
            }
        }
        table.finish(&self.catch_all)
    }

    /// Adds the virtual hosts of VirtualServices; gives the hosts of services that have one.
    fn add_rules(
        &self,
        services: &[&'a Service],
        port: u16,
        table: &mut Builder,
    ) -> HashSet<&'a str> {
        let mut ruled = HashSet::new();
        if self.rules.all.is_empty() {
            return ruled;
        }
        let by_host: HashMap<_, _> = services
            .iter()
            .map(|service| (lower_case(&service.host).into_owned(), *service))
            .collect();
        let mut hosts = OverlapIndex::default();
        let mut owned: HashMap<usize, Vec<&Service>> = HashMap::new();
        for service in services {
            hosts.insert(&HostPattern::new(&service.host), ());
            if let Some(owner) = self.rules.owner(&service.host) {
                owned.entry(owner).or_default().push(service);
            }
        }
        for (place, rule) in self.rules.all.iter().enumerate() {
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
            split.services.retain(|service| service.port(port).is_some_and(speaks_http));
            // Hosts that are no service act beside one that is, and on port 80 (semantics.md §3).
            if !split.services.is_empty() || port == 80 {
                self.add_rule(rule, &split, table, &mut ruled);
            }
        }
        ruled
    }

    fn add_rule(
        &self,
        rule: &Rule<'m>,
        split: &Split<'_, 'a>,
        table: &mut Builder,
        ruled: &mut HashSet<&'a str>,
    ) {
        let key = rule.key();
        let routes = HttpRules {
            context: self.context,
            rules: &rule.http,
            key: &key,
            port: table.port,
            gateway: GatewayName::Mesh,
            tls: false,
        }
        .routes();
        if routes.is_empty() {
            return;
        }
        let routes = Arc::from(routes);
        for host in &split.others {
            let domain = match host.as_str().parse::<IpAddr>() {
                Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
                Ok(IpAddr::V4(_)) | Err(_) => host.as_str().to_owned(),
            };
            let origin = VhostOrigin::VirtualService(key.clone(), None);
            table.add(host.as_str(), vec![domain], &routes, origin);
        }
        for service in &split.services {
            let origin = VhostOrigin::VirtualService(key.clone(), Some(Arc::clone(&service.host)));
            table.add(&service.host, domains_of(service), &routes, origin);
            ruled.insert(&service.host);
        }
    }

    /// The route of a service without a VirtualService.
    fn default_route(&self, service: &Service, port: &Port) -> Arc<Route> {
        let cluster = self.context.cluster(&clusters::name(port.number, "", &service.host));
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
    services: Vec<&'a Service>,
    others: Vec<&'r HostPattern>,
}

/// A table under construction. Who comes first has the name and the domain.
pub(crate) struct Builder {
    pub(crate) port: u16,
    pub(crate) taken: HashSet<Arc<str>>,
    pub(crate) vhosts: Vec<Arc<VirtualHost>>,
    pub(crate) domains: HostMap<Arc<VirtualHost>>,
}

impl Builder {
    pub(crate) fn add(
        &mut self,
        host: &str,
        domains: Vec<String>,
        routes: &Arc<[Arc<Route>]>,
        origin: VhostOrigin,
    ) {
        let name: Arc<str> = Arc::from(format!("{host}:{}", self.port));
        if !self.taken.insert(Arc::clone(&name)) {
            return;
        }
        let free = domains.into_iter().filter(|domain| self.domains.get(domain).is_none());
        let domains: Vec<Arc<str>> = free.map(Arc::from).collect();
        if domains.is_empty() {
            return;
        }
        let routes = Arc::clone(routes);
        let vhost = Arc::new(VirtualHost { name, domains, routes, origin });
        for domain in &vhost.domains {
            self.domains.insert(domain, Arc::clone(&vhost));
        }
        self.vhosts.push(vhost);
    }

    pub(crate) fn finish(mut self, catch_all: &Arc<VirtualHost>) -> RouteTable {
        self.vhosts.sort_by(|a, b| a.name.cmp(&b.name));
        self.vhosts.push(Arc::clone(catch_all));
        self.domains.insert("*", Arc::clone(catch_all));
        RouteTable {
            name: Arc::from(self.port.to_string()),
            virtual_hosts: self.vhosts,
            domains: PortRule::Ignored(Domains(self.domains)),
            expected: None,
        }
    }
}

/// The Host headers of a service: its name, the same with a final dot, and its addresses.
fn domains_of(service: &Service) -> Vec<String> {
    let names = [service.host.to_string(), format!("{}.", service.host)];
    let addresses = service.ips().map(|ip| match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    names.into_iter().chain(addresses).collect()
}

fn own_vhosts(table: &RouteTable) -> impl Iterator<Item = &Arc<VirtualHost>> {
    table.virtual_hosts.iter().filter(|vhost| vhost.origin != VhostOrigin::CatchAll)
}

fn speaks_http(port: &Port) -> bool {
    matches!(port.protocol.family(), ProtocolFamily::Http | ProtocolFamily::Unset)
}
