//! A worker: a thread with an event loop, the listeners given to it, and their flows.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{ListenerId, Shared, accept::accept_all};
use crate::{
    alert,
    door::Entrance,
    flow::OverLimit,
    health,
    http::{HttpWorker, Places, Sockets},
    stats::{Counted, Counters},
};

/// One thread's part of the server.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Arc<Counters>,
    /// Serves the requests of connections that carry HTTP.
    pub(crate) http: Arc<HttpWorker>,
    ending: Arc<AtomicBool>,
    /// Flows are to come to an end of their own.
    draining: AtomicBool,
    drain: Notify,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Accept from this listener.
    Serve(ListenerId, OwnedFd, Entrance),
    /// Accept what waits there, and close it.
    Stop(ListenerId),
    /// The same for all, and say when it is done.
    StopAll(oneshot::Sender<()>),
    /// End, with whatever is under way.
    End,
}

/// A flow's place among those there may be.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Shared>);

/// The place of a flow whose client dialled us.
#[derive(Debug)]
pub(crate) struct VisitorsSlot(Slot);

/// Starts a worker's thread.
///
/// # Errors
/// The thread, or its event loop, could not be made.
pub(super) fn spawn(
    number: usize,
    worker: Arc<Worker>,
) -> io::Result<(mpsc::UnboundedSender<Command>, JoinHandle<()>)> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_unpark(alert::woken)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("egressd-dns")
        .build()?;
    let (commands, received) = mpsc::unbounded_channel();
    let thread = thread::Builder::new().name(format!("egressd-w{number}")).spawn(move || {
        runtime.block_on(async {
            // One thread does it for all; it ends with the event loop.
            let checks = (number == 0).then(|| tokio::spawn(checks(&worker.shared)));
            run(worker, received).await;
            drop(checks);
        });
        // Drops every flow, which resets its connections and leaves its record; a name that is being
        // looked up is not waited for.
        runtime.shutdown_background();
    })?;
    Ok((commands, thread))
}

async fn run(worker: Arc<Worker>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut listeners = Listeners::default();
    tokio::spawn(alert::stay());
    let mut beat = interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = beat.tick() => {
                worker.counters.beats.add(1);
                continue;
            }
        };
        match command {
            Some(Command::Serve(id, listener, entrance)) => {
                listeners.serve(&worker, id, listener, entrance);
            }
            Some(Command::Stop(id)) => listeners.stop(id),
            Some(Command::StopAll(done)) => {
                listeners.stop_all().await;
                worker.drain();
                // Nobody may be waiting any more.
                done.send(()).ok();
            }
            Some(Command::End) | None => break,
        }
    }
    // Nobody can reset a flow but the end of the event loop.
    worker.end();
}

#[derive(Default)]
struct Listeners {
    tasks: JoinSet<()>,
    stops: HashMap<ListenerId, Arc<Notify>>,
}

impl Listeners {
    fn serve(
        &mut self,
        worker: &Arc<Worker>,
        id: ListenerId,
        listener: OwnedFd,
        entrance: Entrance,
    ) {
        while self.tasks.try_join_next().is_some() {}
        let stop = Arc::<Notify>::default();
        self.tasks.spawn(accept_all(Arc::clone(worker), listener, entrance, Arc::clone(&stop)));
        self.stops.insert(id, stop);
    }

    fn stop(&mut self, id: ListenerId) {
        if let Some(stop) = self.stops.remove(&id) {
            stop.notify_one();
        }
    }

    async fn stop_all(&mut self) {
        for stop in self.stops.drain().map(|(_, stop)| stop) {
            stop.notify_one();
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (counters, ending) = (Arc::<Counters>::default(), Arc::<AtomicBool>::default());
        let http = Arc::new(http_worker(&shared, &counters, &ending));
        let (draining, drain) = (AtomicBool::new(false), Notify::new());
        Self { shared, counters, http, ending, draining, drain }
    }

    /// Takes a place for one more flow.
    pub(super) fn slot(&self) -> Result<Slot, OverLimit> {
        let slot = Slot(Arc::clone(&self.shared));
        let before = self.shared.active.fetch_add(1, Ordering::SeqCst);
        if before < self.shared.config.max_flows as u64 { Ok(slot) } else { Err(OverLimit) }
    }

    /// Takes a place for one whose client dialled us, perhaps from another machine. Those get a quarter
    /// of all places at most: what is captured here is not to be reset for their sake.
    pub(super) fn visitors_slot(&self) -> Result<VisitorsSlot, OverLimit> {
        let slot = VisitorsSlot(self.slot()?);
        let before = slot.visits().fetch_add(1, Ordering::SeqCst);
        let most = (self.shared.config.max_flows as u64 / 4).max(1);
        if before < most { Ok(slot) } else { Err(OverLimit) }
    }

    /// From here on a flow that is dropped was drained, not forgotten.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// Asks flows that have no end of their own, such as idle connections, to come to one.
    fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.drain.notify_waiters();
    }

    /// Waits until flows are to come to an end of their own.
    pub(crate) async fn drained(&self) {
        loop {
            let drain = self.drain.notified();
            if self.draining.load(Ordering::SeqCst) {
                return;
            }
            drain.await;
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

/// Checks endpoints' health.
fn checks(shared: &Shared) -> impl Future<Output = ()> + use<> {
    let tools = health::Tools {
        clusters: Arc::clone(shared.snapshot.clusters()),
        resolver: Arc::clone(&shared.resolver),
        connectors: Arc::new(sockets(shared)),
    };
    health::check_all(shared.snapshot.checked(), tools)
}

fn sockets(shared: &Shared) -> Sockets {
    Sockets { factory: Arc::clone(&shared.factory), originator: Arc::clone(&shared.originator) }
}

fn http_worker(shared: &Shared, counters: &Arc<Counters>, ending: &Arc<AtomicBool>) -> HttpWorker {
    let places = Places {
        clusters: Arc::clone(shared.snapshot.clusters()),
        resolver: Arc::clone(&shared.resolver),
    };
    let records = Counted { counters: Arc::clone(counters), records: Arc::clone(&shared.records) };
    HttpWorker::new(
        shared.config.http,
        Arc::new(places),
        Arc::new(sockets(shared)),
        Arc::clone(&shared.circuits),
        Arc::clone(&shared.pipes),
        Arc::new(records),
        Arc::clone(ending),
    )
}

impl VisitorsSlot {
    fn visits(&self) -> &AtomicU64 {
        &self.0.0.visits
    }
}

impl Drop for VisitorsSlot {
    fn drop(&mut self) {
        self.visits().fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}

/// A timer that is always set. Without one, the first timer of a flow finds none and wakes the event
/// loop, two system calls for nothing; with it, only a timer shorter than this does.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Threads that ask the system's resolver, per worker.
const BLOCKING_THREADS: usize = 4;
