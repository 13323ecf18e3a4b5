//! What became of a connection that took the direct path.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aya::maps::{MapData, RingBuf};
use egressd_abi::{
    DirectEvent, END_ABANDONED, END_ABORTED, END_CLOSED, END_CONNECT_FAILED, END_NO_ENDPOINT,
    END_NOT_STARTED, END_OVERFLOW, END_RESET, Endpoint, PROTOCOL_UDP,
};
use zerocopy::FromBytes as _;

use super::DirectClusters;
use crate::{events::wall_clock, originals::Socket};

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
    /// What connect() returned, as far as can be told: where the handshake failed, ETIMEDOUT if nobody
    /// answered in time, ENETUNREACH if there was no SYN, else ECONNREFUSED. 0 if it did not fail.
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
    /// The application gave up before the handshake was over, or had a shorter limit of its own.
    Abandoned,
    /// No SYN went out, for a reason of the host's own: no route, no free port, a local rule. It says
    /// nothing of the endpoint: `UF`.
    NotStarted,
    /// Both ends have closed, or the application has and the rest was left to the kernel.
    Closed,
    /// The far end or the network broke it off: `UC`.
    Reset,
    /// We did, as it was silent for longer than its cluster allows.
    Idle,
    /// We did, as it had lasted for longer than its cluster allows.
    Expired,
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
        matches!(self, Self::Reset | Self::Idle | Self::Expired | Self::Aborted)
    }
}

/// Reads records out of the kernel.
pub(crate) struct Records {
    buffer: RingBuf<MapData>,
    clusters: DirectClusters,
}

impl Records {
    pub(crate) fn new(buffer: RingBuf<MapData>, clusters: DirectClusters) -> Self {
        Self { buffer, clusters }
    }

    /// What is to be waited for.
    pub(crate) fn buffer(&self) -> &RingBuf<MapData> {
        &self.buffer
    }

    /// The next one, if there is one.
    pub(crate) fn next(&mut self) -> Option<DirectRecord> {
        loop {
            let item = self.buffer.next()?;
            if let Ok(event) = DirectEvent::read_from_bytes(&item) {
                let mut record = record(&event, self.clusters.name(event.cluster));
                if let Some(why) = self.clusters.ended(event.original.cookie)
                    && record.end == DirectEnd::Reset
                {
                    record.end = why;
                }
                return Some(record);
            }
        }
    }
}

fn record(event: &DirectEvent, cluster: Option<Arc<str>>) -> DirectRecord {
    let since_start = |end: u64| Duration::from_nanos(end.saturating_sub(event.started_ns));
    let timeout = Duration::from_millis(event.connect_timeout_ms.into());
    let duration = since_start(event.ended_ns);
    let timed_out = !timeout.is_zero() && duration >= timeout;
    DirectRecord {
        socket: event.original.into(),
        cluster: cluster.unwrap_or_default(),
        endpoint: some(&event.endpoint),
        local: some(&event.local),
        started: wall_clock(event.started_ns),
        connect: (event.established_ns > 0).then(|| since_start(event.established_ns)),
        duration,
        sent: event.sent,
        received: event.received,
        rtt: Duration::from_micros(event.rtt_us.into()),
        retransmits: event.retransmits,
        end: match event.end {
            END_NO_ENDPOINT => DirectEnd::NoEndpoint,
            END_OVERFLOW => DirectEnd::Overflow,
            END_ABANDONED => DirectEnd::Abandoned,
            END_NOT_STARTED => DirectEnd::NotStarted,
            END_CLOSED => DirectEnd::Closed,
            END_RESET => DirectEnd::Reset,
            END_ABORTED => DirectEnd::Aborted,
            _ => DirectEnd::ConnectFailed { timed_out },
        },
        protocol: if event.protocol == PROTOCOL_UDP {
            DirectProtocol::Udp
        } else {
            DirectProtocol::Tcp
        },
        errno: match event.end {
            END_NOT_STARTED => libc::ENETUNREACH,
            END_CONNECT_FAILED if timed_out => libc::ETIMEDOUT,
            END_CONNECT_FAILED => libc::ECONNREFUSED,
            _ => i32::try_from(event.errno).unwrap_or(0),
        },
    }
}

fn some(endpoint: &Endpoint) -> Option<SocketAddr> {
    Some(endpoint.socket_addr()).filter(|address| address.port() != 0)
}
