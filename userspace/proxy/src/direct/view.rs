//! What the kernel must know of a cluster to choose an endpoint by itself.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use crate::socket::Keepalive;

/// A cluster as it may be sent to right now. Equal to what the proxy itself goes by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectView {
    /// What holds for its connections.
    pub limits: DirectLimits,
    /// Where they go.
    pub endpoints: DirectEndpoints,
}

/// What holds for the connections of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectLimits {
    /// Connections there may be at once; `u32::MAX` for no limit.
    pub max_connections: u32,
    /// Limit for one attempt to connect.
    pub connect_timeout: Duration,
    /// Probes on idle connections; `None` leaves them to the application.
    pub keepalive: Option<Keepalive>,
    /// Idle time after which a connection is ended; `None` for never.
    pub idle_timeout: Option<Duration>,
    /// After which a connection is ended whatever happens on it; `None` for never.
    pub max_duration: Option<Duration>,
}

/// Where the connections of a cluster go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DirectEndpoints {
    /// Nothing is known yet: the proxy finds out.
    Unknown,
    /// Nowhere: there is no endpoint, or none may be sent to. Flag `UH`.
    None,
    /// To the address dialled, on this port.
    Original(u16),
    /// To one of these.
    Chosen {
        /// How one is chosen.
        balance: DirectBalance,
        /// By priority; none is empty.
        levels: Vec<DirectLevel>,
    },
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectBalance {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two drawn by weight.
    LeastRequest,
    /// Drawn by weight.
    Random,
    /// By the application's address, the same for the same address.
    SourceIp,
}

/// The endpoints of one priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectLevel {
    /// The share of the load up to and including this level's, in percent; the last one's is 100.
    pub load: u64,
    /// The endpoints; at least one.
    pub hosts: Vec<DirectHost>,
}

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectHost {
    /// Where it is.
    pub addr: SocketAddr,
    /// Share within its level; at least 1.
    pub weight: u64,
    /// The same for an address in every process: what is hashed together with the application's
    /// address.
    pub hash: u64,
}

impl DirectView {
    /// Whether the endpoints are not known.
    pub fn is_unknown(&self) -> bool {
        self.endpoints == DirectEndpoints::Unknown
    }

    /// A number that tells a view from the one before it.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}
