//! Listeners that lead to another cluster, or whose route table is another.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::chain::{Chain, ChainAction, ChainIndex};
use crate::compile::revise::refs::Refs;
use crate::compile::revise::routes::Touched;
use crate::compile::revise::{Before, Kept};
use crate::compile::vhosts::{PROXY, private_table, proxy_table};
use crate::fast::FastMap;
use crate::listener::{Listener, ListenerRules};
use crate::options::Options;
use crate::route::{PortRule, RouteTable};
use crate::tables::Tables;

/// Puts the new listeners in the place of the old ones.
pub(super) fn revise(
    before: &Before<'_>,
    options: &Options,
    refs: &Refs,
    touched: &Touched,
    kept: &Kept,
    tables: &mut Tables,
) {
    let revision = Revision { options, refs, touched, kept };
    let mut ports: BTreeSet<u16> = touched.tables.keys().copied().collect();
    let mut addresses: BTreeSet<(IpAddr, u16)> = BTreeSet::new();
    if kept.opaque_rules && !refs.clusters.is_empty() {
        ports.extend(before.tables.wildcards.keys());
        addresses.extend(before.tables.addresses.keys());
    }
    for service in refs.services.keys().filter_map(|id| kept.directory.get(*id)) {
        for port in service.ports.iter().map(|port| port.number) {
            ports.insert(port);
            addresses.extend(service.ips().map(|ip| (ip.to_canonical(), port)));
        }
    }
    for (id, port) in &touched.hosts {
        let ips = kept.directory.get(*id).into_iter().flat_map(|service| service.ips());
        addresses.extend(ips.map(|ip| (ip.to_canonical(), *port)));
    }
    if !touched.tables.is_empty() {
        let sockets = before.tables.addresses.iter().filter(|(_, rules)| rules.is_socket);
        addresses.extend(sockets.map(|(key, _)| *key));
    }
    for port in ports {
        if let Some(listener) = before.tables.wildcards.get(&port)
            && let Some(rules) = revision.rules(listener, port)
        {
            let rules = Arc::new(rules);
            tables.wildcards.insert(port, Listener { bind: listener.bind, port, rules });
        }
    }
    // Rules that several addresses share stay one object.
    let mut known: FastMap<_, Option<Arc<ListenerRules>>> = FastMap::default();
    for key in addresses {
        let Some(old) = before.tables.addresses.get(&key) else { continue };
        let new = || revision.rules(old, key.1).map(Arc::new);
        if let Some(rules) = known.entry((Arc::as_ptr(old), key.1)).or_insert_with(new) {
            Arc::make_mut(&mut tables.addresses).insert(key, Arc::clone(rules));
        }
    }
}

struct Revision<'a> {
    options: &'a Options,
    refs: &'a Refs,
    touched: &'a Touched,
    kept: &'a Kept,
}

impl Revision<'_> {
    /// The rules with new chains; nothing if none of them is another.
    fn rules(&self, old: &ListenerRules, port: u16) -> Option<ListenerRules> {
        let new: Vec<_> = old.chains.iter().map(|chain| self.chain(chain, port)).collect();
        if new.iter().all(Option::is_none) {
            return None;
        }
        let mut default_chain = Arc::clone(&old.default_chain);
        let mut chains = Vec::with_capacity(new.len());
        for (old_chain, new) in old.chains.iter().zip(new) {
            let chain = new.map_or_else(|| Arc::clone(old_chain), Arc::new);
            if Arc::ptr_eq(old_chain, &old.default_chain) {
                default_chain = Arc::clone(&chain);
            }
            chains.push(chain);
        }
        let index = ChainIndex::of(&chains);
        Some(ListenerRules { chains: chains.into(), default_chain, index, ..old.clone() })
    }

    fn chain(&self, old: &Chain, port: u16) -> Option<Chain> {
        let action = match &old.action {
            ChainAction::Tcp(route) => ChainAction::Tcp(Arc::new(self.refs.tcp_route(route)?)),
            ChainAction::Http(table) => ChainAction::Http(self.table(table, old, port)?),
        };
        Some(Chain { action, ..old.clone() })
    }

    /// The new table in the place of a shared one, of one service's own, or of the explicit proxy's.
    fn table(&self, old: &Arc<RouteTable>, chain: &Chain, port: u16) -> Option<Arc<RouteTable>> {
        if let PortRule::Chooses { ports, otherwise } = &old.domains {
            let touched = ports.keys().any(|port| self.touched.tables.contains_key(port));
            let new = |port: &u16| Some((*port, Arc::clone(self.kept.tables.get(port)?)));
            let tables = || ports.keys().filter_map(new).collect();
            return touched.then(|| Arc::new(proxy_table(tables(), otherwise)));
        }
        if *old.name == *PROXY {
            return None;
        }
        let shared = self.touched.tables.get(&port).filter(|before| Arc::ptr_eq(before, old));
        if shared.is_some() {
            return self.kept.tables.get(&port).cloned();
        }
        let id = chain.service.filter(|id| self.touched.hosts.contains(&(*id, port)))?;
        let service = self.kept.directory.get(id)?;
        // Only a table of the service's own is left.
        let mine = old.name.strip_suffix(&format!(":{port}")) == Some(&*service.host);
        let PortRule::Ignored(domains) = &self.kept.tables.get(&port)?.domains else { return None };
        let own = domains.0.get(&service.host);
        mine.then(|| Arc::new(private_table(own, service, port, self.options.strict)))
    }
}
