//! Listeners: the rule sets that captured connections meet (semantics.md §0).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use egressd_model::value::IpRange;

use crate::chain::{Chain, ChainIndex, Matched};
use crate::decide::Sniffed;
use crate::service::ServiceId;

/// Name of the listener for destinations that no other one has.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";

/// One rule set, and the address and port it is for. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// What it is bound to.
    pub bind: Bind,
    /// The port; 0 for [`VIRTUAL_OUTBOUND`].
    pub port: u16,
    pub(crate) rules: Arc<ListenerRules>,
}

/// Filter chains, of which the connection chooses one. Where one service has several addresses for
/// itself, their listeners share them: those are most of what many hosts cost.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerRules {
    /// What it is called if not by its address and port.
    pub(crate) name: Option<Arc<str>>,
    /// A real socket of the proxy.
    pub(crate) is_socket: bool,
    /// What must be known of a connection before it is decided.
    pub sniff: Sniff,
    /// Its chains, in the order in which they were added.
    pub chains: Box<[Arc<Chain>]>,
    /// The chain for everything that no other chain has.
    pub default_chain: Arc<Chain>,
    /// The services that share it, oldest first.
    pub services: Box<[ServiceId]>,
    /// What was left out because an older service was there before.
    pub conflicts: Box<[Conflict]>,
    /// The chain for Istio's own ports 15001 and 15006, where its answers are asked for.
    pub(crate) reserved: Option<Arc<Chain>>,
    /// Nothing if there is no chain but the default one.
    pub(crate) index: Option<Box<ChainIndex>>,
}

/// What a listener is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bind {
    /// One destination address.
    Address(IpAddr),
    /// Every destination address.
    Wildcard,
    /// A real socket of the proxy on this address: the explicit HTTP proxy, or a Sidecar listener
    /// with `captureMode: NONE`.
    Socket(IpAddr),
}

/// What must be known of a connection before [`crate::Tables::decide`] is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sniff {
    /// Whether it begins with a ClientHello, and the name in it.
    pub tls: bool,
    /// Whether it begins with an HTTP request.
    pub http: bool,
    /// How long to wait for the first bytes; nothing: Istio waits for ever, the proxy for
    /// [`crate::TCP_IDLE`]. A connection that stays silent longer is decided as [`Sniffed::Raw`].
    pub timeout: Option<Duration>,
}

impl Sniff {
    /// Whether no byte needs to be waited for: the server may speak first.
    pub fn is_nothing(&self) -> bool {
        !self.tls && !self.http
    }
}

/// A service that lost against an older one, or part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conflict {
    /// The service that was there before.
    pub winner: ServiceId,
    /// The one that was left out.
    pub loser: ServiceId,
    /// Why.
    pub reason: ConflictReason,
}

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConflictReason {
    /// The same destinations and names are taken.
    SameMatch,
    /// MONGO and MYSQL share a port with no other protocol.
    ServerFirst,
    /// The port is sniffed already; a later port without a protocol adds nothing but its hosts.
    AlreadySniffed,
    /// A Sidecar listener of this port allows only the services it names.
    Reserved,
}

impl fmt::Display for ConflictReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SameMatch => "an older service matches the same connections",
            Self::ServerFirst => "Mongo and MySQL share a port with no other protocol",
            Self::AlreadySniffed => "an older service makes the port sniffed",
            Self::Reserved => "a Sidecar listener reserves the port",
        })
    }
}

impl Listener {
    /// The listener of an address and port.
    pub(crate) fn at(ip: IpAddr, port: u16, rules: &Arc<ListenerRules>) -> Self {
        let bind = if rules.is_socket { Bind::Socket(ip) } else { Bind::Address(ip) };
        Self { bind, port, rules: Arc::clone(rules) }
    }

    /// `0.0.0.0_PORT`, `VIP_PORT`, or [`VIRTUAL_OUTBOUND`].
    pub fn name(&self) -> Cow<'_, str> {
        match (&self.rules.name, self.bind) {
            (Some(name), _) => Cow::Borrowed(name),
            (None, Bind::Address(ip) | Bind::Socket(ip)) => {
                Cow::Owned(format!("{ip}_{}", self.port))
            }
            (None, Bind::Wildcard) => Cow::Owned(format!("0.0.0.0_{}", self.port)),
        }
    }

    /// Whether it is the same object.
    pub fn is(&self, other: &Self) -> bool {
        (self.bind, self.port) == (other.bind, other.port) && Arc::ptr_eq(&self.rules, &other.rules)
    }
}

/// A listener is its rules in their place.
impl Deref for Listener {
    type Target = ListenerRules;

    fn deref(&self) -> &ListenerRules {
        &self.rules
    }
}

impl ListenerRules {
    /// The chain for a connection, and by what it was found.
    pub fn select(&self, destination: IpAddr, sniffed: &Sniffed<'_>) -> (&Arc<Chain>, Matched) {
        let found = self.index.as_ref().and_then(|index| index.find(destination, sniffed));
        found.unwrap_or((&self.default_chain, Matched::Default))
    }

    /// The chain for connections to a block, where nothing else is looked at.
    pub(crate) fn select_block(&self, block: IpRange) -> &Arc<Chain> {
        let found = self.index.as_ref().and_then(|index| index.find_block(block));
        found.unwrap_or(&self.default_chain)
    }

    /// Whether a connection may end elsewhere than in the catch-all whatever its destination.
    pub fn acts_on_any_destination(&self) -> bool {
        let rules = self.index.as_ref().is_some_and(|index| index.has_rules_for_any_destination());
        !self.default_chain.catch_all || rules
    }
}
