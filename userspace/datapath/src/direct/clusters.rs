//! The clusters of the direct path, for whoever knows their endpoints.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aya::Ebpf;

use super::{
    DirectEnd, DirectRoute, DirectView,
    slots::Slots,
    sweep::{Ended, Sweep, Swept},
};
use crate::{error::Error, rows::wait_for_readers};

/// Tells the kernel what it may do with the connections of clusters. Cheap to clone; any thread.
#[derive(Clone)]
pub struct DirectClusters {
    slots: Arc<Mutex<Slots>>,
    sweep: Arc<Mutex<Sweep>>,
    ended: Ended,
}

/// The connections of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectCounts {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Connections under way, those being made included.
    pub active: u64,
    /// Connections that were begun.
    pub begun: u64,
    /// Connections that were refused, for want of an endpoint or because there were too many.
    pub refused: u64,
    /// Each endpoint with its connections under way, and those that were begun.
    pub endpoints: Vec<(SocketAddr, u64, u64)>,
}

impl DirectClusters {
    pub(crate) fn take(bpf: &mut Ebpf) -> Result<Self, Error> {
        let slots = Arc::new(Mutex::new(Slots::take(bpf)?));
        let ended = Ended::default();
        let sweep = Arc::new(Mutex::new(Sweep::take(bpf, ended.clone())?));
        Ok(Self { slots, sweep, ended })
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what holds for new connections of a cluster from now on. Takes effect at once, in less than
    /// a millisecond; the same again does nothing. A cluster that no generation names yet may be told of
    /// as well; one that none names for a minute is forgotten.
    ///
    /// # Errors
    /// [`Error::TableFull`]: the kernel cannot hold it, and its connections are turned to the proxy.
    pub fn set_cluster(&self, name: &str, view: &DirectView) -> Result<(), Error> {
        self.slots().set(name, view)
    }

    /// The connections of every cluster that is known. No system call.
    pub fn counts(&self) -> Vec<DirectCounts> {
        self.slots().counts()
    }

    /// Takes connections out of the counts that are no longer there, and ends those that have reached
    /// a time limit. To be called each second, by a thread in our own network namespace that may wait
    /// some milliseconds.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&self) -> Result<Swept, Error> {
        let left = self.slots().take_left();
        wait_for_readers();
        self.slots().free(left);
        let mut sweep = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        sweep.run(&self.slots)
    }

    /// Why a connection was ended by [`DirectClusters::sweep`], if it was.
    pub(crate) fn ended(&self, cookie: u64) -> Option<DirectEnd> {
        self.ended.take(cookie)
    }

    /// The name of a cluster, by its slot.
    pub(crate) fn name(&self, slot: u32) -> Option<Arc<str>> {
        self.slots().name(slot)
    }

    /// The kernel's form of the routes of a generation, which is the first or the second.
    pub(crate) fn routes(
        &self,
        generation: usize,
        routes: &[DirectRoute],
    ) -> Result<Vec<egressd_abi::DirectRoute>, Error> {
        let mut slots = self.slots();
        let names = routes.iter().flat_map(|route| &route.clusters);
        slots.set_named(generation, names.map(|(name, _)| Arc::clone(name)).collect());
        routes.iter().map(|route| kernel_route(&mut slots, route)).collect()
    }
}

fn kernel_route(slots: &mut Slots, route: &DirectRoute) -> Result<egressd_abi::DirectRoute, Error> {
    use egressd_abi::{MAX_ROUTE_CLUSTERS, RouteTarget};
    let weighted: Vec<_> = route.clusters.iter().filter(|(_, weight)| *weight > 0).collect();
    if weighted.len() > MAX_ROUTE_CLUSTERS as usize {
        let (table, limit) = ("clusters of a direct route", MAX_ROUTE_CLUSTERS);
        return Err(Error::TableFull { table, limit, wanted: weighted.len() });
    }
    let mut kernel = egressd_abi::DirectRoute::default();
    for (target, (name, weight)) in kernel.targets.iter_mut().zip(weighted) {
        kernel.total = kernel.total.saturating_add(*weight);
        kernel.count += 1;
        *target = RouteTarget { end: kernel.total, cluster: slots.slot(name)? };
    }
    Ok(kernel)
}
