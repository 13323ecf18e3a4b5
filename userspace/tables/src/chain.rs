//! Filter chains, and how a connection finds its own.
//!
//! Criteria prune in Envoy's order: destination block (longest prefix), server name (exact, then the
//! longest wildcard), then sniffed HTTP. A chain lost to one criterion is not come back to: what is
//! left without a chain goes to the listener's default (semantics.md §0).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use egressd_model::resource::ServerTlsSettings;
use egressd_model::value::{HostPattern, IpRange};

use crate::decide::Sniffed;
use crate::fast::FastMap;
use crate::host_map::HostMap;
use crate::route::RouteTable;
use crate::service::ServiceId;
use crate::tcp::TcpRoute;

/// One filter chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// What it is called in explanations: the service or VirtualService it comes from, or the
    /// policy of a catch-all.
    pub name: Arc<str>,
    /// Destination blocks it is for; empty for all.
    pub destinations: Vec<IpRange>,
    /// Server names it is for; empty for all, TLS or not.
    pub server_names: Vec<HostPattern>,
    /// It is for sniffed plaintext HTTP only.
    pub http_only: bool,
    /// Whether it is a listener's catch-all: the outbound traffic policy.
    pub catch_all: bool,
    /// The service that brought it, if one did.
    pub service: Option<ServiceId>,
    /// What is done with its connections.
    pub action: ChainAction,
    /// TLS towards clients ends here, as a gateway's server says.
    pub terminate: Option<Arc<ServerTlsSettings>>,
    /// `strict`: names of which a ClientHello must carry one; a connection that is not TLS is
    /// refused too unless `plaintext_allowed`.
    pub(crate) expected: Option<Box<ExpectedName>>,
}

/// `strict`: what a connection to a VIP must ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedName {
    /// The hosts the VIP stands for.
    pub(crate) hosts: Vec<HostPattern>,
    /// Whether connections without TLS are fine: the port declares no protocol.
    pub(crate) plaintext_allowed: bool,
}

/// What is done with the connections of a chain.
#[derive(Clone, Debug, PartialEq)]
pub enum ChainAction {
    /// Bytes are relayed.
    Tcp(Arc<TcpRoute>),
    /// Requests are routed.
    Http(Arc<RouteTable>),
}

/// By what a connection found its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// The longest block that holds its destination, and what follows.
    Destination(IpRange, Box<Self>),
    /// The name in its ClientHello.
    ServerName,
    /// Its first bytes are an HTTP request.
    Http,
    /// Nothing more was asked.
    Any,
    /// No chain was left: the listener's default.
    Default,
}

/// The chains of one listener by their criteria, without the default one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ChainIndex {
    /// One level for each prefix length in use, longest first.
    blocks: Vec<Blocks>,
    /// Chains for every destination.
    any: Names,
}

#[derive(Clone, Debug, PartialEq)]
struct Blocks {
    prefix: u8,
    v4: bool,
    names: FastMap<IpAddr, (IpRange, Names)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Names {
    hosts: HostMap<Leaf>,
    none: Leaf,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Leaf {
    http: Option<Arc<Chain>>,
    any: Option<Arc<Chain>>,
}

impl ChainIndex {
    /// The index of these chains but those that take every connection; nothing if there are no others.
    pub(crate) fn of(chains: &[Arc<Chain>]) -> Option<Box<Self>> {
        let mut asking = chains.iter().filter(|chain| !chain.asks_nothing()).peekable();
        asking.peek()?;
        let mut index = Self::default();
        asking.for_each(|chain| index.insert(chain));
        Some(Box::new(index))
    }

    /// Adds a chain under all its criteria. A place that is taken stays with the earlier chain.
    fn insert(&mut self, chain: &Arc<Chain>) {
        if chain.destinations.is_empty() {
            self.any.insert(chain);
        }
        for range in &chain.destinations {
            let range = range.masked();
            let (prefix, v4) = (range.prefix(), range.address().is_ipv4());
            let at = match self.blocks.iter().position(|b| b.prefix == prefix && b.v4 == v4) {
                Some(at) => at,
                None => {
                    let at = self.blocks.iter().take_while(|b| b.prefix > prefix).count();
                    self.blocks.insert(at, Blocks { prefix, v4, names: FastMap::default() });
                    at
                }
            };
            if let Some(blocks) = self.blocks.get_mut(at) {
                let empty = || (range, Names::default());
                blocks.names.entry(range.address()).or_insert_with(empty).1.insert(chain);
            }
        }
    }

    /// The chain for a connection.
    pub(crate) fn find(
        &self,
        destination: IpAddr,
        sniffed: &Sniffed<'_>,
    ) -> Option<(&Arc<Chain>, Matched)> {
        for blocks in self.blocks.iter().filter(|blocks| blocks.v4 == destination.is_ipv4()) {
            if let Some((range, names)) = blocks.names.get(&mask(destination, blocks.prefix)) {
                let (chain, matched) = names.find(sniffed)?;
                return Some((chain, Matched::Destination(*range, Box::new(matched))));
            }
        }
        self.any.find(sniffed)
    }

    /// The chain for connections of which nothing is known but that their destination lies in this
    /// block, and in no smaller one that has chains.
    pub(crate) fn find_block(&self, block: IpRange) -> Option<&Arc<Chain>> {
        let (address, v4) = (block.address(), block.address().is_ipv4());
        let larger = |blocks: &&Blocks| blocks.v4 == v4 && blocks.prefix <= block.prefix();
        for blocks in self.blocks.iter().filter(larger) {
            if let Some((_, names)) = blocks.names.get(&mask(address, blocks.prefix)) {
                return names.find(&Sniffed::Nothing).map(|(chain, _)| chain);
            }
        }
        self.any.find(&Sniffed::Nothing).map(|(chain, _)| chain)
    }

    /// Whether some chain is for every destination.
    pub(crate) fn has_rules_for_any_destination(&self) -> bool {
        !self.any.hosts.is_empty() || self.any.none != Leaf::default()
    }
}

impl Names {
    fn insert(&mut self, chain: &Arc<Chain>) {
        if chain.server_names.is_empty() || chain.server_names.iter().any(HostPattern::is_catch_all)
        {
            self.none.insert(chain);
            return;
        }
        for name in &chain.server_names {
            if let Some(leaf) =
                self.hosts.get_or_insert_with(name.as_str(), || Some(Leaf::default()))
            {
                leaf.insert(chain);
            }
        }
    }

    fn find(&self, sniffed: &Sniffed<'_>) -> Option<(&Arc<Chain>, Matched)> {
        if let Sniffed::Tls { sni: Some(name) } = sniffed
            && let Some(leaf) = self.hosts.find(name)
        {
            return leaf.find(sniffed).map(|(chain, _)| (chain, Matched::ServerName));
        }
        self.none.find(sniffed)
    }
}

impl Leaf {
    fn insert(&mut self, chain: &Arc<Chain>) {
        let slot = if chain.http_only { &mut self.http } else { &mut self.any };
        slot.get_or_insert_with(|| Arc::clone(chain));
    }

    /// A chain for HTTP is also one for plaintext, so that other plaintext is pruned with it.
    fn find(&self, sniffed: &Sniffed<'_>) -> Option<(&Arc<Chain>, Matched)> {
        match (sniffed, &self.http) {
            (Sniffed::Http, Some(http)) => Some((http, Matched::Http)),
            (Sniffed::Raw | Sniffed::Nothing, Some(_)) => None,
            (Sniffed::Tls { .. } | Sniffed::Http | Sniffed::Raw | Sniffed::Nothing, _) => {
                self.any.as_ref().map(|chain| (chain, Matched::Any))
            }
        }
    }
}

/// An address with the bits behind the prefix cleared.
pub(crate) fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}
