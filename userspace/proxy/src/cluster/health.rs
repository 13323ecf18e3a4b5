//! Who may be sent to: the endpoints of a cluster without those that are out.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use egressd_tables::OutlierDetection;
use tokio::time::Instant;

use super::{
    Cluster,
    host::{Host, HostSet, HostState},
    outlier::{InARow, Observation, Outliers},
};
use crate::addrs::UpstreamAddr;

/// What is known of an endpoint's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) failures: InARow,
    /// Out for misbehaving.
    ejected: AtomicBool,
    /// Out because probes fail.
    failing: AtomicBool,
}

/// What all generations of a cluster know of their endpoints' health.
#[derive(Debug, Default)]
pub(super) struct Healths {
    outliers: Outliers,
    /// Changes with anybody's health; 0 if everybody has always been well.
    epoch: AtomicU64,
}

/// The endpoints that may be sent to, as long as neither they nor their health change.
#[derive(Debug, Default)]
pub(super) struct View(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    epoch: u64,
    all: Arc<HostSet>,
    usable: Arc<HostSet>,
}

impl HostState {
    /// Whether it may be sent to.
    pub(super) fn is_healthy(&self) -> bool {
        !self.is_ejected() && !self.health.failing.load(Ordering::Relaxed)
    }

    /// Whether it is out for misbehaving.
    pub(super) fn is_ejected(&self) -> bool {
        self.health.ejected.load(Ordering::Relaxed)
    }

    pub(super) fn set_ejected(&self, out: bool) {
        self.health.ejected.store(out, Ordering::Relaxed);
    }
}

impl Healths {
    fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// When it is next looked at who may come back; `None` if nobody is out.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        self.outliers.next_sweep()
    }

    /// Brings back who has been out for long enough.
    pub(super) fn bring_back(&self, rules: Option<&OutlierDetection>) -> bool {
        let came_back = self.outliers.bring_back(rules);
        if came_back {
            self.changed();
        }
        came_back
    }
}

impl Cluster {
    /// Learns what became of a request or a connection to an endpoint.
    pub(crate) fn observe(&self, addr: &UpstreamAddr, state: &Arc<HostState>, seen: Observation) {
        let Some(rules) = &self.spec.outlier else { return };
        let Some(why) = state.health.failures.note(rules, seen) else { return };
        let health = &self.shared.health;
        if health.outliers.eject(rules, self.size(), addr, state) {
            self.health_changed();
            let cluster = &*self.spec.name;
            tracing::info!(cluster, endpoint = %addr, why, "an endpoint is taken out");
        }
    }

    /// Says that probes of an endpoint fail, or that they no longer do.
    pub(crate) fn set_failing(&self, addr: &UpstreamAddr, state: &HostState, failing: bool) {
        if state.health.failing.swap(failing, Ordering::Relaxed) == failing {
            return;
        }
        self.health_changed();
        let cluster = &*self.spec.name;
        tracing::info!(cluster, endpoint = %addr, failing, "probes of an endpoint");
    }

    fn health_changed(&self) {
        self.shared.health.changed();
        if let Some(told) = &self.shared.told {
            told.mark();
        }
    }

    /// Those of `all` that may be sent to.
    pub(super) fn usable(&self, all: Arc<HostSet>) -> Arc<HostSet> {
        let health = &self.shared.health;
        if health.epoch.load(Ordering::Acquire) == 0 {
            return all;
        }
        health.bring_back(self.spec.outlier.as_ref());
        let epoch = health.epoch.load(Ordering::Acquire);
        let mut view = self.view.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &*view
            && kept.epoch == epoch
            && Arc::ptr_eq(&kept.all, &all)
        {
            return Arc::clone(&kept.usable);
        }
        let usable = Arc::new(all.healthy(self.spec.panic_threshold));
        *view = Some(Kept { epoch, all, usable: Arc::clone(&usable) });
        usable
    }

    /// How many endpoints there are.
    fn size(&self) -> usize {
        let count = |set: &HostSet| set.levels.iter().map(|level| level.hosts.len()).sum();
        match &self.fixed {
            Some(fixed) => count(fixed),
            None => count(&self.resolved.lock().unwrap_or_else(PoisonError::into_inner).hosts),
        }
    }
}

impl HostSet {
    /// The healthy ones. `panic` is a share in percent: of a priority that has fewer healthy ones,
    /// all are used, unless the priorities together have enough.
    fn healthy(&self, panic: f64) -> Self {
        let healthy = |host: &&Host| host.state.is_healthy();
        let counts: Vec<_> = self
            .levels
            .iter()
            .map(|level| (level.hosts.iter().filter(healthy).count(), level.hosts.len()))
            .collect();
        // A priority with seven tenths of its endpoints can still carry all of its load.
        let able: Vec<_> =
            counts.iter().map(|(well, all)| (well * OVERPROVISIONED / all).min(100)).collect();
        let sum = able.iter().sum::<usize>();
        let mut set = Self::default();
        let mut carried = 0;
        for ((level, (well, all)), able) in self.levels.iter().zip(counts).zip(able) {
            let share = well as f64 * 100.0 / all as f64;
            let panics = sum < 100 && share < panic;
            let hosts: Vec<_> =
                level.hosts.iter().filter(|host| panics || healthy(host)).cloned().collect();
            if hosts.is_empty() {
                continue;
            }
            carried += if sum == 0 { 100 } else { able * 100 / sum.min(100) };
            set.loads.push(carried.min(100) as u64);
            set.levels.push(super::host::Level::new(hosts));
        }
        // What is lost to rounding is the last one's.
        if let Some(last) = set.loads.last_mut() {
            *last = 100;
        }
        set
    }
}

/// Percent of its present load that a priority could carry.
const OVERPROVISIONED: usize = 140;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::*;
    use crate::{
        cluster::Mesh,
        testing::{Names, cluster},
    };

    fn addr(number: u8) -> UpstreamAddr {
        SocketAddr::from(([10, 0, 0, number], 80)).into()
    }

    /// Priorities with so many endpoints, of which so many are well.
    fn loads(levels: &[(u8, u8)], panic: f64) -> Vec<(usize, u64)> {
        let states = super::super::host::HostStates::default();
        let mut set = HostSet::builder(&states);
        let mut number = 0;
        for (priority, (all, well)) in levels.iter().enumerate() {
            for at in 0..*all {
                number += 1;
                set.add(priority as u32, addr(number), 1, &Mesh::default());
                states.of(&addr(number)).set_ejected(at >= *well);
            }
        }
        let usable = set.build().healthy(panic);
        let counts = usable.levels.iter().map(|level| level.hosts.len());
        counts.zip(usable.loads.iter().copied()).collect()
    }

    #[test]
    fn load_moves_to_the_next_priority_as_the_first_one_fails() {
        assert_eq!(loads(&[(4, 4), (2, 2)], 0.0), [(4, 100), (2, 100)]);
        assert_eq!(loads(&[(4, 3), (2, 2)], 0.0), [(3, 100), (2, 100)]);
        assert_eq!(loads(&[(4, 2), (2, 2)], 0.0), [(2, 70), (2, 100)]);
        assert_eq!(loads(&[(4, 0), (2, 2)], 0.0), [(2, 100)]);
        assert_eq!(loads(&[(4, 1), (4, 1)], 0.0), [(1, 50), (1, 100)]);
        assert_eq!(loads(&[(4, 0)], 0.0), []);
    }

    #[test]
    fn in_a_panic_health_does_not_matter() {
        assert_eq!(loads(&[(4, 1)], 50.0), [(4, 100)]);
        assert_eq!(loads(&[(4, 2)], 50.0), [(2, 100)]);
        assert_eq!(loads(&[(4, 0)], 50.0), [(4, 100)]);
        // The second priority is enough for all.
        assert_eq!(loads(&[(4, 1), (4, 4)], 50.0), [(1, 35), (4, 100)]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_out_are_not_chosen() {
        let rules = OutlierDetection {
            consecutive_5xx: Some(2),
            consecutive_gateway_errors: None,
            consecutive_local_failures: None,
            split_local_errors: false,
            interval: std::time::Duration::from_secs(10),
            base_ejection_time: std::time::Duration::from_secs(30),
            max_ejection_time: std::time::Duration::from_secs(300),
            max_ejection_percent: 100,
            error_codes: Vec::new(),
        };
        let spec = cluster(&[addr(1), addr(2)]);
        let cluster = Cluster::new(super::super::ClusterSpec { outlier: Some(rules), ..spec });
        let chosen = || {
            let hosts = cluster.known_hosts(&Names::default()).unwrap();
            let mut all: Vec<_> = (0..50)
                .filter_map(|_| {
                    let mut choice = cluster.choose(&hosts, IpAddr::from([127, 0, 0, 1]));
                    choice.next().map(|host| (host.addr.clone(), Arc::clone(&host.state)))
                })
                .collect();
            all.sort_by_key(|(addr, _)| addr.to_string());
            all.dedup_by_key(|(addr, _)| addr.to_string());
            all
        };
        let both = chosen();
        assert_eq!(both.len(), 2);
        let (first, state) = &both[0];
        cluster.observe(first, state, Observation::Answered(500));
        assert_eq!(chosen().len(), 2);
        cluster.observe(first, state, Observation::Answered(500));
        let left = chosen();
        assert_eq!((left.len(), &left[0].0), (1, &addr(2)));
        cluster.set_failing(&left[0].0, &left[0].1, true);
        assert!(chosen().is_empty());
        tokio::time::advance(std::time::Duration::from_secs(41)).await;
        assert_eq!(chosen()[0].0, addr(1));
        cluster.set_failing(&left[0].0, &left[0].1, false);
        assert_eq!(chosen().len(), 2);
    }
}
