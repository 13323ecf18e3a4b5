//! The DNS server: its threads, and what they share.

mod connections;
pub(crate) mod datagram;
mod heartbeat;
mod shared;
mod tcp;
mod udp;

use std::{
    io,
    net::{TcpListener, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::ClientConfig;
use tokio::task::JoinHandle;

pub(crate) use self::shared::Shared;
use self::{connections::Connections, heartbeat::Heartbeat, udp::Worker};
use crate::{
    answer::Services,
    metrics::Metrics,
    names::Names,
    socket::{Asked, Askers, SocketMaker},
    upstream::Upstreams,
};

/// What the server needs from the rest of egressd.
pub struct Wiring {
    /// Threads that answer datagrams. Default 1; 0 counts as 1. Each needs sockets of its own.
    pub threads: usize,
    /// Makes the sockets towards upstreams.
    pub sockets: Arc<dyn SocketMaker>,
    /// Says which server an application asked.
    pub asked: Arc<dyn Asked>,
    /// Called by the answering threads themselves about every 200 ms, and by none of them while any
    /// one hangs: those of datagrams, or that of connections. Must not wait.
    pub heartbeat: Arc<dyn Fn() + Send + Sync>,
    /// What becomes of HTTPS and SVCB queries for hosts that are answered here.
    pub services: Services,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Trust for DNS over TLS; `None` is the system's certificate authorities.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A set of sockets that are served together: those of one network namespace.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For each thread, its sockets. Sockets of different threads on one address share it
    /// (SO_REUSEPORT). Threads beyond the list serve none of this set; sets beyond the number of
    /// threads are shared out among them.
    pub udp: Vec<Vec<UdpSocket>>,
    /// Sockets that connections arrive at.
    pub tcp: Vec<TcpListener>,
    /// Says whose queries they are; without it, only their addresses tell.
    pub askers: Option<Arc<dyn Askers>>,
}

/// Names a set of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenersId(u64);

/// A running server. Stops when dropped.
pub struct Server {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    connections: Connections,
    tcp: Mutex<Vec<(ListenersId, JoinHandle<()>)>>,
    next: AtomicU64,
}

impl Server {
    /// Starts the threads. They answer SERVFAIL to everything until names are published.
    ///
    /// # Errors
    /// A thread, or what it waits with, cannot be had.
    pub fn start(wiring: Wiring) -> io::Result<Self> {
        let threads = wiring.threads.max(1);
        // One more serves connections.
        let heartbeat = Arc::new(Heartbeat::new(threads + 1, Arc::clone(&wiring.heartbeat)));
        let connections = Connections::start(threads, Arc::clone(&heartbeat))?;
        let shared = Arc::new(Shared::new(wiring, connections.handle()));
        let workers = (0..threads)
            .map(|index| Worker::start(index, Arc::clone(&shared), Arc::clone(&heartbeat)))
            .collect::<io::Result<_>>()?;
        Ok(Self { shared, workers, connections, tcp: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// Answers with these names from now on.
    pub fn publish(&self, names: &Arc<dyn Names>) {
        self.shared.published.set_names(names);
    }

    /// The first search domain of resolv.conf; empty for none.
    pub fn set_search(&self, domain: &str) {
        self.shared.published.set_search(domain);
    }

    /// Asks these servers from now on. Questions on their way go on as they began.
    pub fn set_upstreams(&self, upstreams: Upstreams) {
        self.shared.upstreams.store(Arc::new(upstreams));
        for worker in &self.workers {
            worker.wake();
        }
    }

    /// Finds out at once, and not only when it is due, whether upstreams on this node lead back here:
    /// from now on queries are captured that were not.
    pub fn probe(&self) {
        // The thread that probes.
        if let Some(worker) = self.workers.first() {
            worker.probe();
        }
    }

    /// Serves these sockets until [`Server::close`].
    ///
    /// # Errors
    /// A socket cannot be prepared; then none of them is served.
    pub fn listen(&self, listeners: Listeners) -> io::Result<ListenersId> {
        let id = ListenersId(self.next.fetch_add(1, Ordering::Relaxed));
        for socket in listeners.udp.iter().flatten() {
            datagram::report_destination(socket)?;
            socket.set_nonblocking(true)?;
        }
        for listener in &listeners.tcp {
            listener.set_nonblocking(true)?;
        }
        let addresses = listeners.udp.iter().flatten().map(UdpSocket::local_addr);
        let addresses = addresses.chain(listeners.tcp.iter().map(TcpListener::local_addr));
        self.shared.add_addresses(id, addresses.collect::<io::Result<_>>()?);
        for (sockets, worker) in listeners.udp.into_iter().zip(self.workers.iter().cycle()) {
            worker.listen(id, sockets, listeners.askers.clone());
        }
        let mut tasks = self.tcp.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.tcp {
            let askers = listeners.askers.clone();
            let serving = tcp::serve(listener, askers, Arc::clone(&self.shared));
            tasks.push((id, self.shared.connections.spawn(serving)));
        }
        Ok(id)
    }

    /// Closes a set of sockets, as when its network namespace goes.
    pub fn close(&self, id: ListenersId) {
        for worker in &self.workers {
            worker.close(id);
        }
        let mut tasks = self.tcp.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|(of, task)| {
            if *of == id {
                task.abort();
            }
            *of != id
        });
        self.shared.remove_addresses(id);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let tasks = self.tcp.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, task) in tasks {
            task.abort();
        }
        for worker in &mut self.workers {
            worker.stop();
        }
        self.connections.stop();
    }
}
