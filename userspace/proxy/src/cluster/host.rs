//! The endpoints of a cluster as addresses, each with what is known of it at run time.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use egressd_tables::{Warmup, balancing::mix};

use super::{health::Health, shares::Shares, spec::Mesh};
use crate::addrs::UpstreamAddr;

/// The endpoints of a cluster by priority, ready to be chosen from. Immutable.
#[derive(Debug, Default)]
pub(crate) struct HostSet {
    /// The first is used first; none is empty.
    pub(super) levels: Vec<Level>,
    /// The share of the load up to and including each level's, in percent; nothing if all of it is
    /// the first one's.
    pub(super) loads: Vec<u64>,
}

/// The endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) hosts: Vec<Host>,
    /// What is due to each.
    pub(super) shares: Shares,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Where it is.
    pub(crate) addr: UpstreamAddr,
    /// Share within its level; at least 1.
    pub(super) weight: u64,
    /// The same for an address in every process.
    pub(super) hash: u64,
    /// What it is in a mesh.
    pub(crate) mesh: Mesh,
    /// What is known of it.
    pub(crate) state: Arc<HostState>,
}

/// What is known of an endpoint at run time. Survives a reload, which finds it by its address.
#[derive(Debug, Default)]
pub(crate) struct HostState {
    active: AtomicU32,
    /// When it joined the others; nothing if it has been there from the start.
    born: Option<Instant>,
    pub(super) health: Health,
}

/// A connection to an endpoint, counted while this lives.
#[derive(Debug)]
pub(crate) struct HostLease(Arc<HostState>);

/// The state of every endpoint that a cluster has, or that still has connections.
#[derive(Debug, Default)]
pub(crate) struct HostStates {
    known: Mutex<HashMap<UpstreamAddr, Arc<HostState>>>,
    /// The first endpoints are known; any other is a new one.
    started: AtomicBool,
}

/// Puts a [`HostSet`] together.
pub(crate) struct Builder<'a> {
    states: &'a HostStates,
    levels: BTreeMap<u32, Vec<Host>>,
}

impl HostState {
    /// Connections under way, those being made included.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Counts one more connection.
    pub(crate) fn lease(self: &Arc<Self>) -> HostLease {
        self.active.fetch_add(1, Ordering::Relaxed);
        HostLease(Arc::clone(self))
    }
}

impl HostLease {
    /// What is known of the endpoint.
    pub(crate) fn state(&self) -> &Arc<HostState> {
        &self.0
    }
}

impl Drop for HostLease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HostStates {
    pub(super) fn of(&self, addr: &UpstreamAddr) -> Arc<HostState> {
        let mut states = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match states.get(addr) {
            Some(state) => Arc::clone(state),
            None => {
                let born = self.started.load(Ordering::Relaxed).then(Instant::now);
                let state = Arc::new(HostState { born, ..HostState::default() });
                states.insert(addr.clone(), Arc::clone(&state));
                state
            }
        }
    }

    /// What is known of an endpoint, if it is one.
    pub(super) fn known(&self, addr: &UpstreamAddr) -> Option<Arc<HostState>> {
        let states = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(addr).filter(|state| Arc::strong_count(state) > 1).cloned()
    }

    /// When the last endpoint joined the others.
    pub(super) fn youngest(&self) -> Option<Instant> {
        let states = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        states.values().filter_map(|state| state.born).max()
    }

    /// Forgets endpoints that nobody refers to any more.
    fn prune(&self) {
        let mut states = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|_, state| Arc::strong_count(state) > 1);
    }
}

impl HostSet {
    /// Whether there is no endpoint.
    pub(crate) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Host> {
        self.levels.iter().flat_map(|level| &level.hosts)
    }

    /// Starts an empty set.
    pub(crate) fn builder(states: &HostStates) -> Builder<'_> {
        Builder { states, levels: BTreeMap::new() }
    }
}

impl Builder<'_> {
    /// Adds an endpoint; a weight of 0 counts as 1.
    pub(crate) fn add(&mut self, priority: u32, addr: UpstreamAddr, weight: u64, mesh: &Mesh) {
        let state = self.states.of(&addr);
        let hash = mix(BuildHasherDefault::<DefaultHasher>::default().hash_one(&addr));
        let host = Host { addr, weight: weight.max(1), hash, mesh: mesh.clone(), state };
        self.levels.entry(priority).or_default().push(host);
    }

    /// The set.
    pub(crate) fn build(self) -> HostSet {
        let levels = self.levels.into_values().map(Level::new).collect();
        let set = HostSet { levels, loads: Vec::new() };
        self.states.prune();
        self.states.started.store(true, Ordering::Relaxed);
        set
    }
}

impl Level {
    pub(super) fn new(hosts: Vec<Host>) -> Self {
        let shares = Shares::new(hosts.iter().map(|host| host.weight));
        Self { hosts, shares }
    }

    /// What is due to each while some of them warm up; nothing if none does.
    pub(super) fn warming(&self, warmup: &Warmup, now: Instant) -> Option<Shares> {
        let age = |host: &Host| host.state.born.map(|born| now.saturating_duration_since(born));
        let young = |host: &Host| age(host).is_some_and(|age| age < warmup.duration);
        self.hosts.iter().any(young).then(|| {
            Shares::new(self.hosts.iter().map(|host| {
                let part = age(host).map_or(1.0, |age| part(warmup, age));
                ((host.weight * WARM_PARTS) as f64 * part).max(1.0) as u64
            }))
        })
    }
}

/// The part of its share that an endpoint of this age gets (semantics.md §4, warmup): it grows as
/// Envoy's does, and never below the least.
fn part(warmup: &Warmup, age: Duration) -> f64 {
    let grown = (age.as_secs_f64() / warmup.duration.as_secs_f64().max(f64::MIN_POSITIVE)).min(1.0);
    grown.powf(1.0 / warmup.aggression.max(f64::MIN_POSITIVE)).max(warmup.minimum_percent / 100.0)
}

/// Precision of the part of a share.
const WARM_PARTS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_state_from_set_to_set() {
        let states = HostStates::default();
        let addr = |text: &str| UpstreamAddr::Ip(text.parse().unwrap());
        let set = |addrs: &[&str]| {
            let mut set = HostSet::builder(&states);
            for text in addrs {
                set.add(0, addr(text), 1, &Mesh::default());
            }
            set.build()
        };
        let first = set(&["10.0.0.1:80", "10.0.0.2:80"]);
        let lease = first.levels[0].hosts[0].state.lease();
        drop(first);
        let second = set(&["10.0.0.3:80", "10.0.0.1:80"]);
        assert_eq!(second.levels[0].hosts[1].state.active(), 1);
        assert_eq!(states.known.lock().unwrap().len(), 2);
        drop((second, lease));
        drop(set(&[]));
        assert!(states.known.lock().unwrap().is_empty());
    }

    #[test]
    fn shares_grow_with_age() {
        let warmup = |aggression| Warmup {
            duration: Duration::from_secs(100),
            minimum_percent: 10.0,
            aggression,
        };
        let at = |aggression, seconds| {
            (part(&warmup(aggression), Duration::from_secs(seconds)) * 100.0).round()
        };
        assert_eq!(
            [0, 5, 50, 99, 100, 1000].map(|age| at(1.0, age)),
            [10.0, 10.0, 50.0, 99.0, 100.0, 100.0]
        );
        assert_eq!([25, 64].map(|age| at(2.0, age)), [50.0, 80.0]);
    }

    #[test]
    fn an_endpoint_that_joins_others_warms_up() {
        let states = HostStates::default();
        let warmup =
            Warmup { duration: Duration::from_secs(100), minimum_percent: 10.0, aggression: 1.0 };
        let set = |count: u8| {
            let mut set = HostSet::builder(&states);
            for last in 1..=count {
                let addr = UpstreamAddr::Ip(([10, 0, 0, last], 80).into());
                set.add(0, addr, 2, &Mesh::default());
            }
            set.build()
        };
        let now = Instant::now();
        assert!(set(2).levels[0].warming(&warmup, now).is_none(), "all are new at the start");
        let three = set(3);
        let shares = three.levels[0].warming(&warmup, now).unwrap();
        assert_eq!([0, 1, 2].map(|at| shares.weight(at)), [2000, 2000, 200]);
        let later = now + Duration::from_secs(101);
        assert!(three.levels[0].warming(&warmup, later).is_none());
    }
}
