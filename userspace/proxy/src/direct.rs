//! The direct path's share of the proxy's knowledge: which endpoints the kernel may choose from, told
//! whenever that changes; and what became of the connections it made.
//!
//! The clusters are the same ones that proxied connections go to, so that both paths know of the same
//! ejections, probes, answers and warm-ups. What is not known yet is told as unknown: the kernel then
//! hands the connection to the proxy, which resolves, and what it finds is told from then on.

mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use egressd_tables as tables;
use egressd_tables::{Discovery, EndpointAddress, Tables};
use tokio::{
    runtime::Builder,
    sync::Notify,
    time::{sleep_until, timeout},
};

pub use self::view::{
    DirectBalance, DirectEndpoints, DirectHost, DirectLevel, DirectLimits, DirectView,
};
use crate::{
    addrs::UpstreamAddr,
    cluster::{Cluster, ClusterSpec, Observation, Registry},
    resolve::{NameEvent, Resolver},
    snapshot::Snapshot,
};

/// Takes what the kernel is to know. Called by whoever causes a change: it must not wait long.
pub trait DirectSink: Send + Sync + 'static {
    /// A cluster may be sent to like this from now on.
    fn publish(&self, cluster: &Arc<str>, view: &DirectView);

    /// No direct route leads to the cluster any more.
    fn forget(&self, cluster: &str);
}

/// How a connection ended that the proxy did not carry, as far as it tells of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectEnd {
    /// There was no connection.
    NotConnected,
    /// It stood, and the endpoint reset it.
    Reset,
    /// It stood, and has ended otherwise.
    Ended,
}

/// Tells the kernel of clusters, on a thread of its own. Ends when dropped.
#[derive(Debug)]
pub struct Direct {
    shared: Arc<Shared>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    clusters: Arc<Registry>,
    resolver: Arc<dyn Resolver>,
    sink: Arc<dyn DirectSink>,
    wanted: Mutex<Wanted>,
}

/// The clusters that direct routes lead to.
#[derive(Default)]
struct Wanted {
    clusters: BTreeMap<Arc<str>, Told>,
    /// Who has endpoints behind a name; in lower case, without a dot at the end.
    by_name: HashMap<Box<str>, Vec<Arc<str>>>,
}

/// A cluster that a direct route leads to.
struct Reached {
    cluster: Arc<tables::Cluster>,
    datagrams: bool,
}

/// A cluster, and what the kernel was told last.
struct Told {
    origin: Arc<tables::Cluster>,
    /// [`DirectView::digest`].
    digest: u64,
    unknown: bool,
    /// Datagrams go there: no proxied connection will ever find its endpoints.
    datagrams: bool,
}

impl Direct {
    /// Starts with no cluster: see [`Direct::follow`].
    ///
    /// # Errors
    /// The thread could not be made.
    pub fn start(
        snapshot: &Snapshot,
        resolver: Arc<dyn Resolver>,
        sink: Arc<dyn DirectSink>,
    ) -> io::Result<Self> {
        let (clusters, wanted) = (Arc::clone(snapshot.clusters()), Mutex::default());
        let shared = Arc::new(Shared { clusters, resolver, sink, wanted });
        let hearing = Arc::downgrade(&shared);
        shared.resolver.follow(Box::new(move |name, event| {
            if let Some(shared) = Weak::upgrade(&hearing) {
                shared.hear(name, event);
            }
        }));
        let stop = Arc::<Notify>::default();
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let (running, stopping) = (Arc::clone(&shared), Arc::clone(&stop));
        let thread = thread::Builder::new().name("egressd-direct".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = running.run() => {}
                    () = stopping.notified() => {}
                }
            });
        })?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// Tells of the clusters that a generation's direct routes lead to, and forgets all others. When
    /// this returns, everything that can be told has been.
    pub fn follow(&self, tables: &Tables) {
        self.shared.follow(reached(tables));
    }

    /// Learns what became of a connection to an endpoint.
    pub fn observe(&self, cluster: &str, endpoint: SocketAddr, end: DirectEnd) {
        let origin = {
            let wanted = self.shared.wanted();
            let Some(told) = wanted.clusters.get(cluster) else { return };
            if told.origin.outlier.is_none() {
                return;
            }
            Arc::clone(&told.origin)
        };
        let (cluster, addr) = (self.shared.clusters.get(&origin), UpstreamAddr::Ip(endpoint));
        if !cluster.knows(&addr) {
            // Its endpoints have a state once they were looked at.
            drop(cluster.direct_view(&*self.shared.resolver, Instant::now()));
        }
        match end {
            DirectEnd::NotConnected => cluster.observe_at(&addr, Observation::NotConnected),
            DirectEnd::Reset => {
                cluster.observe_at(&addr, Observation::Connected);
                cluster.observe_at(&addr, Observation::Reset);
            }
            DirectEnd::Ended => {
                cluster.observe_at(&addr, Observation::Connected);
                cluster.observe_at(&addr, Observation::Ended);
            }
        }
    }

    /// Says that connections were made to these clusters: the names of their endpoints stay resolved.
    pub fn used<'a>(&self, clusters: impl IntoIterator<Item = &'a str>) {
        let wanted = self.shared.wanted();
        for told in clusters.into_iter().filter_map(|name| wanted.clusters.get(name)) {
            let families = families(&told.origin);
            for name in names(&told.origin) {
                // Asking counts as use.
                drop(self.shared.resolver.cached(name, families));
            }
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the direct path panicked");
        }
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, clusters: Vec<Reached>) {
        let mut wanted = self.wanted();
        let mut before = std::mem::take(&mut wanted.clusters);
        wanted.by_name.clear();
        for Reached { cluster: origin, datagrams } in &clusters {
            if wanted.clusters.contains_key(&origin.name) {
                continue;
            }
            for name in names(origin) {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                wanted.by_name.entry(name.into()).or_default().push(Arc::clone(&origin.name));
            }
            let told = match before.remove(&origin.name) {
                Some(told) if Arc::ptr_eq(&told.origin, origin) => told,
                known => {
                    let known = known.map(|told| told.digest);
                    let told = self.tell(origin, known, *datagrams);
                    // What changes by itself, or has to be resolved, is the thread's.
                    if self.remembers(origin) || told.unknown && told.datagrams {
                        self.clusters.changes().mark(&origin.name);
                    }
                    told
                }
            };
            wanted.clusters.insert(Arc::clone(&origin.name), told);
        }
        for gone in before.keys() {
            self.sink.forget(gone);
        }
    }

    /// Tells the kernel of a cluster, if that is not what it was told before.
    fn tell(&self, origin: &Arc<tables::Cluster>, known: Option<u64>, datagrams: bool) -> Told {
        let view = self.view(origin);
        let digest = view.digest();
        if known != Some(digest) {
            self.sink.publish(&origin.name, &view);
        }
        Told { origin: Arc::clone(origin), digest, unknown: view.is_unknown(), datagrams }
    }

    fn view(&self, origin: &Arc<tables::Cluster>) -> DirectView {
        let cluster = self.cluster(origin);
        match origin.discovery {
            Discovery::OriginalDst { port: Some(port) } => DirectView {
                limits: cluster.direct_limits(),
                endpoints: DirectEndpoints::Original(port),
            },
            Discovery::Static
            | Discovery::StrictDns(_)
            | Discovery::LogicalDns(_)
            | Discovery::OriginalDst { port: None }
            | Discovery::DynamicForwardProxy { .. } => {
                cluster.direct_view(&*self.resolver, Instant::now())
            }
        }
    }

    /// The cluster at run time. One that nothing has happened to needs no place among those in use:
    /// of thousands, few may ever be.
    fn cluster(&self, origin: &Arc<tables::Cluster>) -> Arc<Cluster> {
        match self.remembers(origin) {
            true => self.clusters.get(origin),
            false => Arc::new(Cluster::new(ClusterSpec::new(origin))),
        }
    }

    fn remembers(&self, origin: &tables::Cluster) -> bool {
        origin.load_balancer.warmup.is_some()
            || origin.health_check.is_some()
            || self.clusters.known(&origin.name).is_some()
    }

    /// Hears of a name, where answers arrive.
    fn hear(&self, name: &str, event: NameEvent) {
        let clusters = {
            let wanted = self.wanted();
            wanted.by_name.get(name).cloned().unwrap_or_default()
        };
        for cluster in clusters {
            match event {
                NameEvent::Changed => self.clusters.changes().mark(&cluster),
                NameEvent::Idle => self.give_up(&cluster),
            }
        }
    }

    /// The names of a cluster are not kept up to date any more: the proxy asks anew.
    fn give_up(&self, name: &Arc<str>) {
        let mut wanted = self.wanted();
        let Some(told) = wanted.clusters.get_mut(name).filter(|told| !told.datagrams) else {
            return;
        };
        let cluster = self.clusters.get(&told.origin);
        cluster.unpublish();
        let limits = cluster.direct_limits();
        let view = DirectView { limits, endpoints: DirectEndpoints::Unknown };
        (told.digest, told.unknown) = (view.digest(), true);
        self.sink.publish(name, &view);
    }

    /// Tells what changes, for ever.
    async fn run(self: &Arc<Self>) {
        let mut due: BTreeMap<Arc<str>, tokio::time::Instant> = BTreeMap::new();
        loop {
            let next = due.values().min().copied();
            tokio::select! {
                () = self.clusters.changes().wait() => {}
                () = async { sleep_until(next.unwrap_or_else(far)).await }, if next.is_some() => {}
            }
            let now = tokio::time::Instant::now();
            let mut names = self.clusters.changes().take();
            names
                .extend(due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| Arc::clone(name)));
            for name in names {
                match self.refresh(&name) {
                    Some(at) => due.insert(name, at),
                    None => due.remove(&name),
                };
            }
        }
    }

    /// Brings a cluster up to date; says when to do so again, if nothing happens before.
    fn refresh(self: &Arc<Self>, name: &Arc<str>) -> Option<tokio::time::Instant> {
        let cluster = self.clusters.known(name);
        if let Some(cluster) = &cluster {
            cluster.bring_back();
        }
        let datagrams = {
            let mut wanted = self.wanted();
            let told = wanted.clusters.get_mut(name).map(|told| {
                *told = self.tell(&told.origin, Some(told.digest), told.datagrams);
                let resolves = told.datagrams && !names(&told.origin).is_empty();
                resolves.then(|| (Arc::clone(&told.origin), told.unknown))
            });
            told.flatten()
        };
        let resolve_at = datagrams.map(|(origin, unknown)| {
            self.resolve(&origin);
            tokio::time::Instant::now() + if unknown { RESOLVE_AGAIN } else { KEEP_RESOLVED }
        });
        let changes_at = cluster.and_then(|cluster| cluster.changes_at());
        changes_at.into_iter().chain(resolve_at).min()
    }

    /// Resolves the names of a cluster of datagrams: whoever finds endpoints that nobody knows of says
    /// so.
    fn resolve(&self, origin: &Arc<tables::Cluster>) {
        let (cluster, resolver) = (self.clusters.get(origin), Arc::clone(&self.resolver));
        tokio::spawn(async move {
            let resolving = timeout(RESOLVING, cluster.hosts(&*resolver));
            if let Ok(Err(error)) = resolving.await {
                tracing::debug!(%error, "names of a cluster of datagrams");
            }
        });
    }
}

/// The clusters that direct routes lead to.
fn reached(tables: &Tables) -> Vec<Reached> {
    let rows = tables.kernel_rows();
    let datagrams = rows.udp.exact.values().chain(rows.udp.prefixes.values());
    let datagrams: BTreeSet<u32> = datagrams.map(|row| row.direct()).collect();
    let mut reached = Vec::with_capacity(rows.direct.len());
    for (index, route) in (0..).zip(&rows.direct) {
        let datagrams = datagrams.contains(&index);
        let clusters = route.clusters.iter().filter_map(|(name, _)| tables.cluster(name));
        reached.extend(clusters.map(|cluster| Reached { cluster: Arc::clone(cluster), datagrams }));
    }
    reached
}

/// Where nothing is due.
fn far() -> tokio::time::Instant {
    tokio::time::Instant::now() + KEEP_RESOLVED
}

/// The names of a cluster's endpoints.
fn names(cluster: &tables::Cluster) -> Vec<&str> {
    let endpoints = cluster.endpoints.iter().flat_map(|group| &group.endpoints);
    let names = endpoints.filter_map(|endpoint| match &endpoint.address {
        EndpointAddress::Name(name) => Some(&**name),
        EndpointAddress::Ip(_) | EndpointAddress::Unix(_) | EndpointAddress::Unset => None,
    });
    names.collect()
}

fn families(cluster: &tables::Cluster) -> tables::IpFamilies {
    match cluster.discovery {
        Discovery::StrictDns(families) | Discovery::LogicalDns(families) => families,
        Discovery::Static
        | Discovery::OriginalDst { .. }
        | Discovery::DynamicForwardProxy { .. } => tables::IpFamilies::Dual,
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Limit for resolving the names of a cluster of datagrams.
const RESOLVING: Duration = Duration::from_secs(5);
/// How soon it is tried again where a name did not resolve.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);
/// How often names of clusters of datagrams count as used.
const KEEP_RESOLVED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
