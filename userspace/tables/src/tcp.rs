//! Relaying opaque bytes: where a connection goes and how long it may be idle.

use std::sync::Arc;
use std::time::Duration;

use egressd_model::resource::Key;

use crate::cluster::{ClusterRef, Tunnel};
use crate::route::pick;

/// Where the connections of a filter chain go.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpRoute {
    /// The clusters with their weights, drawn once a connection; at least one.
    pub clusters: Vec<(ClusterRef, u32)>,
    /// Whether a VirtualService gives weights, even to one cluster.
    pub weighted: bool,
    /// When a relay without bytes is closed. Default 1 h; nothing: never.
    pub idle_timeout: Option<Duration>,
    /// After which the connection is closed whatever happens on it. Default never.
    pub max_duration: Option<Duration>,
    /// Whether consistent hashing looks at the client's address; other keys do not act here.
    pub hash_source_ip: bool,
    /// The request that opens the way to the real target.
    pub tunnel: Option<Tunnel>,
    /// The VirtualService it comes from; nothing for a service's own.
    pub virtual_service: Option<Key>,
}

/// Idle time after which a relay is closed where nothing else is said.
pub const TCP_IDLE: Duration = Duration::from_secs(3600);

impl TcpRoute {
    /// A route to one cluster.
    pub(crate) fn to(cluster: ClusterRef) -> Self {
        Self {
            clusters: vec![(cluster, 1)],
            weighted: false,
            idle_timeout: Some(TCP_IDLE),
            max_duration: None,
            hash_source_ip: false,
            tunnel: None,
            virtual_service: None,
        }
    }

    /// One cluster, by a random number that the caller draws.
    pub fn pick(&self, random: u64) -> Option<&ClusterRef> {
        match self.clusters.as_slice() {
            [(only, _)] => Some(only),
            several => pick(several, |(_, weight)| *weight, random).map(|(cluster, _)| cluster),
        }
    }

    /// The result in the words of the conformance data.
    pub fn result(&self) -> &str {
        match self.clusters.first() {
            Some((cluster, _)) if !self.weighted => cluster.name(),
            _ => "weighted tcp (see listeners)",
        }
    }

    /// The names of all clusters.
    pub fn cluster_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.clusters.iter().map(|(cluster, _)| cluster.name())
    }
}
