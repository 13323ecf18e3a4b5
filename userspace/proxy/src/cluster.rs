//! Clusters at run time: their endpoints as addresses, their limits, and the counters that survive a
//! reload.

mod balance;
mod changes;
mod direct;
mod health;
mod host;
mod outlier;
mod registry;
mod shares;
pub(crate) mod spec;

use std::{
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;

pub(crate) use self::{
    balance::Choice,
    changes::Changes,
    host::{Host, HostLease, HostSet, HostState},
    outlier::Observation,
    registry::Registry,
    spec::{Balance, ClusterSpec, Mesh},
};
use self::{
    changes::Told,
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
    /// Who is told that the endpoints are others than before.
    told: Option<Told>,
}

/// A connection to a cluster, counted while this lives.
#[derive(Debug)]
pub(crate) struct ClusterLease(Arc<Cluster>);

impl ClusterLease {
    /// The cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.0
    }
}

#[derive(Debug, Default)]
struct Resolved {
    /// One for each endpoint with a name; `None` where it does not resolve.
    answers: Vec<Option<Addresses>>,
    hosts: Arc<HostSet>,
    /// For each endpoint with a name, whether it kept us waiting in vain: nobody waits for it again as
    /// long as there is another one.
    late: Vec<bool>,
}

impl Cluster {
    /// A cluster that nothing is known of yet, and that nobody else knows of.
    pub(crate) fn new(spec: ClusterSpec) -> Self {
        Self::with_shared(spec, Arc::default())
    }

    fn with_shared(spec: ClusterSpec, shared: Arc<Shared>) -> Self {
        let fixed = spec.endpoints.iter().all(|endpoint| endpoint.name().is_none());
        let fixed = fixed.then(|| Arc::new(spec.hosts(&shared.hosts, &[])));
        Self { spec, shared, fixed, resolved: Mutex::default(), view: View::default() }
    }

    /// Counts one more connection; `None` if there are as many as there may be.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<ClusterLease> {
        let limit = self.spec.max_connections;
        let lease = ClusterLease(Arc::clone(self));
        (self.shared.connections.fetch_add(1, Ordering::Relaxed) < limit).then_some(lease)
    }

    /// Starts choosing among `hosts` for a connection from `client`.
    pub(crate) fn choose<'a>(&'a self, hosts: &'a HostSet, client: IpAddr) -> Choice<'a> {
        let choice = Choice::new(hosts, self.spec.balance, &self.shared.turn, client);
        choice.warming(self.spec.warmup)
    }

    /// The endpoints by address that may be sent to, if that can be told without waiting.
    pub(crate) fn known_hosts(&self, resolver: &dyn Resolver) -> Option<Arc<HostSet>> {
        let known = self.all_known_hosts(resolver)?;
        self.found();
        Some(self.usable(known))
    }

    fn all_known_hosts(&self, resolver: &dyn Resolver) -> Option<Arc<HostSet>> {
        if let Some(fixed) = &self.fixed {
            return Some(Arc::clone(fixed));
        }
        let answers = self.cached(resolver);
        let known = |(answer, is_late): (&Option<_>, bool)| answer.is_some() || is_late;
        let all_known = answers.iter().zip(self.late()).all(known);
        (all_known && self.serves(&answers)).then(|| {
            self.want(resolver, &answers);
            self.resolved_hosts(answers)
        })
    }

    /// Names that have no answer are asked for, though nobody waits: the resolver may have forgotten
    /// them since they failed.
    fn want(&self, resolver: &dyn Resolver, answers: &[Option<Addresses>]) {
        let families = self.spec.lookup.families();
        let unknown = self.names().zip(answers).filter(|(_, answer)| answer.is_none());
        unknown.for_each(|(name, _)| resolver.want(name, families));
    }

    /// What is known of each endpoint with a name, without waiting.
    fn cached(&self, resolver: &dyn Resolver) -> Vec<Option<Addresses>> {
        let families = self.spec.lookup.families();
        self.names().map(|name| resolver.cached(name, families)).collect()
    }

    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.spec.endpoints.iter().filter_map(EndpointSpec::name)
    }

    /// Whether these answers, or addresses that need none, are enough to go on with.
    fn serves(&self, answers: &[Option<Addresses>]) -> bool {
        answers.iter().any(Option::is_some) || answers.len() < self.spec.endpoints.len()
    }

    /// Which endpoints with a name were late, in their order.
    fn late(&self) -> Vec<bool> {
        let late = self.resolved.lock().unwrap_or_else(PoisonError::into_inner).late.clone();
        if late.is_empty() { vec![false; self.names().count()] } else { late }
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
        let all = self.all_hosts(resolver).await?;
        self.found();
        Ok(self.usable(all))
    }

    /// The endpoints are known, to whom it may concern.
    fn found(&self) {
        if let Some(told) = &self.shared.told {
            told.found();
        }
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
        let (answers, failed) = self.answers(resolver).await;
        let hosts = self.resolved_hosts(answers);
        match failed {
            Some(error) if hosts.is_empty() => Err(error),
            Some(_) | None => Ok(hosts),
        }
    }

    /// Resolves all names, side by side. Once there is something to go on with, the others are given
    /// [`GRACE`], and those that were late before nothing: they join when they answer.
    async fn answers(
        &self,
        resolver: &dyn Resolver,
    ) -> (Vec<Option<Addresses>>, Option<ResolveError>) {
        let families = self.spec.lookup.families();
        let mut answers = self.cached(resolver);
        let late = self.late();
        let serves = self.serves(&answers);
        let wanted = |place: usize, answers: &[Option<Addresses>]| {
            answers.get(place).is_some_and(Option::is_none)
                && !(serves && late.get(place).is_some_and(|late| *late))
        };
        let mut pending: Vec<_> = self
            .names()
            .enumerate()
            .filter(|(place, _)| wanted(*place, &answers))
            .map(|(place, name)| (place, resolver.resolve(name, families)))
            .collect();
        let mut failed = None;
        while !pending.is_empty() {
            let next =
                poll_fn(|cx| {
                    let ready = pending.iter_mut().enumerate().find_map(|(at, (_, resolving))| {
                        match resolving.as_mut().poll(cx) {
                            Poll::Ready(answer) => Some((at, answer)),
                            Poll::Pending => None,
                        }
                    });
                    ready.map_or(Poll::Pending, Poll::Ready)
                });
            let (at, answer) = if self.serves(&answers) {
                match timeout(GRACE, next).await {
                    Ok(next) => next,
                    Err(_elapsed) => break,
                }
            } else {
                next.await
            };
            let (place, _) = pending.swap_remove(at);
            match answer {
                Ok(addresses) => {
                    if let Some(answer) = answers.get_mut(place) {
                        *answer = Some(addresses);
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        self.want(resolver, &answers);
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.late = answers.iter().map(Option::is_none).collect();
        (answers, failed)
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
            resolved.answers = answers;
            resolved.hosts = hosts;
            if let Some(told) = &self.shared.told {
                told.mark();
            }
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

/// How long names that are being resolved are waited for once there is another endpoint: as long as
/// an address may take before another one is tried beside it.
const GRACE: Duration = Duration::from_millis(250);

impl Drop for ClusterLease {
    fn drop(&mut self) {
        self.0.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
