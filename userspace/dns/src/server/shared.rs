//! What every thread and every connection of the server has in common.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;

use crate::{
    forward::{Streams, is_probe},
    metrics::Metrics,
    names::Published,
    server::{ListenersId, Wiring},
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
    pub(crate) streams: Streams,
    pub(crate) runtime: Handle,
    /// Where we listen: asking there would be asking ourselves.
    addresses: ArcSwap<Vec<SocketAddr>>,
    listening: Mutex<Vec<(ListenersId, Vec<SocketAddr>)>>,
}

impl Shared {
    pub(crate) fn new(wiring: Wiring) -> Self {
        let health = Arc::new(Health::default());
        Self {
            published: Published::default(),
            upstreams: ArcSwap::default(),
            metrics: wiring.metrics,
            streams: Streams::new(Arc::clone(&wiring.sockets), Arc::clone(&health), wiring.tls),
            health,
            sockets: wiring.sockets,
            asked: wiring.asked,
            runtime: wiring.runtime,
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
