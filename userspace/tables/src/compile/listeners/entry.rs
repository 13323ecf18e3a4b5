//! One listener under construction: what shares it, and what loses.

use std::sync::Arc;
use std::time::Duration;

use egressd_model::value::{HostPattern, IpRange, Protocol, ProtocolFamily};

use crate::chain::{Chain, ChainIndex};
use crate::compile::listeners::Rest;
use crate::fast::{FastMap, FastSet};
use crate::host_map::lower_case;
use crate::listener::{Bind, Conflict, ConflictReason, Listener, ListenerRules, Sniff};
use crate::service::ServiceId;

/// One listener under construction.
pub(super) struct Entry {
    /// What has been declared so far; unset once HTTP and opaque bytes share the port.
    pub(super) protocol: Protocol,
    chains: Vec<Arc<Chain>>,
    /// Who has which criteria.
    owners: FastMap<Criteria, ServiceId>,
    services: Vec<ServiceId>,
    /// The same, for finding one.
    members: FastSet<ServiceId>,
    conflicts: Vec<Conflict>,
    known_conflicts: FastSet<Conflict>,
    /// Some chain looks at the first bytes.
    looks: bool,
    /// Made by a Sidecar listener that names its port: nothing is added to it.
    pub(super) locked: bool,
    /// Made for real addresses of services that have virtual ones.
    spare: bool,
}

/// What a chain asks for, in one form whatever the order.
#[derive(PartialEq, Eq, Hash)]
enum Criteria {
    /// One server name and nothing else, in lower case.
    Name(Arc<str>),
    Several {
        http_only: bool,
        names: Vec<String>,
        blocks: Vec<IpRange>,
    },
}

impl Entry {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            chains: Vec::new(),
            owners: FastMap::default(),
            services: Vec::new(),
            members: FastSet::default(),
            conflicts: Vec::new(),
            known_conflicts: FastSet::default(),
            looks: false,
            locked: false,
            spare: false,
        }
    }

    /// One for real addresses of services that have virtual ones.
    pub(super) fn spare() -> Self {
        Self { spare: true, ..Self::new(Protocol::Unset) }
    }

    pub(super) fn is_tcp(&self) -> bool {
        matches!(self.protocol.family(), ProtocolFamily::Tcp | ProtocolFamily::Tls)
    }

    /// Why a service with this protocol cannot be added at all.
    pub(super) fn refuses(&self, incoming: Protocol) -> Option<ConflictReason> {
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

    /// Whether services with virtual addresses may be found here by name: nobody may be made to wait
    /// where the server may speak first.
    pub(super) fn takes_names(&self) -> bool {
        !self.locked && (self.spare || self.looks)
    }

    pub(super) fn share(&mut self, service: ServiceId) {
        if !self.locked && self.members.insert(service) {
            self.services.push(service);
        }
    }

    pub(super) fn lose(&mut self, loser: ServiceId, reason: ConflictReason) {
        let Some(winner) = self.services.first().copied() else { return };
        self.conflict(Conflict { winner, loser, reason });
    }

    fn conflict(&mut self, conflict: Conflict) {
        if conflict.winner != conflict.loser && self.known_conflicts.insert(conflict) {
            self.conflicts.push(conflict);
        }
    }

    /// Adds a chain unless an older one asks for the very same.
    pub(super) fn merge(&mut self, chain: &Arc<Chain>, service: ServiceId) {
        if let Err(winner) = self.add(chain, service) {
            let reason = ConflictReason::SameMatch;
            self.conflict(Conflict { winner, loser: service, reason });
        }
    }

    /// Adds a chain; gives who has one already that asks for the very same.
    pub(super) fn add(&mut self, chain: &Arc<Chain>, service: ServiceId) -> Result<(), ServiceId> {
        let criteria = Criteria::of(chain);
        if let Some(winner) = self.owners.get(&criteria) {
            return Err(*winner);
        }
        self.owners.insert(criteria, service);
        self.looks |= chain.looks();
        self.chains.push(Arc::clone(chain));
        Ok(())
    }

    pub(super) fn finish(self, bind: Bind, port: u16, rest: &Rest<'_>) -> Listener {
        let default_chain = self.chains.iter().find(|chain| chain.asks_nothing()).cloned();
        let http = self.chains.iter().any(|chain| chain.http_only);
        let timeout = match self.spare {
            true => rest.timeout.or(Some(SPARE_WAIT)),
            false => rest.timeout.filter(|_| http || self.looks),
        };
        let rules = ListenerRules {
            name: (bind == Bind::Wildcard && rest.v6_only).then(|| Arc::from(format!("::_{port}"))),
            is_socket: matches!(bind, Bind::Socket(_)),
            sniff: Sniff { tls: http || self.looks, http, timeout },
            default_chain: default_chain.unwrap_or_else(|| Arc::clone(&rest.policy.chain)),
            index: ChainIndex::of(&self.chains),
            chains: self.chains.into(),
            services: self.services.into(),
            conflicts: self.conflicts.into(),
            reserved: None,
        };
        Listener { bind, port, rules: Arc::new(rules) }
    }
}

impl Criteria {
    fn of(chain: &Chain) -> Self {
        if let ([name], [], false) =
            (&*chain.server_names, &*chain.destinations, chain.http_only || chain.asks_nothing())
        {
            return Self::Name(match lower_case(name.as_str()) {
                std::borrow::Cow::Borrowed(_) => name.to_arc(),
                std::borrow::Cow::Owned(name) => Arc::from(name),
            });
        }
        let names = chain.server_names.iter().filter(|name| !name.is_catch_all());
        let mut names: Vec<_> = names.map(|name| lower_case(name.as_str()).into_owned()).collect();
        names.sort_unstable();
        names.dedup();
        let mut blocks: Vec<_> = chain.destinations.iter().map(|block| block.masked()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        if let ([name], [], false) = (&*names, &*blocks, chain.http_only) {
            return Self::Name(Arc::from(name.as_str()));
        }
        Self::Several { http_only: chain.http_only, names, blocks }
    }
}

impl Chain {
    /// Whether it takes every connection.
    pub(crate) fn asks_nothing(&self) -> bool {
        let any_name =
            self.server_names.is_empty() || self.server_names.iter().any(HostPattern::is_catch_all);
        any_name && self.destinations.is_empty() && !self.http_only
    }

    /// Whether the first bytes matter to it.
    fn looks(&self) -> bool {
        self.http_only || !self.server_names.is_empty() || self.expected.is_some()
    }
}

/// How long a connection may be silent on a port whose services all have virtual addresses: what is
/// dialled there elsewhere is nobody's, and its server may speak first. A ClientHello follows the
/// connect() at once.
const SPARE_WAIT: Duration = Duration::from_secs(1);
