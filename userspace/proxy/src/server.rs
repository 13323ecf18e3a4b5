//! The server: listeners, the workers that serve them, and the end.

mod accept;
mod worker;

use std::{
    io,
    net::TcpListener,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, SockRef};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use self::worker::{Command, spawn};
pub(crate) use self::worker::{Slot, VisitorsSlot, Worker};
use crate::{
    config::Config,
    door::{Door, DoorAddr, Entrance},
    http::Circuits,
    original::Originals,
    record::Records,
    relay::PipePool,
    resolve::Resolver,
    snapshot::Snapshot,
    socket::SocketFactory,
    stats::Stats,
    tls::{Originator, Sources, Terminator},
};

/// Serves captured connections on listeners that it is given.
///
/// Each worker is a thread with an event loop of its own; a listener belongs to one worker, and its
/// connections stay there. Give it several listeners (one a spread address) to use several workers.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    workers: Vec<Running>,
    /// Listeners so far: the next one's number and, by its remainder, its worker.
    listeners: AtomicUsize,
    /// The end has come, whatever is still under way.
    now: Notify,
}

/// What the server is made of.
pub struct Parts {
    /// The generation in force.
    pub snapshot: Arc<Snapshot>,
    /// Makes upstream sockets.
    pub factory: Arc<SocketFactory>,
    /// Resolves endpoints' names.
    pub resolver: Arc<dyn Resolver>,
    /// Tells what applications dialled.
    pub originals: Arc<dyn Originals>,
    /// Takes the records.
    pub records: Arc<dyn Records>,
    /// Where mesh TLS and named credentials find their files.
    pub sources: Sources,
}

/// A listener that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(usize);

/// A door that is open.
#[derive(Debug)]
pub struct Opened {
    listeners: Vec<ListenerId>,
    addr: DoorAddr,
    /// Disconnected once the last worker has closed the socket.
    closed: std::sync::mpsc::Receiver<()>,
}

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Flows that came to their own end in time.
    pub finished: u64,
    /// Flows that were reset when the time was over.
    pub reset: u64,
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) factory: Arc<SocketFactory>,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) originals: Arc<dyn Originals>,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) pipes: Arc<PipePool>,
    /// Speaks TLS to endpoints.
    pub(crate) originator: Arc<Originator>,
    /// Speaks TLS to the clients of Gateways.
    pub(crate) terminator: Terminator,
    /// What clusters of HTTP have under way.
    pub(crate) circuits: Arc<Circuits>,
    /// Flows under way.
    active: AtomicU64,
    /// Those of them that came in by a door.
    visits: AtomicU64,
    /// The last flow has ended.
    quiet: Notify,
}

#[derive(Debug)]
struct Running {
    worker: Arc<Worker>,
    commands: mpsc::UnboundedSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Starts the workers. The limits in `config` are lowered to what the process's limit of open
    /// files has room for.
    ///
    /// # Errors
    /// A thread or its event loop could not be made.
    pub fn new(config: Config, parts: Parts) -> io::Result<Self> {
        let config = config.fitted_to_process();
        let Parts { snapshot, factory, resolver, originals, records, sources } = parts;
        let pipes = Arc::new(PipePool::new(config.max_pipes));
        let (active, quiet) = (AtomicU64::new(0), Notify::new());
        let shared = Arc::new(Shared {
            config,
            snapshot,
            factory,
            resolver,
            originals,
            records,
            pipes,
            terminator: Terminator::new(sources.clone()),
            originator: Arc::new(Originator::new(sources)),
            circuits: Arc::new(Circuits::limited(config.max_http_connections)),
            active,
            visits: AtomicU64::new(0),
            quiet,
        });
        let mut workers = Vec::new();
        for number in 0..config.workers.max(1) {
            let worker = Arc::new(Worker::new(Arc::clone(&shared)));
            let (commands, thread) = spawn(number, Arc::clone(&worker))?;
            workers.push(Running { worker, commands, thread: Mutex::new(Some(thread)) });
        }
        Ok(Self { shared, workers, listeners: AtomicUsize::new(0), now: Notify::new() })
    }

    /// The limits in force.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Serves a listening socket, in whatever network namespace it was made, until
    /// [`Server::stop`] or the end. The loop guard learns its address, accepted connections inherit
    /// TCP_NODELAY from it, and its queue is made [`BACKLOG`] long.
    ///
    /// # Errors
    /// The socket cannot be used without blocking, or has no address.
    pub fn serve(&self, listener: TcpListener) -> io::Result<ListenerId> {
        prepare(&listener)?;
        self.shared.factory.guard().add_listener(listener.local_addr()?);
        self.start(listener.into(), Entrance::Captured)
    }

    /// Serves a listening socket that clients dial by themselves, on every worker, until
    /// [`Server::shut`] or the end. What happens to its connections the generation in force says.
    ///
    /// # Errors
    /// The socket cannot be used without blocking.
    pub fn open(&self, listener: &OwnedFd, addr: DoorAddr, door: Door) -> io::Result<Opened> {
        prepare(listener)?;
        let door = Arc::new(door);
        self.shared.factory.guard().add_door(&addr);
        let (open, closed) = std::sync::mpsc::channel();
        let mut opened = Opened { listeners: Vec::new(), addr, closed };
        for _worker in &self.workers {
            let entrance = Entrance::Door { door: Arc::clone(&door), _open: open.clone() };
            let started = listener.try_clone().and_then(|socket| self.start(socket, entrance));
            match started {
                Ok(id) => opened.listeners.push(id),
                Err(error) => {
                    drop(open);
                    self.shut(opened);
                    return Err(error);
                }
            }
        }
        Ok(opened)
    }

    /// Closes a door: connections that wait at it are still served, and flows go on. Its address is
    /// free when this returns, unless a worker is stuck for a second.
    pub fn shut(&self, opened: Opened) {
        self.shared.factory.guard().remove_door(&opened.addr);
        opened.listeners.into_iter().for_each(|listener| self.stop(listener));
        // Nothing is ever sent: this waits for the end of those who could.
        opened.closed.recv_timeout(SHUTTING).ok();
    }

    fn start(&self, listener: OwnedFd, entrance: Entrance) -> io::Result<ListenerId> {
        let number = self.listeners.fetch_add(1, Ordering::Relaxed);
        self.send(ListenerId(number), |id| Command::Serve(id, listener, entrance))?;
        Ok(ListenerId(number))
    }

    /// Stops serving one listener and closes it; connections that wait to be accepted still are, and
    /// flows go on.
    pub fn stop(&self, listener: ListenerId) {
        // A worker that has ended has stopped already.
        self.send(listener, Command::Stop).ok();
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        let active = self.shared.active.load(Ordering::Relaxed);
        let mut sum = Stats { active, ..Stats::default() };
        for running in &self.workers {
            running.worker.counters.add_to(&mut sum);
        }
        sum
    }

    /// For each worker, what reads a number that grows about once a second as long as the worker's
    /// event loop turns.
    pub fn pulses(&self) -> Vec<Box<dyn Fn() -> u64 + Send>> {
        let workers = self.workers.iter();
        let reading = workers.map(|running| {
            let counters = Arc::clone(&running.worker.counters);
            Box::new(move || counters.beats.get()) as Box<dyn Fn() -> u64 + Send>
        });
        reading.collect()
    }

    /// Ends the server: closes the listeners, waits for flows to end by themselves for at most
    /// `drain`, resets those that have not, and ends the workers. [`Server::end_now`] cuts the
    /// waiting short. A second call finds nothing to do.
    pub async fn shutdown(&self, drain: Duration) -> Drained {
        let (all_stopped, before) = (self.stop_all(), self.shared.active.load(Ordering::SeqCst));
        let drained = async {
            for stopped in all_stopped {
                // A worker that has ended has stopped, too.
                stopped.await.ok();
            }
            self.quiet().await;
        };
        tokio::select! {
            _ = timeout(drain, drained) => {}
            () = self.now.notified() => {}
        }
        let reset = self.shared.active.load(Ordering::SeqCst);
        for running in &self.workers {
            running.worker.end();
            running.commands.send(Command::End).ok();
        }
        for running in &self.workers {
            running.commands.closed().await;
            let thread = running.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if thread.is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a worker of the proxy has panicked");
            }
        }
        Drained { finished: before.saturating_sub(reset), reset }
    }

    /// Cuts a [`Server::shutdown`] short, now or when it comes: flows under way are reset at once.
    pub fn end_now(&self) {
        self.now.notify_one();
    }

    fn stop_all(&self) -> Vec<oneshot::Receiver<()>> {
        let stop = |running: &Running| {
            let (done, stopped) = oneshot::channel();
            running.commands.send(Command::StopAll(done)).ok();
            stopped
        };
        self.workers.iter().map(stop).collect()
    }

    /// Waits until no flow is under way.
    async fn quiet(&self) {
        loop {
            let quiet = self.shared.quiet.notified();
            if self.shared.active.load(Ordering::SeqCst) == 0 {
                return;
            }
            quiet.await;
        }
    }

    fn send(
        &self,
        listener: ListenerId,
        command: impl FnOnce(ListenerId) -> Command,
    ) -> io::Result<()> {
        let ended = || io::Error::other("the server has ended");
        let at = listener.0.checked_rem(self.workers.len()).ok_or_else(ended)?;
        let running = self.workers.get(at).ok_or_else(ended)?;
        running.commands.send(command(listener)).map_err(|_unsent| ended())
    }
}

fn prepare(listener: impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(&listener);
    socket.set_nonblocking(true)?;
    if socket.domain()? != Domain::UNIX {
        socket.set_tcp_nodelay(true)?;
    }
    // Listening again only sets the length of the queue.
    rustix::net::listen(listener, BACKLOG)?;
    Ok(())
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// How long the closing of a door is waited for: workers answer within a turn of their event loop.
const SHUTTING: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted on one listener, as far as the system allows
/// (net.core.somaxconn). One that finds no room is not refused but answered late or with a reset,
/// so a storm must fit.
pub const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests;
