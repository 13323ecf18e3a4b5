//! The direct path: what the kernel knows of clusters and endpoints, and what it tells of connections.
//!
//! A row with [`RowVerdict::Direct`](crate::RowVerdict) names a [`DirectRoute`] of its generation; the
//! route names clusters by *slot*, a number that stays with a cluster's name over generations and, with
//! pinned maps, over restarts. A [`ClusterSlot`] holds the counters and the number of the [`View`] in
//! force: which endpoints may be sent to, how they are chosen, and the limits. A view is written where
//! nobody reads and then put in force by one word.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    addr::Endpoint,
    datagram::DatagramSocket,
    handoff::{Original, SocketState, Tuple},
};

/// What the programs and maps of one daemon have in common with those of the next: the number that pins are
/// kept under. It changes with the sizes of what is pinned, and with `REVISION`.
pub const LAYOUT: u32 = {
    let sizes = [
        REVISION,
        size_of::<SocketState>(),
        size_of::<Tuple>(),
        size_of::<Original>(),
        size_of::<DirectSocket>(),
        size_of::<DatagramSocket>(),
        size_of::<ClusterSlot>(),
        size_of::<View>(),
        size_of::<Level>(),
        size_of::<EndpointRow>(),
        size_of::<EndpointSlot>(),
        size_of::<Flow>(),
        size_of::<DirectEvent>(),
        MAX_CLUSTER_NAME,
        MAX_CLUSTERS as usize,
        MAX_VIEWS as usize,
        MAX_LEVELS as usize,
        MAX_ENDPOINT_ROWS as usize,
        MAX_ENDPOINTS as usize,
        MAX_FLOWS as usize,
        crate::COUNTERS as usize,
    ];
    let mut number = 0;
    let mut index = 0;
    while index < sizes.len() {
        number = crate::mix(number ^ sizes[index] as u64);
        index += 1;
    }
    number as u32
};

/// To be raised when something that is pinned keeps its size and changes its meaning.
const REVISION: usize = 2;

/// Routes of one generation.
pub const MAX_DIRECT_ROUTES: u32 = 16_384;
/// Clusters that one route divides its connections among.
pub const MAX_ROUTE_CLUSTERS: u32 = 8;
/// Clusters in all.
pub const MAX_CLUSTERS: u32 = 16_384;
/// Views: those in force, and those that are being replaced.
pub const MAX_VIEWS: u32 = 2 * MAX_CLUSTERS;
/// Levels of all views.
pub const MAX_LEVELS: u32 = 2 * MAX_VIEWS;
/// Levels (priorities) of one view.
pub const MAX_VIEW_LEVELS: u32 = 8;
/// Rows of endpoints of all levels of all views.
pub const MAX_ENDPOINT_ROWS: u32 = 262_144;
/// Endpoints of one level.
pub const MAX_LEVEL_ENDPOINTS: u32 = 1024;
/// Endpoints of a level with a choice by source address, for which each is looked at.
pub const MAX_HASHED_ENDPOINTS: u32 = 128;
/// Endpoints in all: each address once for each cluster that has it.
pub const MAX_ENDPOINTS: u32 = 131_072;
/// Connections under way.
pub const MAX_FLOWS: u32 = 262_144;
/// Stands where a connection has no endpoint of its own.
pub const NO_ENDPOINT: u32 = u32::MAX;
/// The longest name of a cluster, in bytes.
pub const MAX_CLUSTER_NAME: usize = 344;
/// A limit that there is not.
pub const NO_LIMIT: u32 = u32::MAX;

/// Where the connections of a row go: to one cluster, or to several by weight.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct DirectRoute {
    /// How many of `targets` are used; 0 for a route that nobody may take.
    pub count: u32,
    /// The sum of the weights.
    pub total: u32,
    /// The clusters.
    pub targets: [RouteTarget; MAX_ROUTE_CLUSTERS as usize],
}

const _: () = assert!(size_of::<DirectRoute>() == 72);

/// A cluster of a route.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct RouteTarget {
    /// The sum of the weights up to and including this one's.
    pub end: u32,
    /// The cluster's slot.
    pub cluster: u32,
}

const _: () = assert!(size_of::<RouteTarget>() == 8);

/// What stays with a cluster as long as it is known. Written by atomic operations only.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ClusterSlot {
    /// The number of the view in force plus one; 0 while nothing is known of the endpoints.
    pub view: u32,
    /// Nothing.
    pub reserved: u32,
    /// Connections under way, those being made included.
    pub active: u64,
    /// How many choices have been made in turn.
    pub turn: u64,
    /// Connections that were begun.
    pub begun: u64,
    /// Connections that were refused, for want of an endpoint or because there were too many.
    pub refused: u64,
    /// Conversations in datagrams.
    pub conversations: u64,
}

const _: () = assert!(size_of::<ClusterSlot>() == 48);

/// [`View::kind`]: every connection is refused, as no endpoint may be sent to.
pub const VIEW_EMPTY: u8 = 1;
/// [`View::kind`]: one of the endpoints is chosen.
pub const VIEW_ENDPOINTS: u8 = 2;
/// [`View::kind`]: the endpoint is the destination itself, perhaps with another port.
pub const VIEW_ORIGINAL: u8 = 3;

/// [`View::balance`]: of two drawn by weight, the one with fewer connections for its weight.
pub const BALANCE_LEAST_REQUEST: u8 = 1;
/// [`View::balance`]: in turn.
pub const BALANCE_ROUND_ROBIN: u8 = 2;
/// [`View::balance`]: at random.
pub const BALANCE_RANDOM: u8 = 3;
/// [`View::balance`]: by the application's address.
pub const BALANCE_SOURCE_IP: u8 = 4;

/// What holds for new connections of a cluster.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct View {
    /// One of the `VIEW_` constants.
    pub kind: u8,
    /// One of the `BALANCE_` constants.
    pub balance: u8,
    /// 1 where keep-alive is asked for.
    pub keepalive: u8,
    /// Nothing.
    pub reserved: u8,
    /// The port of [`VIEW_ORIGINAL`], in network order; 0 for that of the destination.
    pub port: [u8; 2],
    /// Nothing.
    pub reserved_too: u16,
    /// Connections at the same time, or [`NO_LIMIT`].
    pub max_connections: u32,
    /// How long a connect() may take, in milliseconds; 0 for what the kernel thinks.
    pub connect_timeout_ms: u32,
    /// The same in jiffies, where it is less than a second; else 0.
    pub connect_timeout_jiffies: u32,
    /// Seconds without data before the first probe; 0 for what the kernel thinks.
    pub keepalive_idle: u32,
    /// Seconds between probes; 0 for what the kernel thinks.
    pub keepalive_interval: u32,
    /// Probes before the connection is given up; 0 for what the kernel thinks.
    pub keepalive_probes: u32,
    /// The levels of endpoints: all, those that a socket of IPv4 reaches, and those of IPv6.
    pub levels: [Levels; 3],
}

const _: () = assert!(size_of::<View>() == 56);

/// [`View::levels`] for sockets that reach both families.
pub const LEVELS_ANY: usize = 0;
/// [`View::levels`] for sockets that reach IPv4 only.
pub const LEVELS_V4: usize = 1;
/// [`View::levels`] for sockets that reach IPv6 only.
pub const LEVELS_V6: usize = 2;

/// A run of levels.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Levels {
    /// The first one.
    pub first: u32,
    /// How many; 0 if no endpoint is within reach.
    pub count: u32,
}

const _: () = assert!(size_of::<Levels>() == 8);

/// Endpoints of one priority.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Level {
    /// The share of the load up to and including this level's, in percent.
    pub load_end: u32,
    /// The first row of its endpoints.
    pub first: u32,
    /// How many endpoints; never 0.
    pub count: u32,
    /// The sum of their weights; never 0.
    pub total: u32,
    /// See [`crate::turn_step`].
    pub step: u32,
    /// 1 if all weights are the same.
    pub even: u32,
}

const _: () = assert!(size_of::<Level>() == 24);

/// An endpoint in a level.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EndpointRow {
    /// The sum of the weights up to and including this one's.
    pub end: u32,
    /// The endpoint's slot.
    pub slot: u32,
}

const _: () = assert!(size_of::<EndpointRow>() == 8);

/// What stays with an endpoint of a cluster as long as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EndpointSlot {
    /// Where it is.
    pub address: Endpoint,
    /// The slot of its cluster plus one; 0 for an endpoint that nobody has.
    pub cluster: u32,
    /// The same for an address in every process: see [`crate::ticket`].
    pub hash: u64,
    /// Connections under way; written by atomic operations only.
    pub active: u64,
    /// Connections that were begun; written by atomic operations only.
    pub begun: u64,
    /// Conversations in datagrams.
    pub conversations: u64,
    /// 1 as long as it is in the view in force.
    pub usable: u32,
    /// Nothing.
    pub reserved: u32,
}

const _: () = assert!(size_of::<EndpointSlot>() == 64);

/// A connection that is counted. Whoever removes the entry takes it from the counts: nobody else
/// can do that a second time.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    /// The cookie of the application's socket.
    pub cookie: u64,
    /// When connect() was called, in nanoseconds of CLOCK_MONOTONIC.
    pub started_ns: u64,
}

const _: () = assert!(size_of::<FlowKey>() == 16);

/// What is counted of a connection, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// The cluster's slot.
    pub cluster: u32,
    /// The endpoint's slot, or [`NO_ENDPOINT`].
    pub endpoint: u32,
    /// The network namespace of the socket.
    pub netns: u64,
    /// 1 once a SYN was sent: from then on the end of the connection is heard of.
    pub started: u32,
    /// Nothing.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Flow>() == 24);

/// [`DirectSocket::phase`]: connect() has chosen, and no SYN was sent.
pub const PHASE_CHOSEN: u64 = 1;
/// [`DirectSocket::phase`]: a SYN was sent.
pub const PHASE_CONNECTING: u64 = 2;
/// [`DirectSocket::phase`]: the handshake is over.
pub const PHASE_ESTABLISHED: u64 = 3;
/// [`DirectSocket::phase`]: the connection was reported.
pub const PHASE_OVER: u64 = 4;

/// What the application's socket carries from connect() to close().
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirectSocket {
    /// What was dialled.
    pub original: Original,
    /// Where the connection goes.
    pub endpoint: Endpoint,
    /// The cluster's slot.
    pub cluster: u32,
    /// One of the `PHASE_` constants.
    pub phase: u64,
    /// When connect() was called, in nanoseconds of CLOCK_MONOTONIC.
    pub started_ns: u64,
    /// When the handshake was over.
    pub established_ns: u64,
    /// Bytes that had been received when our FIN was acknowledged.
    pub received_at_fin: u64,
    /// [`View::connect_timeout_ms`].
    pub connect_timeout_ms: u32,
    /// [`View::connect_timeout_jiffies`].
    pub connect_timeout_jiffies: u32,
    /// The application's own TCP_USER_TIMEOUT, in milliseconds.
    pub user_timeout_ms: u32,
    /// 1 while [`DirectSocket::user_timeout_ms`] waits to be put back.
    pub restore: u32,
    /// 1 from the application's close() on.
    pub released: u32,
    /// 1 when the far end's FIN has arrived.
    pub fin_received: u32,
    /// 1 when the application's FIN has gone out.
    pub fin_sent: u32,
    /// [`View::keepalive`].
    pub keepalive: u32,
    /// The endpoint's slot, or [`NO_ENDPOINT`].
    pub slot: u32,
    /// Nothing.
    pub reserved: u32,
}

const _: () = assert!(size_of::<DirectSocket>() == 160);

/// [`DirectEvent::end`]: no endpoint may be sent to; `UH`.
pub const END_NO_ENDPOINT: u32 = 1;
/// [`DirectEvent::end`]: too many connections; `UO`.
pub const END_OVERFLOW: u32 = 2;
/// [`DirectEvent::end`]: the handshake failed; `UF`.
pub const END_CONNECT_FAILED: u32 = 3;
/// [`DirectEvent::end`]: the application gave up before the handshake was over.
pub const END_ABANDONED: u32 = 4;
/// [`DirectEvent::end`]: both ends have closed.
pub const END_CLOSED: u32 = 5;
/// [`DirectEvent::end`]: the far end or the network broke it off; `UC`.
pub const END_RESET: u32 = 6;
/// [`DirectEvent::end`]: the application broke it off.
pub const END_ABORTED: u32 = 7;

/// [`DirectEvent::end`]: there was no SYN, for a reason of the host's own.
pub const END_NOT_STARTED: u32 = 8;

/// [`DirectEvent::protocol`] of TCP.
pub const PROTOCOL_TCP: u32 = 6;
/// [`DirectEvent::protocol`] of UDP.
pub const PROTOCOL_UDP: u32 = 17;

/// The record of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirectEvent {
    /// What was dialled and by whom.
    pub original: Original,
    /// Where the connection went; all zero if nowhere.
    pub endpoint: Endpoint,
    /// The application's end; all zero if there was no SYN.
    pub local: Endpoint,
    /// The cluster's slot.
    pub cluster: u32,
    /// One of the `END_` constants.
    pub end: u32,
    /// When connect() was called, in nanoseconds of CLOCK_MONOTONIC.
    pub started_ns: u64,
    /// When the handshake was over; 0 if never.
    pub established_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// Bytes that the application sent; after an abort, those of them that were acknowledged.
    pub sent: u64,
    /// Bytes that arrived for the application.
    pub received: u64,
    /// The smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// [`PROTOCOL_TCP`] or [`PROTOCOL_UDP`].
    pub protocol: u32,
    /// [`DirectSocket::connect_timeout_ms`].
    pub connect_timeout_ms: u32,
    /// What connect() returned where the kernel refused it; else 0.
    pub errno: u32,
    /// Nothing.
    pub reserved: u32,
}

const _: () = assert!(size_of::<DirectEvent>() == 176);

impl DirectRoute {
    /// The cluster whose share of the total holds `point`, which is less than the total.
    #[inline(always)]
    pub fn cluster(&self, point: u32) -> u32 {
        let mut chosen = self.targets[0].cluster;
        let mut index = 1;
        while index < MAX_ROUTE_CLUSTERS as usize {
            if (index as u32) < self.count && self.targets[index - 1].end <= point {
                chosen = self.targets[index].cluster;
            }
            index += 1;
        }
        chosen
    }
}

impl EndpointSlot {
    /// A new endpoint.
    pub const fn new(address: Endpoint, hash: u64, cluster: u32) -> Self {
        Self {
            address,
            cluster: cluster + 1,
            hash,
            active: 0,
            begun: 0,
            conversations: 0,
            usable: 1,
            reserved: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn routes_divide_by_weight() {
        let mut route = DirectRoute { count: 3, total: 10, ..DirectRoute::default() };
        for (index, (end, cluster)) in [(5, 7), (8, 8), (10, 9)].into_iter().enumerate() {
            route.targets[index] = RouteTarget { end, cluster };
        }
        let chosen: Vec<u32> = (0..10).map(|point| route.cluster(point)).collect();
        assert_eq!(chosen, [7, 7, 7, 7, 7, 8, 8, 8, 9, 9]);
        let one = DirectRoute { count: 1, total: 1, ..route };
        assert_eq!(one.cluster(0), 7);
    }
}
