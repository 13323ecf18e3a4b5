//! Metrics by the names that people chart: Istio's for requests and connections, Envoy's for clusters
//! (semantics.md §7), and the daemon's own. All of them are counted from finished records, the same
//! ones that the access log prints.

mod numbers;
mod text;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use egressd_proxy::{FlowRecord, Outcome, ResponseFlag, TransportFailure};
use egressd_tables::{Node, Tables};

use self::numbers::Numbers;
use self::text::Exposition;

/// What every connection and request has come to, by cluster.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Who we are, as labels.
    source: String,
    clusters: RwLock<HashMap<Arc<str>, Arc<Numbers>>>,
}

impl Metrics {
    /// Nothing has happened yet.
    pub(crate) fn new(node: &Node) -> Self {
        Self { source: text::source(node), clusters: RwLock::default() }
    }

    /// Counts what a record tells.
    pub(crate) fn record(&self, record: &FlowRecord) {
        let numbers = self.of(name(record));
        match &record.http {
            Some(http) => {
                let flags = record.flags();
                numbers.request(http.status, http.grpc_status, flags, record);
                let cluster = &numbers.cluster;
                if flags.contains(ResponseFlag::UpstreamConnectionFailure) {
                    cluster.connect_fail.add(1);
                }
                if flags.contains(ResponseFlag::UpstreamOverflow) {
                    cluster.pending_overflow.add(1);
                }
                if flags.contains(ResponseFlag::UpstreamTimeout) {
                    cluster.timeout.add(1);
                }
                if flags.contains(ResponseFlag::RetryLimitExceeded) {
                    cluster.retry_limit_exceeded.add(1);
                }
            }
            None => {
                numbers.connection(record);
                let cluster = &numbers.cluster;
                match &record.outcome {
                    Outcome::Overflow => cluster.overflow.add(1),
                    Outcome::ConnectFailed(failure) => {
                        cluster.connections.add(1);
                        cluster.connect_fail.add(1);
                        if *failure == TransportFailure::Timeout {
                            cluster.connect_timeout.add(1);
                        }
                    }
                    Outcome::Completed
                    | Outcome::AppReset
                    | Outcome::UpstreamReset
                    | Outcome::UpstreamBroke(_)
                    | Outcome::IdleTimeout
                    | Outcome::DurationLimit
                    | Outcome::Drained => cluster.connections.add(1),
                    // No connection was tried.
                    Outcome::AppGone
                    | Outcome::NoRoute
                    | Outcome::NoCluster
                    | Outcome::NoHealthyUpstream
                    | Outcome::Unresolved
                    | Outcome::DnsFailure
                    | Outcome::DnsOverflow
                    | Outcome::Refused(_)
                    | Outcome::FlowLimit
                    | Outcome::NotTerminated(_)
                    | Outcome::Forgotten => {}
                }
            }
        }
        let cluster = &numbers.cluster;
        cluster.sent.add(record.bytes_received);
        cluster.received.add(record.bytes_sent);
    }

    /// Forgets clusters that a generation does not have.
    pub(crate) fn follow(&self, tables: &Tables) {
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        let known = |name: &str| !name.starts_with("outbound|") || tables.cluster(name).is_some();
        clusters.retain(|name, _| known(name));
    }

    /// All of them in Prometheus' text format. `active`: connections under way by cluster.
    pub(crate) fn expose(
        &self,
        tables: Option<&Tables>,
        active: &HashMap<Arc<str>, u32>,
        daemon: &serde_json::Value,
    ) -> String {
        let clusters = self.clusters.read().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = clusters.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| Arc::clone(name));
        let mut out = Exposition::new(&self.source, tables);
        out.clusters(&sorted, active);
        out.flows(&sorted, active);
        out.daemon(daemon);
        out.finish()
    }

    fn of(&self, name: &str) -> Arc<Numbers> {
        {
            let clusters = self.clusters.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(numbers) = clusters.get(name) {
                return Arc::clone(numbers);
            }
        }
        let mut clusters = self.clusters.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(clusters.entry(name.into()).or_default())
    }
}

/// The cluster's name, or what stands in its place: the policy that answered a request, or nothing.
fn name(record: &FlowRecord) -> &str {
    let policy = record.route_name.as_deref().filter(|name| *name == egressd_tables::BLOCK_ALL);
    record.cluster.as_deref().or(policy).unwrap_or("unknown")
}
