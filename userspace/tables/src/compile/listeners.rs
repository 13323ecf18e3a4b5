//! Listeners: who shares a port or address, and who loses (semantics.md §0).
//!
//! Services are visited oldest first. The first one on a key makes its listener; later ones add their
//! chains, unless an equal chain is there or the protocols cannot share a port.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use egressd_model::resource::{Resolution, ServicePort};
use egressd_model::value::{HostPattern, IpRange, Protocol, ProtocolFamily};

use crate::chain::{Chain, ChainAction, ChainIndex};
use crate::compile::context::Context;
use crate::compile::policy::Policy;
use crate::compile::scope::{Egress, EgressPort};
use crate::compile::services::{Seen, View};
use crate::compile::tcp_rules::{Place, TcpRules};
use crate::compile::vhosts::Vhosts;
use crate::compile::virtual_services::Rules;
use crate::host_map::lower_case;
use crate::listener::{Bind, Conflict, ConflictReason, Listener, Sniff};
use crate::options::{Answers, IpFamilies};
use crate::service::{Service, ServiceId};

/// All listeners of captured connections under construction.
#[derive(Default)]
pub(crate) struct Listeners {
    entries: BTreeMap<(Bind, u16), Entry>,
}

/// One listener under construction.
struct Entry {
    /// What has been declared so far; unset once HTTP and opaque bytes share the port.
    protocol: Protocol,
    chains: Vec<Arc<Chain>>,
    /// Who has which criteria.
    owners: HashMap<Criteria, ServiceId>,
    services: Vec<ServiceId>,
    /// The same, for finding one.
    members: HashSet<ServiceId>,
    conflicts: Vec<Conflict>,
    known_conflicts: HashSet<Conflict>,
    /// Made by a Sidecar listener that names its port: nothing is added to it.
    locked: bool,
    /// Made for real addresses of services that have virtual ones.
    spare: bool,
}

/// What a chain asks for, in one form whatever the order.
#[derive(PartialEq, Eq, Hash)]
struct Criteria {
    http_only: bool,
    names: Vec<String>,
    blocks: Vec<IpRange>,
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

impl Listeners {
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
                let mut chains = make.opaque(Bind::Wildcard, &[]);
                chains.retain(|chain| !chain.asks_nothing());
                if family == ProtocolFamily::Unset {
                    let table = ChainAction::Http(vhosts.shared(port.number));
                    chains.push(make.http(table, true));
                }
                if chains.is_empty() {
                    continue;
                }
                let spare = || Entry { spare: true, ..Entry::new(Protocol::Unset) };
                let key = (Bind::Wildcard, port.number);
                let entry = self.entries.entry(key).or_insert_with(spare);
                // Nobody may be made to wait where the server may speak first.
                if entry.locked || !entry.spare && !entry.looks() {
                    continue;
                }
                entry.share(view.service);
                chains.retain(|chain| !entry.owners.contains_key(&Criteria::of(chain)));
                for chain in chains {
                    entry.merge(chain, view.service);
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
            self.insert(&make, bind, vec![chain]);
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
                self.insert(&make, bind, vec![chain]);
            }
            ProtocolFamily::Tls | ProtocolFamily::Tcp => {
                for (bind, blocks) in make.places(fixed) {
                    let chains = make.opaque(bind, &blocks);
                    self.insert(&make, bind, chains);
                }
            }
            ProtocolFamily::Unset => {
                for (bind, blocks) in make.places(fixed) {
                    let table = match bind {
                        Bind::Wildcard => vhosts.shared(port.number),
                        Bind::Address(_) | Bind::Socket(_) => vhosts.private(service, port.number),
                    };
                    let mut chains = make.opaque(bind, &blocks);
                    chains.push(make.http(ChainAction::Http(table), true));
                    self.insert(&make, bind, chains);
                }
            }
        }
    }

    /// Adds chains, or says why not.
    fn insert(&mut self, make: &Make<'_, '_, '_>, bind: Bind, chains: Vec<Chain>) {
        let (new, protocol) = (make.view.service, make.port.protocol);
        let sniffed = protocol.family() == ProtocolFamily::Unset;
        let http = protocol.is_http();
        let entry = match self.entries.entry((bind, make.port.number)) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                // The wildcard listener of HTTP takes opaque bytes too: its port counts as sniffed.
                let sniffs = http && bind == Bind::Wildcard && protocol != Protocol::HttpProxy;
                vacant.insert(Entry::new(if sniffs { Protocol::Unset } else { protocol }))
            }
            std::collections::btree_map::Entry::Occupied(occupied) => {
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

    /// The finished listeners.
    pub(crate) fn finish(
        self,
        policy: &Policy,
        timeout: Option<Duration>,
        v6_only: bool,
    ) -> Vec<Listener> {
        let finish = |((bind, port), entry): ((Bind, u16), Entry)| {
            entry.finish(bind, port, policy, timeout, v6_only)
        };
        self.entries.into_iter().map(finish).collect()
    }
}

impl Entry {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            chains: Vec::new(),
            owners: HashMap::new(),
            services: Vec::new(),
            members: HashSet::new(),
            conflicts: Vec::new(),
            known_conflicts: HashSet::new(),
            locked: false,
            spare: false,
        }
    }

    fn is_tcp(&self) -> bool {
        matches!(self.protocol.family(), ProtocolFamily::Tcp | ProtocolFamily::Tls)
    }

    /// Why a service with this protocol cannot be added at all.
    fn refuses(&self, incoming: Protocol) -> Option<ConflictReason> {
        let first = |protocol| matches!(protocol, Protocol::Mongo | Protocol::Mysql);
        if self.locked {
            Some(ConflictReason::Reserved)
        } else if incoming != self.protocol && (first(incoming) || first(self.protocol)) {
            Some(ConflictReason::ServerFirst)
        } else if incoming.family() == ProtocolFamily::Unset
            && self.protocol.family() == ProtocolFamily::Unset
        {
            Some(ConflictReason::AlreadySniffed)
        } else {
            None
        }
    }

    /// Whether it looks at the first bytes.
    fn looks(&self) -> bool {
        let named = |chain: &Arc<Chain>| !chain.server_names.is_empty() || chain.expected.is_some();
        self.chains.iter().any(|chain| chain.http_only || named(chain))
    }

    fn share(&mut self, service: ServiceId) {
        if !self.locked && self.members.insert(service) {
            self.services.push(service);
        }
    }

    fn lose(&mut self, loser: ServiceId, reason: ConflictReason) {
        let Some(winner) = self.services.first().copied() else { return };
        self.conflict(Conflict { winner, loser, reason });
    }

    fn conflict(&mut self, conflict: Conflict) {
        if conflict.winner != conflict.loser && self.known_conflicts.insert(conflict) {
            self.conflicts.push(conflict);
        }
    }

    /// Adds a chain unless an older one asks for the very same.
    fn merge(&mut self, chain: Chain, service: ServiceId) {
        let criteria = Criteria::of(&chain);
        match self.owners.get(&criteria).copied() {
            Some(winner) => {
                let reason = ConflictReason::SameMatch;
                self.conflict(Conflict { winner, loser: service, reason });
            }
            None => {
                self.owners.insert(criteria, service);
                self.chains.push(Arc::new(chain));
            }
        }
    }

    fn finish(
        self,
        bind: Bind,
        port: u16,
        policy: &Policy,
        timeout: Option<Duration>,
        v6_only: bool,
    ) -> Listener {
        let mut index = ChainIndex::default();
        let mut default_chain = None;
        for chain in &self.chains {
            if chain.asks_nothing() {
                default_chain.get_or_insert_with(|| Arc::clone(chain));
            } else {
                index.insert(chain);
            }
        }
        let http = self.chains.iter().any(|chain| chain.http_only);
        let tls = self.looks();
        let timeout = match self.spare {
            true => timeout.or(Some(SPARE_WAIT)),
            false => timeout.filter(|_| http),
        };
        Listener {
            name: Arc::from(format!("{}_{port}", name_of(bind, v6_only))),
            bind,
            port,
            sniff: Sniff { tls, http, timeout },
            default_chain: default_chain.unwrap_or_else(|| Arc::clone(&policy.chain)),
            chains: self.chains,
            services: self.services,
            conflicts: self.conflicts,
            reserved: None,
            index,
        }
    }
}

/// One service port to make chains of.
struct Make<'a, 'c, 'm> {
    inputs: &'a Inputs<'c, 'm>,
    view: &'a View<'m>,
    service: &'a Service,
    port: Declared,
}

impl Make<'_, '_, '_> {
    /// Where opaque bytes are listened for, and the blocks they must be for.
    fn places(&self, fixed: Option<Bind>) -> Vec<(Bind, Vec<IpRange>)> {
        if let Some(bind) = fixed {
            return vec![(bind, Vec::new())];
        }
        let own = &self.view.entry.addresses;
        if own.is_empty() {
            let vips = self.service.vips.iter().flat_map(|vip| vip.addresses());
            let mut places: Vec<_> = vips.map(|ip| (Bind::Address(ip), Vec::new())).collect();
            if places.is_empty() {
                places.push((Bind::Wildcard, Vec::new()));
            }
            return places;
        }
        let place = |range: &egressd_model::Spanned<IpRange>| match range.is_single() {
            true => (Bind::Address(range.address().to_canonical()), Vec::new()),
            false => (Bind::Wildcard, vec![range.masked()]),
        };
        own.iter().map(place).collect()
    }

    /// The chains for everything but sniffed HTTP.
    fn opaque(&self, bind: Bind, blocks: &[IpRange]) -> Vec<Chain> {
        let by_name = self.view.entry.resolution.value == Resolution::DynamicDns;
        let place = Place {
            service: self.service,
            id: self.view.service,
            port: self.port.number,
            tls: self.port.protocol.is_tls(),
            blocks,
            // Without an address of its own only the name tells one service from another.
            by_name: by_name || !blocks.is_empty() || bind == Bind::Wildcard,
        };
        let rules = TcpRules { context: self.inputs.context, rules: self.inputs.rules };
        let mut chains = rules.chains(&place);
        if self.inputs.context.options.strict && matches!(bind, Bind::Address(_)) {
            for chain in chains.iter_mut().filter(|chain| chain.server_names.is_empty()) {
                chain.expect(self.service, self.port.protocol);
            }
        }
        chains
    }

    /// The chain for requests.
    fn http(&self, action: ChainAction, http_only: bool) -> Chain {
        Chain {
            name: Arc::from(format!("{}:{}", self.service.host, self.port.number)),
            destinations: Vec::new(),
            server_names: Vec::new(),
            http_only,
            catch_all: false,
            service: Some(self.view.service),
            action,
            terminate: None,
            expected: None,
        }
    }
}

impl Declared {
    fn of(port: &ServicePort) -> Self {
        Self { number: port.number.value, protocol: port.protocol.value }
    }
}

impl Criteria {
    fn of(chain: &Chain) -> Self {
        let names = chain.server_names.iter().filter(|name| !name.is_catch_all());
        let mut names: Vec<_> = names.map(|name| lower_case(name.as_str()).into_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let mut blocks: Vec<_> = chain.destinations.iter().map(|block| block.masked()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        Self { http_only: chain.http_only, names, blocks }
    }
}

impl Chain {
    /// Whether it takes every connection.
    pub(crate) fn asks_nothing(&self) -> bool {
        let any_name =
            self.server_names.is_empty() || self.server_names.iter().any(HostPattern::is_catch_all);
        any_name && self.destinations.is_empty() && !self.http_only
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
    if families.v4() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
    }
}

fn name_of(bind: Bind, v6_only: bool) -> String {
    match bind {
        Bind::Address(ip) | Bind::Socket(ip) => ip.to_string(),
        Bind::Wildcard if v6_only => "::".to_owned(),
        Bind::Wildcard => "0.0.0.0".to_owned(),
    }
}

/// How long a connection may be silent on a port whose services all have virtual addresses: what is
/// dialled there elsewhere is nobody's, and its server may speak first. A ClientHello follows the
/// connect() at once.
const SPARE_WAIT: Duration = Duration::from_secs(1);
