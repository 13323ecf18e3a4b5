//! A cluster as the kernel is told of it.

use std::{sync::Arc, time::Instant};

use super::{
    Balance, Cluster, HostState, Observation,
    host::{HostSet, Level},
};
use crate::{
    addrs::UpstreamAddr,
    direct::{DirectBalance, DirectEndpoints, DirectHost, DirectLevel, DirectLimits, DirectView},
    resolve::Resolver,
};

impl Cluster {
    /// What holds for its connections.
    pub(crate) fn direct_limits(&self) -> DirectLimits {
        DirectLimits {
            max_connections: self.spec.max_connections,
            connect_timeout: self.spec.connect_timeout,
            keepalive: self.spec.keepalive,
            idle_timeout: self.spec.idle_timeout,
            max_duration: self.spec.max_duration,
        }
    }

    /// Its endpoints as they may be sent to at this moment, without counting as use of their names.
    /// Whoever next finds endpoints that are unknown here marks the cluster as changed.
    pub(crate) fn direct_view(&self, resolver: &dyn Resolver, now: Instant) -> DirectView {
        let limits = self.direct_limits();
        let Some(hosts) = self.peek(resolver) else {
            self.unpublish();
            return DirectView { limits, endpoints: DirectEndpoints::Unknown };
        };
        let hosts = self.usable(hosts);
        let endpoints = match hosts.is_empty() {
            true => DirectEndpoints::None,
            false => self.chosen(&hosts, now),
        };
        DirectView { limits, endpoints }
    }

    /// Whoever next finds its endpoints says so.
    pub(crate) fn unpublish(&self) {
        if let Some(told) = &self.shared.told {
            told.unpublish();
        }
    }

    /// The endpoints of names that are known already.
    fn peek(&self, resolver: &dyn Resolver) -> Option<Arc<HostSet>> {
        if let Some(fixed) = &self.fixed {
            return Some(Arc::clone(fixed));
        }
        let families = self.spec.lookup.families();
        let answers: Vec<_> = self.names().map(|name| resolver.peek(name, families)).collect();
        let known = |(answer, is_late): (&Option<_>, bool)| answer.is_some() || is_late;
        let all_known = answers.iter().zip(self.late()).all(known);
        (all_known && self.serves(&answers)).then(|| self.resolved_hosts(answers))
    }

    fn chosen(&self, hosts: &HostSet, now: Instant) -> DirectEndpoints {
        let loads = hosts.loads.iter().copied().chain(std::iter::repeat(100));
        let levels = hosts.levels.iter().zip(loads);
        let levels =
            levels.map(|(level, load)| DirectLevel { load, hosts: self.level(level, now) });
        let balance = match self.spec.balance {
            Balance::RoundRobin => DirectBalance::RoundRobin,
            Balance::LeastRequest => DirectBalance::LeastRequest,
            Balance::Random => DirectBalance::Random,
            Balance::SourceIp => DirectBalance::SourceIp,
        };
        DirectEndpoints::Chosen { balance, levels: levels.collect() }
    }

    fn level(&self, level: &Level, now: Instant) -> Vec<DirectHost> {
        // Turns and least requests heed warm-up, as in the proxy's own choice.
        let heeds = matches!(self.spec.balance, Balance::RoundRobin | Balance::LeastRequest);
        let warming = self.spec.warmup.filter(|_| heeds);
        let warming = warming.and_then(|warmup| level.warming(&warmup, now));
        let shares = warming.as_ref().unwrap_or(&level.shares);
        let hosts = level.hosts.iter().enumerate().filter_map(|(at, host)| match &host.addr {
            UpstreamAddr::Ip(addr) => {
                let weight = shares.weight(at).max(1);
                Some(DirectHost { addr: *addr, weight, hash: host.hash })
            }
            UpstreamAddr::Unix(_) => None,
        });
        hosts.collect()
    }

    /// When something of the endpoints changes by itself: one that is out may come back, or one that
    /// warms up gets more. `None`: not at all.
    pub(crate) fn changes_at(&self) -> Option<tokio::time::Instant> {
        let back = self.shared.health.next_sweep();
        let warmup = self.spec.warmup.and_then(|warmup| {
            let young = self.shared.hosts.youngest()?.elapsed() < warmup.duration;
            let step = (warmup.duration / WARM_STEPS).clamp(WARM_LEAST, WARM_MOST);
            young.then(|| tokio::time::Instant::now() + step)
        });
        back.into_iter().chain(warmup).min()
    }

    /// Brings back the endpoints that have been out for long enough.
    pub(crate) fn bring_back(&self) {
        self.shared.health.bring_back(self.spec.outlier.as_ref());
    }

    /// Whether an endpoint has a state.
    pub(crate) fn knows(&self, addr: &UpstreamAddr) -> bool {
        self.shared.hosts.known(addr).is_some()
    }

    /// Learns what became of a connection that the proxy did not carry.
    pub(crate) fn observe_at(&self, addr: &UpstreamAddr, seen: Observation) {
        let Some(state): Option<Arc<HostState>> = self.shared.hosts.known(addr) else { return };
        self.observe(addr, &state, seen);
    }
}

/// Steps in which the share of an endpoint that warms up grows.
const WARM_STEPS: u32 = 100;
/// Between two steps at least.
const WARM_LEAST: std::time::Duration = std::time::Duration::from_millis(100);
/// Between two steps at most.
const WARM_MOST: std::time::Duration = std::time::Duration::from_secs(1);
