//! Listeners: who shares a port or address, and who loses (semantics.md §0).
//!
//! Services are visited oldest first. The first one on a key makes its listener; later ones add their
//! chains, unless an equal chain is there or the protocols cannot share a port.

mod entry;
mod make;

use std::collections::hash_map;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use egressd_model::resource::ServicePort;
use egressd_model::value::{Protocol, ProtocolFamily};

use crate::chain::{Chain, ChainAction};
use crate::compile::context::Context;
use crate::compile::listeners::entry::Entry;
use crate::compile::listeners::make::Make;
use crate::compile::memo::{Id, KnownListener};
use crate::compile::policy::Policy;
use crate::compile::scope::{Egress, EgressPort};
use crate::compile::services::{Seen, View};
use crate::compile::vhosts::Vhosts;
use crate::compile::virtual_services::Rules;
use crate::fast::FastMap;
use crate::listener::{Bind, Listener};
use crate::options::{Answers, IpFamilies};

/// All listeners of captured connections under construction.
pub(crate) struct Listeners<'a> {
    rest: Rest<'a>,
    entries: FastMap<(Bind, u16), Entry>,
    /// How many service ports want an address and port.
    wanted: FastMap<(IpAddr, u16), u32>,
    /// Listeners that one service has for itself.
    finished: Vec<Listener>,
}

/// What listeners have in common.
pub(crate) struct Rest<'a> {
    pub(crate) policy: &'a Policy,
    /// How long sniffing may wait.
    pub(crate) timeout: Option<Duration>,
    /// The node has no IPv4: wildcard listeners are called `::`.
    pub(crate) v6_only: bool,
}

/// One egress listener's services and rules.
pub(crate) struct Inputs<'a, 'm> {
    pub(crate) context: &'a Context<'a, 'm>,
    pub(crate) egress: &'a Egress<'m>,
    pub(crate) seen: &'a Seen<'m>,
    pub(crate) rules: &'a Rules<'m>,
}

/// A port as a listener has it: the service's own, or that of the Sidecar listener.
#[derive(Clone, Copy)]
struct Declared {
    number: u16,
    protocol: Protocol,
}

impl<'a> Listeners<'a> {
    pub(crate) fn new(rest: Rest<'a>) -> Self {
        let (entries, wanted) = (FastMap::default(), FastMap::default());
        Self { rest, entries, wanted, finished: Vec::new() }
    }

    /// Adds the services of one egress listener.
    pub(crate) fn add(&mut self, inputs: &Inputs<'_, '_>, vhosts: &mut Vhosts<'_, '_>) {
        match &inputs.egress.port {
            Some(port) => {
                for view in &inputs.seen.views {
                    let declared = Declared { number: port.number, protocol: port.protocol };
                    self.view(inputs, vhosts, view, declared, Some(port));
                }
            }
            None => {
                for entry in self.entries.values_mut() {
                    entry.locked = true;
                }
                self.count(inputs);
                for view in &inputs.seen.views {
                    for port in &view.entry.ports {
                        self.view(inputs, vhosts, view, Declared::of(port), None);
                    }
                }
                if inputs.context.options.answers == Answers::Ours {
                    self.real_addresses(inputs, vhosts);
                }
            }
        }
    }

    /// Counts who wants which address and port.
    fn count(&mut self, inputs: &Inputs<'_, '_>) {
        for view in &inputs.seen.views {
            let Some(service) = inputs.context.services.get(view.service) else { continue };
            let opaque = |port: &&egressd_model::Spanned<ServicePort>| {
                let family = port.protocol.value.family();
                !matches!(family, ProtocolFamily::Http | ProtocolFamily::Udp)
            };
            for port in view.entry.ports.iter().filter(opaque) {
                let mut count = |ip| {
                    let key = (ip, port.number.value);
                    *self.wanted.entry(key).or_insert(0) += 1;
                };
                if view.entry.addresses.is_empty() {
                    service.vips.iter().flat_map(|vip| vip.addresses()).for_each(&mut count);
                } else {
                    let single = view.entry.addresses.iter().filter(|range| range.is_single());
                    single.map(|range| range.address().to_canonical()).for_each(&mut count);
                }
            }
        }
    }

    /// A service with virtual addresses is found at its real ones too, by server name or Host
    /// (seeds.md, "Undeclared ports"); Istio lets those connections pass.
    fn real_addresses(&mut self, inputs: &Inputs<'_, '_>, vhosts: &mut Vhosts<'_, '_>) {
        for view in inputs.seen.views.iter().filter(|view| view.entry.addresses.is_empty()) {
            let Some(service) = inputs.context.services.get(view.service) else { continue };
            for port in view.entry.ports.iter().filter(|_| !service.vips.is_empty()) {
                let port = Declared::of(port);
                let family = port.protocol.family();
                if !matches!(family, ProtocolFamily::Tls | ProtocolFamily::Unset) {
                    continue;
                }
                let make = Make { inputs, view, service, port };
                let chains = make.anywhere();
                let mut named = chains.iter().filter(|chain| !chain.asks_nothing()).peekable();
                let http = (family == ProtocolFamily::Unset).then(|| {
                    let table = ChainAction::Http(vhosts.shared(port.number));
                    Arc::new(make.http(table, true))
                });
                if named.peek().is_none() && http.is_none() {
                    continue;
                }
                let key = (Bind::Wildcard, port.number);
                let entry = self.entries.entry(key).or_insert_with(Entry::spare);
                if entry.takes_names() {
                    entry.share(view.service);
                    for chain in named.chain(&http) {
                        // Who has the name already has it everywhere.
                        let _taken = entry.add(chain, view.service).is_err();
                    }
                }
            }
        }
    }

    /// One host of one entry, on one port.
    fn view(
        &mut self,
        inputs: &Inputs<'_, '_>,
        vhosts: &mut Vhosts<'_, '_>,
        view: &View<'_>,
        port: Declared,
        egress: Option<&EgressPort>,
    ) {
        let Some(service) = inputs.context.services.get(view.service) else { return };
        let make = Make { inputs, view, service, port };
        let fixed = egress.and_then(|egress| egress.bind_to(inputs.context.node.families));
        if port.protocol == Protocol::HttpProxy {
            let bind = fixed.unwrap_or(Bind::Socket(loopback(inputs.context.node.families)));
            let chain = make.http(ChainAction::Http(vhosts.proxy()), false);
            self.insert(&make, bind, &[Arc::new(chain)]);
            return;
        }
        match port.protocol.family() {
            ProtocolFamily::Udp => {}
            ProtocolFamily::Http => {
                let bind = fixed.unwrap_or(Bind::Wildcard);
                let key = (bind, port.number);
                // Sharing a table of virtual hosts needs no chain of one's own.
                if let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.is_tcp()) {
                    entry.share(view.service);
                    return;
                }
                let table = ChainAction::Http(vhosts.shared(port.number));
                let chain = make.http(table, bind == Bind::Wildcard);
                self.insert(&make, bind, &[Arc::new(chain)]);
            }
            ProtocolFamily::Tls | ProtocolFamily::Tcp | ProtocolFamily::Unset => {
                for (bind, blocks) in make.places(fixed) {
                    if self.lone(&make, bind, vhosts) {
                        continue;
                    }
                    let plain = blocks.is_empty() && bind == Bind::Wildcard;
                    if plain && port.protocol.family() == ProtocolFamily::Tls {
                        self.insert(&make, bind, &make.anywhere());
                    } else {
                        self.insert(&make, bind, &make.chains(bind, &blocks, vhosts));
                    }
                }
            }
        }
    }

    /// Finishes the listener of an address that no other service wants. Its rules are those of the
    /// service's other addresses, and of the compilation before, if nothing of them has changed. Says
    /// no where the address is shared.
    fn lone(&mut self, make: &Make<'_, '_, '_>, bind: Bind, vhosts: &mut Vhosts<'_, '_>) -> bool {
        let (Bind::Address(ip), port) = (bind, make.port) else { return false };
        let key = (ip, port.number);
        let shared = self.wanted.get(&key) != Some(&1) || self.entries.contains_key(&(bind, key.1));
        let Some(clusters) = make.alone().filter(|_| !shared) else { return false };
        let own = match port.protocol.family() {
            ProtocolFamily::Unset => vhosts.own(make.service, port.number),
            ProtocolFamily::Http
            | ProtocolFamily::Tls
            | ProtocolFamily::Tcp
            | ProtocolFamily::Udp => None,
        };
        let (id, memo) = (make.view.service, &make.inputs.context.memo.listeners);
        let holds = |known: &KnownListener| {
            known.id == id
                && Arc::ptr_eq(&known.service, make.service)
                && Arc::ptr_eq(&known.clusters, clusters)
                && known.virtual_host.as_ref().map(Arc::as_ptr) == own.as_ref().map(Arc::as_ptr)
        };
        let key = (Id::of(&**make.service), Id::of(make.view.entry), port.number);
        if let Some(known) = memo.get(&key, holds) {
            self.finished.push(Listener::at(ip, port.number, &known.rules));
            return true;
        }
        let mut entry = Entry::new(port.protocol);
        entry.share(id);
        for chain in make.chains(bind, &[], vhosts) {
            entry.merge(&chain, id);
        }
        let listener = entry.finish(bind, port.number, &self.rest);
        // The policy's own chain belongs to one generation.
        if !listener.default_chain.catch_all {
            let known = KnownListener {
                id,
                service: Arc::clone(make.service),
                clusters: Arc::clone(clusters),
                virtual_host: own,
                rules: Arc::clone(&listener.rules),
            };
            memo.keep(key, known);
        }
        self.finished.push(listener);
        true
    }

    /// Adds chains, or says why not.
    fn insert(&mut self, make: &Make<'_, '_, '_>, bind: Bind, chains: &[Arc<Chain>]) {
        let (new, protocol) = (make.view.service, make.port.protocol);
        let sniffed = protocol.family() == ProtocolFamily::Unset;
        let http = protocol.is_http();
        let entry = match self.entries.entry((bind, make.port.number)) {
            hash_map::Entry::Vacant(vacant) => {
                // The wildcard listener of HTTP takes opaque bytes too: its port counts as sniffed.
                let sniffs = http && bind == Bind::Wildcard && protocol != Protocol::HttpProxy;
                vacant.insert(Entry::new(if sniffs { Protocol::Unset } else { protocol }))
            }
            hash_map::Entry::Occupied(occupied) => {
                let entry = occupied.into_mut();
                if let Some(reason) = entry.refuses(protocol) {
                    entry.lose(new, reason);
                    return;
                }
                if entry.is_tcp() && (http || sniffed) || entry.protocol.is_http() {
                    entry.protocol = Protocol::Unset;
                }
                entry
            }
        };
        entry.share(new);
        for chain in chains {
            entry.merge(chain, new);
        }
    }

    /// The finished listeners, in no order.
    pub(crate) fn finish(self) -> Vec<Listener> {
        let mut all = self.finished;
        let rest = &self.rest;
        let entries = self.entries.into_iter();
        all.extend(entries.map(|((bind, port), entry)| entry.finish(bind, port, rest)));
        all
    }
}

impl Declared {
    fn of(port: &ServicePort) -> Self {
        Self { number: port.number.value, protocol: port.protocol.value }
    }
}

impl EgressPort {
    /// Where a Sidecar listener is bound, if it says so.
    fn bind_to(&self, families: IpFamilies) -> Option<Bind> {
        match (self.bind, self.socket) {
            (Some(ip), true) => Some(Bind::Socket(ip)),
            (None, true) => Some(Bind::Socket(loopback(families))),
            (Some(ip), false) => Some(Bind::Address(ip)),
            (None, false) => None,
        }
    }
}

/// The loopback address that explicit listeners are bound to.
pub(crate) fn loopback(families: IpFamilies) -> IpAddr {
    match families.v4() {
        true => IpAddr::V4(Ipv4Addr::LOCALHOST),
        false => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
