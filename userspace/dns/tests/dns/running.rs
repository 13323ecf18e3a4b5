//! A server with its sockets, for one test.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use egressd_dns::{
    Askers, Foreign, Listeners, Metrics, Names, NotKnown, Server, Services, Upstream, Upstreams,
    Wiring, plain_socket,
};

use crate::names::Table;

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) beats: Arc<AtomicUsize>,
    pub(crate) server: Server,
}

impl Running {
    /// A server that knows these names and asks these upstreams.
    pub(crate) fn start(table: Table, upstreams: Vec<Upstream>) -> Self {
        Self::start_with(table, Upstreams::new(upstreams, Foreign::AskIt, Vec::new()), |_| {})
    }

    pub(crate) fn start_with(
        table: Table,
        upstreams: Upstreams,
        change: impl FnOnce(&mut Wiring),
    ) -> Self {
        let running = Self::unpublished(upstreams, change);
        let names: Arc<dyn Names> = Arc::new(table);
        running.server.publish(&names);
        running
    }

    /// A server before its first generation.
    pub(crate) fn unpublished(upstreams: Upstreams, change: impl FnOnce(&mut Wiring)) -> Self {
        Self::unpublished_for(upstreams, None, change)
    }

    /// A server that hears from these whose queries they are.
    pub(crate) fn for_askers(
        table: Table,
        upstreams: Vec<Upstream>,
        askers: Arc<dyn Askers>,
    ) -> Self {
        let upstreams = Upstreams::new(upstreams, Foreign::AskIt, Vec::new());
        let running = Self::unpublished_for(upstreams, Some(askers), |_| {});
        let names: Arc<dyn Names> = Arc::new(table);
        running.server.publish(&names);
        running
    }

    fn unpublished_for(
        upstreams: Upstreams,
        askers: Option<Arc<dyn Askers>>,
        change: impl FnOnce(&mut Wiring),
    ) -> Self {
        let metrics = Arc::new(Metrics::default());
        let beats = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&beats);
        let mut wiring = Wiring {
            threads: 1,
            sockets: Arc::new(plain_socket),
            asked: Arc::new(NotKnown),
            heartbeat: Arc::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
            services: Services::default(),
            metrics: Arc::clone(&metrics),
            tls: None,
        };
        change(&mut wiring);
        let server = Server::start(wiring).unwrap();
        server.set_upstreams(upstreams);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let listeners = Listeners { udp: vec![vec![udp]], tcp: vec![tcp], askers };
        server.listen(listeners).unwrap();
        Self { address, metrics, beats, server }
    }
}
