//! The one decision: what becomes of a connection. The proxy acts on it, the access log and
//! `explain` print it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::chain::{Chain, ChainAction, ExpectedName, Matched};
use crate::listener::{Bind, Listener};
use crate::route::RouteTable;
use crate::tables::Tables;
use crate::tcp::TcpRoute;

/// What is known of a connection when it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// The address and port the application dialled.
    pub destination: SocketAddr,
    /// What its first bytes were.
    pub sniffed: Sniffed<'a>,
}

/// What the first bytes of a connection were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed<'a> {
    /// Nobody looked: the listener did not ask ([`crate::Sniff`]).
    Nothing,
    /// Neither TLS nor HTTP, or nothing came in time.
    Raw,
    /// A ClientHello.
    Tls {
        /// The name in it.
        sni: Option<&'a str>,
    },
    /// An HTTP/1.x request or the HTTP/2 preface.
    Http,
}

/// What becomes of a connection, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The listener that it met.
    pub listener: Listener,
    /// The filter chain it found there.
    pub chain: Arc<Chain>,
    /// By what it found it.
    pub matched: Matched,
    /// What is done with it.
    pub action: Action,
    /// Where "the original destination" is, for clusters that lead to it.
    pub original: Original,
}

/// What is done with a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Its bytes are relayed.
    Tcp(Arc<TcpRoute>),
    /// Its requests are routed, one by one, by [`RouteTable::route`].
    Http(Arc<RouteTable>),
    /// It is closed.
    Refuse(Refusal),
}

/// Why a connection is refused by something else than the outbound traffic policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `strict`: its ClientHello names none of the hosts that the VIP stands for.
    ForeignName,
    /// `strict`: it is not TLS, and the port declares TLS.
    NotTls,
    /// The listener speaks HTTP only, and it does not.
    NotHttp,
}

/// Where the original destination is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    /// Where it was dialled.
    Dialled,
    /// It is an allocated VIP, which leads nowhere by itself: the host it stands for is resolved and
    /// the port kept (seeds.md, "Undeclared ports"). The record names the host.
    Resolve(Arc<str>),
    /// It is an allocated VIP whose host must not or cannot be resolved: the connection is refused.
    Nowhere,
}

/// Istio's own listeners: a connection to one of them would come back to the proxy.
const ISTIO_PORTS: [u16; 2] = [15001, 15006];

impl Tables {
    /// The listener that a connection to this destination meets.
    pub fn listener(&self, destination: SocketAddr) -> Listener {
        let (ip, port) = (destination.ip().to_canonical(), destination.port());
        match self.addresses.get(&(ip, port)) {
            Some(rules) => Listener::at(ip, port, rules),
            None => self.wildcards.get(&port).unwrap_or(&self.virtual_outbound).clone(),
        }
    }

    /// Decides a connection. Pure: the same flow gives the same answer.
    pub fn decide(&self, flow: &Flow<'_>) -> Decision {
        self.decide_on(&self.listener(flow.destination), flow)
    }

    /// Decides a connection that a socket of the listener's own accepted: a gateway's server or the
    /// explicit HTTP proxy.
    pub fn decide_on(&self, listener: &Listener, flow: &Flow<'_>) -> Decision {
        let destination = flow.destination.ip().to_canonical();
        let (chain, matched) = match &listener.reserved {
            Some(chain) if ISTIO_PORTS.contains(&flow.destination.port()) => (chain, Matched::Any),
            Some(_) | None => listener.select(destination, &flow.sniffed),
        };
        let refusal = chain.expected.as_ref().and_then(|names| names.refuses(&flow.sniffed));
        let action = match (refusal, &chain.action) {
            (Some(refusal), _) => Action::Refuse(refusal),
            (None, ChainAction::Tcp(route)) => Action::Tcp(Arc::clone(route)),
            (None, ChainAction::Http(table)) => match flow.sniffed {
                Sniffed::Tls { .. } if chain.terminate.is_none() => {
                    Action::Refuse(Refusal::NotHttp)
                }
                Sniffed::Raw if matches!(listener.bind, Bind::Socket(_)) => {
                    Action::Refuse(Refusal::NotHttp)
                }
                Sniffed::Raw | Sniffed::Nothing | Sniffed::Http | Sniffed::Tls { .. } => {
                    Action::Http(Arc::clone(table))
                }
            },
        };
        Decision {
            listener: listener.clone(),
            chain: Arc::clone(chain),
            matched,
            action,
            original: self.original(destination),
        }
    }

    /// Where a connection goes that is to go to its original destination.
    pub fn original(&self, destination: IpAddr) -> Original {
        match self.vips.get(&destination) {
            Some(original) => original.clone(),
            None if self.vip_ranges.iter().any(|range| range.contains(destination)) => {
                Original::Nowhere
            }
            None => Original::Dialled,
        }
    }
}

impl ExpectedName {
    fn refuses(&self, sniffed: &Sniffed<'_>) -> Option<Refusal> {
        match sniffed {
            Sniffed::Tls { sni: Some(name) }
                if self.hosts.iter().any(|host| host.covers_name(&name.to_ascii_lowercase())) =>
            {
                None
            }
            Sniffed::Tls { .. } => Some(Refusal::ForeignName),
            Sniffed::Raw | Sniffed::Nothing | Sniffed::Http if self.plaintext_allowed => None,
            Sniffed::Raw | Sniffed::Nothing | Sniffed::Http => Some(Refusal::NotTls),
        }
    }
}

impl Decision {
    /// The result in the words of the conformance data, where requests do not matter to it.
    pub fn result(&self) -> Option<&str> {
        match &self.action {
            Action::Tcp(route) => Some(route.result()),
            Action::Refuse(_) => Some(crate::BLACK_HOLE),
            Action::Http(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForeignName => "the server name is none of the hosts that the address stands for",
            Self::NotTls => "the port declares TLS and the connection does not speak it",
            Self::NotHttp => "the listener speaks HTTP and the connection does not",
        })
    }
}
