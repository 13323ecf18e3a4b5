//! What the rest of egressd says about a cluster whose connections take the direct path.

use std::{net::SocketAddr, sync::Arc, time::Duration};

/// Where the connections of one or more rows go: the clusters and their weights. At most 8; a weight of
/// 0 gets nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectRoute {
    /// The name of each cluster, and its weight.
    pub clusters: Vec<(Arc<str>, u32)>,
}

/// What holds for new connections of a cluster from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectView {
    /// Where they go.
    pub target: DirectTarget,
    /// How an endpoint is chosen.
    pub balance: DirectBalance,
    /// What they may do.
    pub limits: DirectLimits,
}

/// Where the connections of a cluster go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DirectTarget {
    /// Not known yet: they are turned to the proxy.
    #[default]
    Unknown,
    /// To one of these endpoints, the levels by priority: at most 8 of 1,024 endpoints each. None at
    /// all: connect() fails, and the record says so.
    Endpoints(Vec<DirectLevel>),
    /// To the address that was dialled: on this port, if there is one.
    Original {
        /// The port, in host order.
        port: Option<u16>,
    },
}

/// The endpoints of one priority that may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectLevel {
    /// The share of the load up to and including this level's, in percent; 100 for the last.
    pub load_end: u32,
    /// Not empty.
    pub endpoints: Vec<DirectEndpoint>,
}

/// One endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectEndpoint {
    /// Where it is. Whether it is a VIP, a spread address or a listener of ours is the caller's to check.
    pub address: SocketAddr,
    /// Its share among the endpoints of its level; 0 counts as 1.
    pub weight: u64,
    /// The same for an address in every process: for [`DirectBalance::SourceIp`].
    pub hash: u64,
}

/// How an endpoint is chosen; each as the proxy does it, with the arithmetic of `egressd_abi`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DirectBalance {
    /// Of two drawn by weight, the one with fewer connections for its weight.
    #[default]
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// By the application's address: the one its socket is bound to, else that of loopback, which is
    /// also what the proxy sees of a connection that was turned to it.
    SourceIp,
}

/// What the connections of a cluster may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectLimits {
    /// At the same time.
    pub max_connections: Option<u32>,
    /// How long connect() may take; zero or `None` for as long as the kernel thinks.
    pub connect_timeout: Option<Duration>,
    /// Probes of silent connections.
    pub keepalive: Option<DirectKeepalive>,
    /// How long one may be silent in both directions.
    pub idle_timeout: Option<Duration>,
    /// How long one may last.
    pub max_duration: Option<Duration>,
}

/// Probes of silent connections; what is `None` is as the kernel thinks. Whole seconds, at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectKeepalive {
    /// How long a connection is silent before the first.
    pub idle: Option<Duration>,
    /// Between two.
    pub interval: Option<Duration>,
    /// How many without an answer are enough.
    pub probes: Option<u32>,
}
