//! A route table under construction.

use std::sync::Arc;

use crate::compile::memo::KnownVirtualHost;
use crate::fast::{FastSet, head};
use crate::host_map::HostMap;
use crate::route::{Domains, PortRule, Route, RouteTable, VhostOrigin, VirtualHost};

/// A table under construction. Who comes first has the name and the domain.
pub(super) struct Builder {
    pub(super) port: u16,
    taken: FastSet<Arc<str>>,
    vhosts: Vec<Arc<VirtualHost>>,
    pub(super) domains: HostMap<Arc<VirtualHost>>,
}

impl Builder {
    pub(super) fn new(port: u16, services: usize) -> Self {
        let mut table = Self {
            port,
            taken: FastSet::default(),
            vhosts: Vec::with_capacity(services),
            domains: HostMap::default(),
        };
        // Two names and mostly one address each.
        table.taken.reserve(services);
        table.domains.reserve(3 * services);
        table
    }

    /// Adds a virtual host with what is free of its domains; nothing if its name or all of them are
    /// taken.
    pub(super) fn add(
        &mut self,
        host: &str,
        domains: Vec<String>,
        routes: &Arc<[Arc<Route>]>,
        origin: VhostOrigin,
    ) -> Option<&Arc<VirtualHost>> {
        let name: Arc<str> = Arc::from(format!("{host}:{}", self.port));
        if !self.taken.insert(Arc::clone(&name)) {
            return None;
        }
        let free = domains.into_iter().filter(|domain| self.domains.get(domain).is_none());
        let domains: Vec<Arc<str>> = free.map(Arc::from).collect();
        if domains.is_empty() {
            return None;
        }
        let routes = Arc::clone(routes);
        let vhost = Arc::new(VirtualHost { name, domains, routes, origin });
        for domain in &vhost.domains {
            self.domains.insert_shared(domain, Arc::clone(&vhost));
        }
        self.vhosts.push(vhost);
        self.vhosts.last()
    }

    /// Adds a virtual host as it is; says no unless the same of it is taken as before.
    pub(super) fn add_known(&mut self, known: &KnownVirtualHost) -> bool {
        let vhost = &known.virtual_host;
        let free = |domain: &Arc<str>| self.domains.get(domain).is_none();
        if self.taken.contains(&vhost.name)
            || !vhost.domains.iter().all(free)
            || known.taken.iter().any(free)
        {
            return false;
        }
        self.taken.insert(Arc::clone(&vhost.name));
        for domain in &vhost.domains {
            self.domains.insert_shared(domain, Arc::clone(vhost));
        }
        self.vhosts.push(Arc::clone(vhost));
        true
    }

    pub(super) fn finish(mut self, catch_all: &Arc<VirtualHost>) -> RouteTable {
        let vhosts = self.vhosts.into_iter().map(|vhost| (head(&vhost.name), vhost));
        let mut vhosts: Vec<_> = vhosts.collect();
        vhosts.sort_unstable_by(|(x, a), (y, b)| x.cmp(y).then_with(|| a.name.cmp(&b.name)));
        let vhosts = vhosts.into_iter().map(|(_, vhost)| vhost);
        let virtual_hosts = vhosts.chain([Arc::clone(catch_all)]).collect();
        self.domains.insert("*", Arc::clone(catch_all));
        RouteTable {
            name: Arc::from(self.port.to_string()),
            virtual_hosts,
            domains: PortRule::Ignored(Domains(self.domains)),
            expected: None,
        }
    }
}
