//! What became of a connection that took the direct path.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::originals::Socket;

/// The record of one connection: made once, at its end or where it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectRecord {
    /// Who connected, and where to.
    pub socket: Socket,
    /// The cluster it went to.
    pub cluster: Arc<str>,
    /// The endpoint; `None` if none was chosen.
    pub endpoint: Option<SocketAddr>,
    /// The application's end; `None` if no SYN was sent.
    pub local: Option<SocketAddr>,
    /// When connect() was called.
    pub started: SystemTime,
    /// How long the handshake took; `None` if it was never over.
    pub connect: Option<Duration>,
    /// From connect() to the end.
    pub duration: Duration,
    /// Bytes that the application sent. Where [`DirectEnd::is_abort`] says so, those of them that the
    /// far end has acknowledged.
    pub sent: u64,
    /// Bytes that arrived for the application.
    pub received: u64,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// How it ended.
    pub end: DirectEnd,
    /// TCP, or UDP: of which neither bytes nor times on the way are known.
    pub protocol: DirectProtocol,
    /// What connect() returned where the kernel refused it; else 0.
    pub errno: i32,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectEnd {
    /// No endpoint may be sent to: `UH`.
    NoEndpoint,
    /// There were too many connections: `UO`.
    Overflow,
    /// The handshake failed: `UF`.
    ConnectFailed {
        /// Because nobody answered in time.
        timed_out: bool,
    },
    /// The application gave up before the handshake was over.
    Abandoned,
    /// Both ends have closed, or the application has and the rest was left to the kernel.
    Closed,
    /// The far end or the network broke it off, or a time limit of ours ran out: `UC`.
    Reset,
    /// The application broke it off.
    Aborted,
}

/// What a flow speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl DirectEnd {
    /// Whether what was sent counts acknowledged bytes only.
    pub fn is_abort(self) -> bool {
        matches!(self, Self::Reset | Self::Aborted)
    }
}
