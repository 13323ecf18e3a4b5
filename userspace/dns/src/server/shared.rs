//! What every thread and every connection of the server has in common.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use crate::{
    answer::Services,
    forward::{Streams, is_probe},
    metrics::Metrics,
    names::Published,
    server::{ListenersId, Wiring},
    shares::{Asker, Places},
    socket::{Asked, SocketMaker},
    upstream::{Health, Upstream, Upstreams},
    wire::{Fault, Query},
};

/// Shared by all threads and connections.
pub(crate) struct Shared {
    pub(crate) published: Published,
    pub(crate) upstreams: ArcSwap<Upstreams>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sockets: Arc<dyn SocketMaker>,
    pub(crate) asked: Arc<dyn Asked>,
    pub(crate) services: Services,
    pub(crate) streams: Streams,
    /// Where connections are served, and upstreams are asked over connections.
    pub(crate) connections: Handle,
    /// Connections of clients.
    pub(crate) clients: Arc<Places>,
    /// When it was last said that there is a crowd.
    crowded: Mutex<Option<Instant>>,
    /// Where we listen: asking there would be asking ourselves.
    addresses: ArcSwap<Vec<SocketAddr>>,
    listening: Mutex<Vec<(ListenersId, Vec<SocketAddr>)>>,
}

impl Shared {
    pub(crate) fn new(wiring: Wiring, connections: Handle) -> Self {
        let health = Arc::new(Health::default());
        Self {
            published: Published::default(),
            upstreams: ArcSwap::default(),
            metrics: wiring.metrics,
            streams: Streams::new(Arc::clone(&wiring.sockets), Arc::clone(&health), wiring.tls),
            health,
            sockets: wiring.sockets,
            asked: wiring.asked,
            services: wiring.services,
            connections,
            clients: Places::new(MAX_CLIENTS),
            crowded: Mutex::default(),
            addresses: ArcSwap::default(),
            listening: Mutex::default(),
        }
    }

    /// The servers to ask about a query, one after the other.
    ///
    /// # Errors
    /// There is none, or only ones that would ask us in turn.
    pub(crate) fn servers_for(
        &self,
        query: &Query<'_>,
        asked: Option<SocketAddr>,
    ) -> Result<Vec<Upstream>, Fault> {
        let upstreams = self.upstreams.load();
        if let Some(place) = is_probe(query, &upstreams) {
            if let Some(upstream) = upstreams.probe_arrived(place) {
                tracing::warn!(
                    %upstream,
                    "a DNS upstream leads back here and is not asked any more; set dns.upstreams"
                );
            }
            return Err(Fault::ServFail);
        }
        let mut order = upstreams.order(asked, &self.health);
        order.retain(|upstream| !self.is_ourselves(upstream.address));
        if order.is_empty() {
            self.metrics.upstream_loops.add(u64::from(upstreams.servers().next().is_some()));
            self.metrics.upstream_failures.increment();
            return Err(Fault::ServFail);
        }
        Ok(order)
    }

    /// Something of `asker` was given up or refused, because too much of it is under way. Worth a line
    /// now and then: the counters tell how often.
    pub(crate) fn crowded(&self, asker: Asker) {
        let now = Instant::now();
        let mut last = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.duration_since(last) < CROWDED_LINE) {
            return;
        }
        *last = Some(now);
        drop(last);
        tracing::warn!(
            ?asker,
            "too many DNS queries are under way: those of the client with the most give way"
        );
    }

    pub(crate) fn add_addresses(&self, id: ListenersId, addresses: Vec<SocketAddr>) {
        self.change_addresses(|listening| listening.push((id, addresses)));
    }

    pub(crate) fn remove_addresses(&self, id: ListenersId) {
        self.change_addresses(|listening| listening.retain(|(of, _)| *of != id));
    }

    fn change_addresses(&self, change: impl FnOnce(&mut Vec<(ListenersId, Vec<SocketAddr>)>)) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut listening);
        let mut all: Vec<_> =
            listening.iter().flat_map(|(_, addresses)| addresses).copied().collect();
        all.sort_unstable();
        all.dedup();
        self.addresses.store(Arc::new(all));
    }

    fn is_ourselves(&self, server: SocketAddr) -> bool {
        self.addresses.load().binary_search(&server).is_ok()
    }
}

/// Connections of clients, in all network namespaces together.
const MAX_CLIENTS: usize = 1024;
/// At most one line in this time says that there is a crowd.
const CROWDED_LINE: Duration = Duration::from_secs(30);
