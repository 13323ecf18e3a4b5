//! Active health checks: probes that take endpoints out and bring them back (seeds.md 27).
//!
//! A check begins with the generation that asks for it, whether or not there is traffic, and ends with
//! the last one that does. Endpoints are good until probes say otherwise, so that a start is not an
//! outage; what a reload does not change goes on where it was.

mod endpoint;
mod probe;

use std::{collections::HashMap, sync::Arc};

use egressd_tables::Cluster;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use self::{endpoint::Watched, probe::Prober};
use crate::{cluster::Registry, resolve::Resolver};

pub(crate) use self::probe::Connectors;

/// The clusters of a generation that want to be checked.
pub(crate) type Checked = Arc<[Arc<Cluster>]>;

/// What checks need.
#[derive(Clone)]
pub(crate) struct Tools {
    /// Where endpoints' health is kept.
    pub(crate) clusters: Arc<Registry>,
    /// Resolves endpoints' names.
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Opens connections.
    pub(crate) connectors: Connectors,
}

/// Checks what the generation in force asks for, until there will be no further one.
pub(crate) async fn check_all(mut wanted: watch::Receiver<Checked>, tools: Tools) {
    let at_once = Arc::new(Semaphore::new(PROBES_AT_ONCE));
    let mut running: HashMap<Arc<str>, watch::Sender<Arc<Cluster>>> = HashMap::new();
    let mut checks = JoinSet::new();
    loop {
        let clusters = Checked::clone(&wanted.borrow_and_update());
        // Dropping the sender ends the check.
        running.retain(|name, _| clusters.iter().any(|cluster| cluster.name == *name));
        for cluster in clusters.iter() {
            if let Some(tell) = running.get(&cluster.name) {
                tell.send_replace(Arc::clone(cluster));
                continue;
            }
            let (tell, told) = watch::channel(Arc::clone(cluster));
            running.insert(Arc::clone(&cluster.name), tell);
            checks.spawn(check(told, tools.clone(), Arc::clone(&at_once)));
        }
        while checks.try_join_next().is_some() {}
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Checks one cluster, until nobody wants it any more.
async fn check(mut told: watch::Receiver<Arc<Cluster>>, tools: Tools, at_once: Arc<Semaphore>) {
    let mut watched = Watched::default();
    loop {
        let origin = Arc::clone(&told.borrow_and_update());
        let Some(settings) = &origin.health_check else { return };
        let prober = Arc::new(Prober::new(&origin, settings, tools.connectors.clone()));
        let mut beat = interval(settings.interval);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                changed = told.changed() => match changed {
                    Ok(()) => break,
                    Err(_nobody) => return,
                }
            }
            let cluster = tools.clusters.get(&origin);
            let Ok(hosts) = cluster.all_hosts(&*tools.resolver).await else { continue };
            watched.keep(cluster, &hosts);
            let mut probes = JoinSet::new();
            for host in hosts.iter() {
                let (prober, at_once) = (Arc::clone(&prober), Arc::clone(&at_once));
                let (addr, mesh) = (host.addr.clone(), host.mesh.clone());
                probes.spawn(async move {
                    let _one = at_once.acquire().await;
                    let well = prober.probe(&addr, &mesh).await;
                    (addr, well)
                });
            }
            while let Some(probed) = probes.join_next().await {
                if let Ok((addr, well)) = probed {
                    watched.note(&addr, well, settings);
                }
            }
        }
    }
}

/// Probes under way at once, over all clusters.
const PROBES_AT_ONCE: usize = 64;
