//! One captured connection from accept to record.
//!
//! ```text
//! Accepted -> Original -> Sniffed -> Plan -> Connected -> Ending -> FlowRecord
//! ```
//!
//! Each arrow is one function from the value before to the value after. What is dialled comes from
//! [`Originals`], what becomes of it from the tables' one decision, and what happened goes to
//! [`Records`] exactly once, whatever happens. The crate knows nothing of the kernel side: no map, no
//! program, no namespace.
//!
//! # Use
//! ```ignore
//! let snapshot = Arc::new(Snapshot::new(tables));
//! let server = Server::new(Config::default(), Parts {
//!     snapshot: Arc::clone(&snapshot),
//!     factory: Arc::new(SocketFactory::new(Some(Mark(0x6567)), LoopGuard::new(vip_ranges))),
//!     resolver: Arc::new(resolver),           // yours: names to addresses, remembered
//!     originals: Arc::new(move |socket: BorrowedFd<'_>| datapath.original(socket)),
//!     records: Arc::new(AccessLog::open(&path, Encoding::Text)?),
//!     sources: Sources { identity, credentials },   // files are looked at when they are needed
//! })?;
//! for listener in listeners {
//!     server.serve(listener)?;            // bound, listening and tagged by the caller
//! }
//! snapshot.publish(next_tables);          // a reload
//! server.shutdown(drain_timeout).await;   // a second signal: server.end_now()
//! ```
//! Denied connections have no flow here; the caller records them: [`FlowRecord::denied`].
//!
//! # Threads
//! A worker is a thread with an event loop of its own. A listener belongs to one worker and its
//! connections stay there, so nothing is shared on the way but counters. A flow is one task without
//! locks; while it waits it holds two sockets, about 2 KiB, and no buffer. A thread that has just
//! been busy looks for the next event for some microseconds before it sleeps: the module `alert`.
//!
//! # System calls of a connection
//! For a declared TCP port, one request and one answer, the endpoint on this machine, in order:
//! `accept4`, the lookup of the original, `socket`, `setsockopt` (mark, no delay), `connect` twice;
//! `recv` and `send` of the request; two `epoll_ctl`; `recv` and `send` of the answer; `recv` of
//! each end, `shutdown`, `getsockname`, two `epoll_ctl`, two `close`. With the `accept4` that finds
//! nothing that is 22, and three or four `epoll_wait`. A remote endpoint adds a turn of the event
//! loop and `getsockopt`; a sniffed port adds `recv(MSG_PEEK)`.
//!
//! # HTTP
//! A connection that begins with a request, where the listener asks for it, is served request by
//! request: [`HttpSettings`], and the module `http`. Each request leaves a record of its own, and is
//! decided by the generation that is in force when it comes.

mod access_log;
mod addrs;
mod alert;
mod cluster;
mod commands;
mod config;
mod connect;
mod direct;
mod door;
mod flow;
mod health;
mod http;
mod original;
mod plan;
mod random;
mod record;
mod relay;
mod resolve;
mod server;
mod snapshot;
mod sniff;
mod socket;
mod stats;
#[cfg(test)]
mod testing;
#[cfg_attr(not(test), expect(dead_code, reason = "opaque bytes are not carried in TLS yet"))]
mod tls;

pub use access_log::{AccessLog, AccessLogError, CLOSING, Encoding, GATHER};
pub use addrs::{ClientAddr, LocalAddr, OriginalDst, UnixName, UpstreamAddr};
pub use config::{Config, RESERVED};
pub use direct::{
    Direct, DirectBalance, DirectEnd, DirectEndpoints, DirectHost, DirectLevel, DirectLimits,
    DirectSink, DirectView,
};
pub use door::{Door, DoorAddr};
pub use http::HttpSettings;
pub use original::{Original, Originals};
pub use record::{
    DirectNumbers, Errno, FlowRecord, HttpFields, Outcome, Records, RequestPath, ResponseFlag,
    ResponseFlags, Template, TransportFailure, TunnelFailure, write_json, write_text,
};
pub use resolve::{
    Addresses, Asker, NameEvent, NameListener, ResolveError, Resolver, Resolving, is_local,
};
pub use server::{BACKLOG, Drained, ListenerId, Opened, Parts, Server};
pub use snapshot::Snapshot;
pub use sniff::{FirstBytes, first_bytes};
pub use socket::{ConnectError, IpRange, Keepalive, LoopGuard, LoopReason, Mark, SocketFactory};
pub use stats::Stats;
pub use tls::{
    Alert, CertificateFault, FileFailure, FileFault, MeshIdentity, Originator, RECHECK, Role,
    Sources, Terminator, TlsFailure,
};

/// A map that is looked into for each request, by names of the configuration: who writes those owns the
/// node, so that nobody can choose keys that collide, and a fast hash will do.
type FastMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
