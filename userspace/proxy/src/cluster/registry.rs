//! The clusters in use, by name: where a cluster's counters outlive the generation that made it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
};

use egressd_tables as tables;

use super::{Changes, Cluster, ClusterSpec, Shared, changes::Told};
use crate::FastMap;

/// Every cluster that a connection has gone to, under its name.
///
/// Filled as clusters are met, so that a reload costs nothing for the thousands that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    known: RwLock<FastMap<Arc<str>, Entry>>,
    /// Told whenever the endpoints of a cluster that may be sent to are others than before.
    changes: Arc<Changes>,
}

#[derive(Debug)]
struct Entry {
    /// What `cluster` was made from.
    origin: Arc<tables::Cluster>,
    cluster: Arc<Cluster>,
}

impl Registry {
    /// The run-time side of a cluster of the tables.
    pub(crate) fn get(&self, origin: &Arc<tables::Cluster>) -> Arc<Cluster> {
        {
            let clusters = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = clusters.get(&origin.name)
                && Arc::ptr_eq(&entry.origin, origin)
            {
                return Arc::clone(&entry.cluster);
            }
        }
        let mut clusters = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let spec = ClusterSpec::new(origin);
        let cluster = match clusters.get(&origin.name) {
            // The same cluster in a new generation keeps what it knows, answers included.
            Some(known) if known.cluster.spec == spec => Arc::clone(&known.cluster),
            Some(known) => Arc::new(Cluster::with_shared(spec, Arc::clone(&known.cluster.shared))),
            None => {
                let told = Told::new(Arc::clone(&self.changes), Arc::clone(&origin.name));
                let shared = Shared { told: Some(told), ..Shared::default() };
                Arc::new(Cluster::with_shared(spec, Arc::new(shared)))
            }
        };
        let entry = Entry { origin: Arc::clone(origin), cluster: Arc::clone(&cluster) };
        clusters.insert(Arc::clone(&origin.name), entry);
        cluster
    }

    /// The cluster of this name, if a connection has gone to it.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<Cluster>> {
        let clusters = self.known.read().unwrap_or_else(PoisonError::into_inner);
        clusters.get(name).map(|entry| Arc::clone(&entry.cluster))
    }

    /// Tells of clusters whose endpoints are others than before.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Connections under way, of clusters that have any.
    pub(crate) fn active(&self) -> HashMap<Arc<str>, u32> {
        let clusters = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let active = clusters.iter().map(|(name, entry)| {
            (Arc::clone(name), entry.cluster.shared.connections.load(Ordering::Relaxed))
        });
        active.filter(|(_, count)| *count > 0).collect()
    }

    /// Forgets clusters that `keep` does not know and that have no connections.
    pub(crate) fn prune(&self, keep: impl Fn(&str) -> bool) {
        let mut clusters = self.known.write().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|name, entry| {
            let in_use =
                [Arc::strong_count(&entry.cluster.shared), Arc::strong_count(&entry.cluster)];
            keep(name) || in_use.iter().any(|count| *count > 1)
        });
    }
}
