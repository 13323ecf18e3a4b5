//! The endpoints of a cluster as addresses, each with what is known of it at run time.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{balance::mix, spec::Mesh};
use crate::addrs::UpstreamAddr;

/// The endpoints of a cluster by priority, ready to be chosen from. Immutable.
#[derive(Debug, Default)]
pub(crate) struct HostSet {
    /// The first is used first; none is empty.
    pub(super) levels: Vec<Level>,
}

/// The endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) hosts: Vec<Host>,
    /// The sum of the weights up to and including each endpoint's.
    pub(super) shares: Vec<u64>,
    /// All weights are the same.
    pub(super) even: bool,
    /// About 0.618 of the total, and without a common divisor with it.
    pub(super) step: u64,
}

/// One endpoint.
#[derive(Debug)]
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
}

/// A connection to an endpoint, counted while this lives.
#[derive(Debug)]
pub(crate) struct HostLease(Arc<HostState>);

/// The state of every endpoint that a cluster has, or that still has connections.
#[derive(Debug, Default)]
pub(crate) struct HostStates(Mutex<HashMap<UpstreamAddr, Arc<HostState>>>);

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

impl Drop for HostLease {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HostStates {
    fn of(&self, addr: &UpstreamAddr) -> Arc<HostState> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match states.get(addr) {
            Some(state) => Arc::clone(state),
            None => Arc::clone(states.entry(addr.clone()).or_default()),
        }
    }

    /// Forgets endpoints that nobody refers to any more.
    fn prune(&self) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|_, state| Arc::strong_count(state) > 1);
    }
}

impl HostSet {
    /// Whether there is no endpoint.
    pub(crate) fn is_empty(&self) -> bool {
        self.levels.is_empty()
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
        let set = HostSet { levels: self.levels.into_values().map(Level::new).collect() };
        self.states.prune();
        set
    }
}

impl Level {
    fn new(hosts: Vec<Host>) -> Self {
        let mut total = 0;
        let shares = hosts.iter().map(|host| {
            total += host.weight;
            total
        });
        let shares = shares.collect();
        let even = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
        Self { hosts, shares, even, step: coprime_step(total) }
    }
}

/// A step near the golden section of `total` that visits every point before it repeats one.
fn coprime_step(total: u64) -> u64 {
    let golden = (total as f64 * 0.618_033_988_75) as u64;
    (golden.max(1)..=total.max(1)).find(|step| gcd(*step, total) == 1).unwrap_or(1)
}

/// The greatest common divisor.
pub(super) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

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
        assert_eq!(states.0.lock().unwrap().len(), 2);
        drop((second, lease));
        drop(set(&[]));
        assert!(states.0.lock().unwrap().is_empty());
    }

    #[test]
    fn steps_visit_every_point() {
        for total in 1..500 {
            let step = coprime_step(total);
            let visited: std::collections::BTreeSet<_> =
                (0..total).map(|turn| turn * step % total).collect();
            assert_eq!(visited.len() as u64, total);
        }
    }
}
