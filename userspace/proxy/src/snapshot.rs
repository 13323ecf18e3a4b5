//! The generation in force.

use std::{collections::HashMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use egressd_tables::Tables;
use tokio::sync::watch;

use crate::{
    cluster::Registry,
    health::Checked,
    plan::{Generation, Router},
};

/// The generation in force, for all workers. Publishing a new one does not wait for anybody; each
/// connection is decided by the one that is in force when it arrives, and no later one touches it.
pub struct Snapshot {
    current: ArcSwap<Box<dyn Router>>,
    clusters: Arc<Registry>,
    /// The clusters that want to be checked.
    checked: watch::Sender<Checked>,
}

impl Snapshot {
    /// Starts with a first generation.
    pub fn new(tables: Arc<Tables>) -> Self {
        let clusters = Arc::<Registry>::default();
        let checked = watch::Sender::new(checked(&tables));
        let first = Generation { tables, clusters: Arc::clone(&clusters) };
        Self { current: ArcSwap::from_pointee(Box::new(first)), clusters, checked }
    }

    /// Puts a new generation in force: when this returns, every new connection is decided by it.
    /// Counters of clusters that are still there go on.
    pub fn publish(&self, tables: Arc<Tables>) {
        let next = Generation { tables: Arc::clone(&tables), clusters: Arc::clone(&self.clusters) };
        self.current.store(Arc::new(Box::new(next)));
        self.clusters.prune(|name| tables.cluster(name).is_some());
        self.checked.send_replace(checked(&tables));
    }

    /// Connections of flows of bytes that are under way, by cluster.
    pub fn active(&self) -> HashMap<Arc<str>, u32> {
        self.clusters.active()
    }

    /// A snapshot that decides as a test says.
    #[cfg(test)]
    pub(crate) fn of(router: impl Router + 'static) -> Self {
        let (current, clusters) = (ArcSwap::from_pointee(Box::new(router) as _), Arc::default());
        Self { current, clusters, checked: watch::Sender::default() }
    }

    /// The clusters in use, whatever the generation.
    pub(crate) fn clusters(&self) -> &Arc<Registry> {
        &self.clusters
    }

    /// The clusters that want to be checked, now and later.
    pub(crate) fn checked(&self) -> watch::Receiver<Checked> {
        self.checked.subscribe()
    }

    /// The generation in force.
    pub(crate) fn load(&self) -> Arc<Box<dyn Router>> {
        self.current.load_full()
    }
}

fn checked(tables: &Tables) -> Checked {
    tables.clusters().filter(|cluster| cluster.health_check.is_some()).cloned().collect()
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}
