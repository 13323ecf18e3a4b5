//! How an endpoint is chosen (semantics.md §4, loadBalancer).

use std::sync::Arc;
use std::time::Duration;

/// The choice among the endpoints of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancer {
    /// The algorithm.
    pub policy: LbPolicy,
    /// Whether the groups of one priority are chosen by their weight before an endpoint is.
    pub locality_weighted: bool,
    /// How a new endpoint's share grows; off by default.
    pub warmup: Option<Warmup>,
    /// Below this share of healthy endpoints, in percent, health is ignored. Default 0: never.
    pub panic_threshold: f64,
    /// What the hash of RING_HASH and MAGLEV is taken of. For opaque bytes only the source address
    /// acts. A request without the key gets a random endpoint.
    pub hash: Option<HashPolicy>,
}

/// The algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LbPolicy {
    /// Of two endpoints drawn by weight, the one with fewer requests under way. The default.
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// At random.
    Random,
    /// Consistent hashing on a ring of at least this many entries. Default 1024.
    RingHash {
        /// Entries.
        minimum_size: u64,
    },
    /// Maglev hashing with a table of this prime size. Default 65537.
    Maglev {
        /// Entries.
        table_size: u64,
    },
    /// There is nothing to choose: the destination or the name decides.
    ClusterProvided,
}

impl LbPolicy {
    /// The name Envoy has for it.
    pub fn envoy_name(self) -> &'static str {
        match self {
            Self::LeastRequest => "LEAST_REQUEST",
            Self::RoundRobin => "ROUND_ROBIN",
            Self::Random => "RANDOM",
            Self::RingHash { .. } => "RING_HASH",
            Self::Maglev { .. } => "MAGLEV",
            Self::ClusterProvided => "CLUSTER_PROVIDED",
        }
    }
}

/// Slow start of a new endpoint; for LEAST_REQUEST and ROUND_ROBIN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// Until the full share is reached.
    pub duration: Duration,
    /// The share at the start, in percent. Default 10.
    pub minimum_percent: f64,
    /// The curve: 1 is linear, more is faster at first. Default 1.
    pub aggression: f64,
}

/// What a consistent hash is taken of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPolicy {
    /// The key.
    pub key: HashKey,
}

/// The part of a request or connection that is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The value of a header.
    Header(Arc<str>),
    /// The value of a cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Path given to a cookie that we issue.
        path: Option<Arc<str>>,
        /// Lifetime of a cookie that we issue where the request has none; 0 is a session cookie.
        /// Nothing: cookies are read and never issued.
        ttl: Option<Duration>,
        /// Further attributes of a cookie that we issue: name and value.
        attributes: Vec<(Arc<str>, Arc<str>)>,
    },
    /// The address of the client.
    SourceIp,
    /// The value of a query parameter.
    QueryParameter(Arc<str>),
}
