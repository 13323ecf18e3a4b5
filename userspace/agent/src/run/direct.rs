//! The direct path, between the crates that do not know each other: what the proxy knows of clusters
//! goes to the kernel, and what the kernel says of connections goes to records and to the proxy.

mod adapt;
mod tending;

use std::{collections::HashMap, sync::Arc};

use egressd_datapath::{DirectClusters, DirectEnd as End, DirectProtocol, DirectRecord};
use egressd_proxy::{
    Direct, DirectEnd, DirectSink, DirectView, FlowRecord, Resolver, Snapshot, SocketFactory,
    UpstreamAddr,
};
use egressd_tables::Tables;
use serde_json::json;

use self::tending::Tending;
use super::Failure;

/// Everything about the direct path that runs.
pub(super) struct DirectPath {
    clusters: DirectClusters,
    direct: Arc<Direct>,
    _tending: Tending,
}

/// What hears of connections, on the thread that reads the kernel's events.
pub(super) struct Hearing(Arc<Direct>);

/// The kernel, as the proxy tells it of clusters.
struct Kernel {
    clusters: DirectClusters,
    factory: Arc<SocketFactory>,
}

impl DirectPath {
    /// Starts without a cluster.
    pub(super) fn start(
        clusters: DirectClusters,
        snapshot: &Snapshot,
        resolver: Arc<dyn Resolver>,
        factory: &Arc<SocketFactory>,
    ) -> Result<Self, Failure> {
        let (kernel, factory) = (clusters.clone(), Arc::clone(factory));
        let sink = Arc::new(Kernel { clusters: kernel, factory });
        let direct = Direct::start(snapshot, resolver, sink)
            .map_err(Failure::machine("starting the thread of the direct path"))?;
        let direct = Arc::new(direct);
        let tending = Tending::start(clusters.clone(), Arc::clone(&direct))
            .map_err(Failure::machine("starting the thread that tends direct connections"))?;
        Ok(Self { clusters, direct, _tending: tending })
    }

    /// Hears of connections.
    pub(super) fn hearing(&self) -> Hearing {
        Hearing(Arc::clone(&self.direct))
    }

    /// Tells the kernel of the clusters of a generation that is about to be in force.
    pub(super) fn follow(&self, tables: &Tables) {
        self.direct.follow(tables);
    }

    /// Adds connections under way to those of the proxy, by cluster.
    pub(super) fn add_active(&self, active: &mut HashMap<Arc<str>, u32>) {
        for counts in self.clusters.counts().into_iter().filter(|counts| counts.active > 0) {
            let sum = active.entry(counts.cluster).or_insert(0);
            *sum = sum.saturating_add(u32::try_from(counts.active).unwrap_or(u32::MAX));
        }
    }

    /// What `egressd status` shows: sums, and the clusters with connections under way.
    pub(super) fn status(&self) -> serde_json::Value {
        let all = self.clusters.counts();
        let busy = all.iter().filter(|counts| counts.active > 0);
        let busy: serde_json::Map<_, _> =
            busy.map(|counts| (counts.cluster.to_string(), counts.active.into())).collect();
        json!({
            "active": all.iter().map(|counts| counts.active).sum::<u64>(),
            "begun": all.iter().map(|counts| counts.begun).sum::<u64>(),
            "refused": all.iter().map(|counts| counts.refused).sum::<u64>(),
            "clusters": busy,
        })
    }

    /// Connections of each cluster and endpoint, for `egressd config` and tests.
    pub(super) fn counts(&self) -> serde_json::Value {
        let all = self.clusters.counts().into_iter().map(|counts| {
            let endpoints = counts.endpoints.iter().map(|(address, active, begun)| {
                json!({"address": address.to_string(), "active": active, "begun": begun})
            });
            json!({
                "cluster": *counts.cluster,
                "active": counts.active,
                "begun": counts.begun,
                "refused": counts.refused,
                "endpoints": endpoints.collect::<Vec<_>>(),
            })
        });
        all.collect()
    }
}

impl Hearing {
    /// Learns of a connection that is over, and gives its record.
    pub(super) fn hear(&self, record: &DirectRecord) -> FlowRecord {
        if let (Some(endpoint), DirectProtocol::Tcp) = (record.endpoint, record.protocol) {
            let seen = match record.end {
                End::ConnectFailed { .. } => Some(DirectEnd::NotConnected),
                End::Reset => Some(DirectEnd::Reset),
                End::Closed | End::Aborted | End::Idle | End::Expired => Some(DirectEnd::Ended),
                End::NoEndpoint | End::Overflow | End::Abandoned | End::NotStarted => None,
            };
            if let Some(seen) = seen {
                self.0.observe(&record.cluster, endpoint, seen);
            }
        }
        adapt::record(record)
    }
}

impl DirectSink for Kernel {
    fn publish(&self, cluster: &Arc<str>, view: &DirectView) {
        let refused = adapt::endpoints(view).find_map(|endpoint| {
            let to = UpstreamAddr::Ip(endpoint.addr);
            self.factory.guard().check(&to).err().map(|reason| (to, reason))
        });
        let view = match refused {
            None => adapt::view(view),
            Some((endpoint, reason)) => {
                // The proxy refuses it by name.
                tracing::warn!(%cluster, %endpoint, %reason, "a cluster is left to the proxy");
                egressd_datapath::DirectView::default()
            }
        };
        self.set(cluster, &view);
    }

    fn forget(&self, cluster: &str) {
        self.set(cluster, &egressd_datapath::DirectView::default());
    }
}

impl Kernel {
    fn set(&self, cluster: &str, view: &egressd_datapath::DirectView) {
        let Err(error) = self.clusters.set_cluster(cluster, view) else { return };
        tracing::warn!(%error, cluster, "a cluster is left to the proxy");
        // What held before must not: its endpoints may be gone.
        let unknown = egressd_datapath::DirectView::default();
        if let Err(error) = self.clusters.set_cluster(cluster, &unknown) {
            tracing::error!(%error, cluster, "the kernel goes by what was true before");
        }
    }
}
