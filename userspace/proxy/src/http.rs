//! HTTP: requests routed one by one.
//!
//! ```text
//! connection -> Inbound -> HttpDecision -> Outgoing -> Attempt(s) -> answer -> FlowRecord
//! ```
//!
//! hyper reads and writes HTTP/1.1 and HTTP/2 on both sides. A request is decided by the tables and a
//! plain value comes of it; what acts on it has no policy of its own. Bodies stream both ways; nothing
//! is kept but what a further try may need ([`HttpSettings::retry_buffer`]), and what came ahead of who
//! reads it, within a budget for the process ([`unread`]).
//!
//! # Tasks
//! An application's HTTP/1 connection is one task, and so are the requests on it, the upstream
//! connections they use and the answers: see [`pool`]. On HTTP/2 each request has a task, and each
//! upstream connection one.
//!
//! # Failures
//! Statuses, bodies, flags and details are Envoy's: [`failure`]. Each request leaves one record, and a
//! connection without any leaves one, too.

mod activity;
mod ask;
mod attempt;
mod beside;
mod binding;
mod circuit;
mod connector;
mod cors;
mod deadline;
mod downstream;
mod exchange;
mod failure;
mod forward;
mod framing;
mod hash;
mod headers;
mod inbound;
mod io;
mod log;
mod mirror;
mod outgoing;
mod places;
mod pool;
mod reply;
mod request_body;
mod response_body;
mod retry;
mod serve;
mod settings;
#[cfg(test)]
mod tests;
mod timeouts;
mod unread;
mod upgrade;
mod upstream;
mod watch;

pub use self::settings::HttpSettings;
pub(crate) use self::{
    ask::{Ask, ask},
    circuit::Circuits,
    connector::Sockets,
    downstream::{Downstream, HttpWorker, Routes, Standing},
    io::{HttpIo, TlsIo},
    places::Places,
    serve::{Speaks, serve},
    upstream::Origin,
};
