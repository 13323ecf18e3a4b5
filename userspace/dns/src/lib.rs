//! DNS: answers from the name table, everything else forwarded unchanged, and names resolved for
//! clusters.
//!
//! [`Server`] answers what captured programs ask (semantics.md §2). [`Resolver`] finds the addresses
//! behind the names of clusters (semantics.md §1.2). [`VipState`] keeps on disk which virtual address
//! stands for which host.
//!
//! The crate knows nothing of eBPF and of the proxy. Sockets, the name table and the clock of the
//! kernel side come from the agent, by [`Listeners`], [`SocketMaker`], [`Names`] and
//! [`Wiring::heartbeat`].

mod answer;
mod forward;
mod metrics;
mod names;
mod resolv_conf;
mod resolver;
mod server;
mod shares;
mod socket;
mod state;
mod upstream;
mod wire;

pub use self::{
    answer::{Response, Services, respond},
    metrics::{BOUNDS, Counter, Gauge, Histogram, Metrics},
    names::{Found, Names},
    resolv_conf::{Changes, Paths, SystemDns, SystemDnsError},
    resolver::{Known, NameEvent, Origin, ResolveError, Resolver, ResolverSettings},
    server::{Listeners, ListenersId, Server, Wiring},
    shares::Asker,
    socket::{Asked, Askers, NotKnown, SocketKind, SocketMaker, plain_socket},
    state::{Allocated, REST, SetAside, VipSnapshot, VipState, VipStateError},
    upstream::{Foreign, InvalidUpstream, Transport, Upstream, Upstreams},
};
