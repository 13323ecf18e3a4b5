//! Clusters at run time: their endpoints as addresses, their limits, and the counters that survive a
//! reload.

mod balance;
mod health;
mod host;
mod outlier;
mod registry;
mod shares;
pub(crate) mod spec;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

pub(crate) use self::{
    balance::Choice,
    host::{Host, HostLease, HostSet, HostState},
    outlier::Observation,
    registry::Registry,
    spec::{Balance, ClusterSpec, Mesh},
};
use self::{
    health::{Healths, View},
    host::HostStates,
    spec::{EndpointSpec, HostSource},
};
use crate::{
    addrs::UpstreamAddr,
    resolve::{Addresses, ResolveError, Resolver},
};

/// A cluster as one generation describes it, with the counters it shares with other generations.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// What the generation says.
    pub(crate) spec: ClusterSpec,
    shared: Arc<Shared>,
    /// The endpoints where no name has to be resolved.
    fixed: Option<Arc<HostSet>>,
    /// The endpoints as of the last answers.
    resolved: Mutex<Resolved>,
    /// Those of them that may be sent to.
    view: View,
}

/// What all generations of a cluster share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    connections: AtomicU32,
    turn: AtomicU64,
    hosts: HostStates,
    health: Healths,
}

/// A connection to a cluster, counted while this lives.
#[derive(Debug)]
pub(crate) struct ClusterLease(Arc<Shared>);

#[derive(Debug, Default)]
struct Resolved {
    /// One for each endpoint with a name; `None` where it does not resolve.
    answers: Vec<Option<Addresses>>,
    hosts: Arc<HostSet>,
}

impl Cluster {
    /// A cluster that nothing is known of yet.
    #[cfg(test)]
    pub(crate) fn new(spec: ClusterSpec) -> Self {
        Self::with_shared(spec, Arc::default())
    }

    fn with_shared(spec: ClusterSpec, shared: Arc<Shared>) -> Self {
        let fixed = spec.endpoints.iter().all(|endpoint| endpoint.name().is_none());
        let fixed = fixed.then(|| Arc::new(spec.hosts(&shared.hosts, &[])));
        Self { spec, shared, fixed, resolved: Mutex::default(), view: View::default() }
    }

    /// Counts one more connection; `None` if there are as many as there may be.
    pub(crate) fn lease(&self) -> Option<ClusterLease> {
        let limit = self.spec.max_connections;
        let lease = ClusterLease(Arc::clone(&self.shared));
        (self.shared.connections.fetch_add(1, Ordering::Relaxed) < limit).then_some(lease)
    }

    /// Starts choosing among `hosts` for a connection from `client`.
    pub(crate) fn choose<'a>(&'a self, hosts: &'a HostSet, client: IpAddr) -> Choice<'a> {
        let choice = Choice::new(hosts, self.spec.balance, &self.shared.turn, client);
        choice.warming(self.spec.warmup)
    }

    /// The endpoints by address that may be sent to, if that can be told without waiting.
    pub(crate) fn known_hosts(&self, resolver: &dyn Resolver) -> Option<Arc<HostSet>> {
        Some(self.usable(self.all_known_hosts(resolver)?))
    }

    fn all_known_hosts(&self, resolver: &dyn Resolver) -> Option<Arc<HostSet>> {
        if let Some(fixed) = &self.fixed {
            return Some(Arc::clone(fixed));
        }
        let families = self.spec.lookup.families();
        let names = self.spec.endpoints.iter().filter_map(EndpointSpec::name);
        let answers = names.map(|name| resolver.cached(name, families).map(Some));
        Some(self.resolved_hosts(answers.collect::<Option<_>>()?))
    }

    /// The endpoints by address that may be sent to. Names are resolved, most of the time without
    /// waiting; those that cannot be are left out.
    ///
    /// # Errors
    /// There are names, and none of them resolves.
    pub(crate) async fn hosts(
        &self,
        resolver: &dyn Resolver,
    ) -> Result<Arc<HostSet>, ResolveError> {
        Ok(self.usable(self.all_hosts(resolver).await?))
    }

    /// The endpoints by address, whatever their health.
    ///
    /// # Errors
    /// There are names, and none of them resolves.
    pub(crate) async fn all_hosts(
        &self,
        resolver: &dyn Resolver,
    ) -> Result<Arc<HostSet>, ResolveError> {
        if let Some(fixed) = &self.fixed {
            return Ok(Arc::clone(fixed));
        }
        let mut answers = Vec::with_capacity(self.spec.endpoints.len());
        let mut failed = None;
        for endpoint in &self.spec.endpoints {
            let Some(name) = endpoint.name() else { continue };
            let families = self.spec.lookup.families();
            let answer = match resolver.cached(name, families) {
                Some(known) => Ok(known),
                None => resolver.resolve(name, families).await,
            };
            match answer {
                Ok(addresses) => answers.push(Some(addresses)),
                Err(error) => {
                    failed = Some(error);
                    answers.push(None);
                }
            }
        }
        let hosts = self.resolved_hosts(answers);
        match failed {
            Some(error) if hosts.is_empty() => Err(error),
            Some(_) | None => Ok(hosts),
        }
    }

    /// The endpoints for these answers: those of the last time, unless an answer is a new one.
    fn resolved_hosts(&self, answers: Vec<Option<Addresses>>) -> Arc<HostSet> {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(one, other): (&Option<Addresses>, &Option<Addresses>)| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let known = resolved.answers.len() == answers.len()
            && resolved.answers.iter().zip(&answers).all(same);
        if !known {
            let hosts = Arc::new(self.spec.hosts(&self.shared.hosts, &answers));
            *resolved = Resolved { answers, hosts };
        }
        Arc::clone(&resolved.hosts)
    }
}

impl EndpointSpec {
    fn name(&self) -> Option<&Arc<str>> {
        match &self.source {
            HostSource::Name(name, _) => Some(name),
            HostSource::Fixed(_) => None,
        }
    }
}

impl ClusterSpec {
    /// The endpoints by address; `answers` has one for each endpoint with a name, in their order.
    fn hosts(&self, states: &HostStates, answers: &[Option<Addresses>]) -> HostSet {
        let mut set = HostSet::builder(states);
        let mut answers = answers.iter();
        for endpoint in &self.endpoints {
            match &endpoint.source {
                HostSource::Fixed(addr) => {
                    set.add(endpoint.priority, addr.clone(), endpoint.weight, &endpoint.mesh);
                }
                HostSource::Name(_, port) => {
                    let addresses = answers.next().and_then(Option::as_deref).unwrap_or_default();
                    for ip in self.lookup.used(addresses) {
                        let addr = UpstreamAddr::Ip((*ip, *port).into());
                        set.add(endpoint.priority, addr, endpoint.weight, &endpoint.mesh);
                    }
                }
            }
        }
        set.build()
    }
}

impl Drop for ClusterLease {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
