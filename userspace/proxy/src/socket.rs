//! Sockets: the one factory that makes them, the guard that refuses loops, and the stream the rest
//! of the crate reads and writes.
//!
//! No other module opens a socket, so the mark, the limits and the guard cannot be missed.

mod factory;
mod guard;
mod linux;
mod stream;
mod watched;

pub(crate) use self::{
    factory::ConnectOptions,
    linux::{Accepted, THIS_MACHINE, accept, local_addr, reset},
    stream::{Seen, Stream},
    watched::Watched,
};
pub use self::{
    factory::{ConnectError, Keepalive, Mark, SocketFactory},
    guard::{IpRange, LoopGuard, LoopReason},
};

#[cfg(test)]
mod tests;
