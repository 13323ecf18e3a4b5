//! A thread that answers datagrams and forwards what is not ours.

use std::{
    io,
    net::UdpSocket,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
    },
};

use crate::{
    answer::{Answerer, Verdict},
    forward::{Datagrams, Sender as Asking},
    names::Snapshot,
    server::{
        ListenersId, Shared,
        datagram::{BATCH, Ends, Inbox, Outbox},
        heartbeat::{self, Heartbeat},
    },
    socket::{Askers, SocketKind},
    wire,
};

/// A handle to one thread.
pub(crate) struct Worker {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    thread: Option<thread::JoinHandle<()>>,
}

enum Command {
    Listen(ListenersId, Vec<UdpSocket>, Option<Arc<dyn Askers>>),
    Close(ListenersId),
    Probe,
    Stop,
}

impl Worker {
    pub(crate) fn start(
        index: usize,
        shared: Arc<Shared>,
        heartbeat: Arc<Heartbeat>,
    ) -> io::Result<Self> {
        let (commands, receiver) = channel();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let run = Run {
            index,
            forward: Datagrams::new(Arc::clone(&shared), Arc::clone(&epoll)),
            answerer: Answerer::new(shared.services),
            shared,
            heartbeat,
            epoll,
            commands: receiver,
            wake: Arc::clone(&wake),
            listeners: Vec::new(),
            next: WAKE,
            inbox: Inbox::new(),
            outbox: Outbox::new(),
        };
        let thread = thread::Builder::new().name(format!("dns-{index}")).spawn(|| run.run())?;
        Ok(Self { commands, wake, thread: Some(thread) })
    }

    pub(crate) fn listen(
        &self,
        id: ListenersId,
        sockets: Vec<UdpSocket>,
        askers: Option<Arc<dyn Askers>>,
    ) {
        self.command(Command::Listen(id, sockets, askers));
    }

    pub(crate) fn close(&self, id: ListenersId) {
        self.command(Command::Close(id));
    }

    pub(crate) fn probe(&self) {
        self.command(Command::Probe);
    }

    pub(crate) fn stop(&mut self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a DNS thread had panicked");
        }
    }

    /// Makes the thread look around at once.
    pub(crate) fn wake(&self) {
        // It fails only when the counter is full, and then the thread is awake anyway.
        if let Err(error) = self.wake.write(1) {
            tracing::debug!(%error, "waking a DNS thread");
        }
    }

    fn command(&self, command: Command) {
        // A thread that is gone does not need to hear it.
        if self.commands.send(command).is_ok() {
            self.wake();
        }
    }
}

/// The state of the thread.
struct Run {
    index: usize,
    shared: Arc<Shared>,
    heartbeat: Arc<Heartbeat>,
    epoll: Arc<Epoll>,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    listeners: Vec<Listener>,
    next: u64,
    answerer: Answerer,
    inbox: Inbox,
    outbox: Outbox,
    forward: Datagrams,
}

struct Listener {
    token: u64,
    id: ListenersId,
    socket: Arc<UdpSocket>,
    port: u16,
    askers: Option<Arc<dyn Askers>>,
}

impl Run {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        let mut next_beat = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_beat {
                self.heartbeat.beat(self.index);
                next_beat = now + heartbeat::INTERVAL;
                // One thread's probes are enough.
                if self.index == 0 {
                    self.forward.probe(now);
                }
            }
            self.forward.expire(now);
            let deadline = self.forward.next_deadline().map_or(next_beat, |at| at.min(next_beat));
            let count = match self.epoll.wait(&mut events, wait_for(deadline, now)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!(%error, "a DNS thread cannot wait for events and ends");
                    return;
                }
            };
            for event in events.iter().take(count) {
                match event.data() {
                    WAKE => {
                        if self.obey() {
                            return;
                        }
                    }
                    token if Datagrams::owns(token) => self.forward.readable(token),
                    token => self.serve(token),
                }
            }
        }
    }

    /// Does what was asked by other threads; says whether to stop.
    fn obey(&mut self) -> bool {
        if let Err(error) = self.wake.read()
            && error != Errno::EAGAIN
        {
            tracing::debug!(%error, "reading the wake-up of a DNS thread");
        }
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Listen(id, sockets, askers) => {
                    for socket in sockets {
                        self.listen(id, socket, askers.clone());
                    }
                }
                // Closing takes it out of epoll, unless a question still holds the socket.
                Command::Close(id) => {
                    for listener in self.listeners.extract_if(.., |listener| listener.id == id) {
                        if let Err(error) = self.epoll.delete(&listener.socket) {
                            tracing::debug!(%error, "a DNS socket was not watched");
                        }
                    }
                }
                Command::Probe => self.forward.forget_probes(),
                Command::Stop => return true,
            }
        }
        if self.index == 0 {
            self.forward.probe(Instant::now());
        }
        false
    }

    fn listen(&mut self, id: ListenersId, socket: UdpSocket, askers: Option<Arc<dyn Askers>>) {
        self.next += 1;
        let token = self.next;
        let port = socket.local_addr().map(|at| at.port()).unwrap_or_default();
        if let Err(error) = self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            tracing::error!(%error, port, "a DNS socket cannot be served");
            return;
        }
        self.listeners.push(Listener { token, id, socket: Arc::new(socket), port, askers });
    }

    /// Answers what has come by one socket.
    fn serve(&mut self, token: u64) {
        let Some(listener) = self.listeners.iter().find(|listener| listener.token == token) else {
            return;
        };
        let mut work = Work {
            shared: &self.shared,
            listener,
            answerer: &mut self.answerer,
            outbox: &mut self.outbox,
            forward: &mut self.forward,
        };
        for _ in 0..MAX_BATCHES {
            match self.inbox.receive(&listener.socket) {
                Ok(count) => {
                    self.shared.metrics.requests.add(count as u64);
                    let snapshot = self.shared.published.load();
                    for (packet, ends) in self.inbox.iter() {
                        work.datagram(packet, ends, &snapshot);
                    }
                    work.outbox.send(&listener.socket);
                    if count < BATCH {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(%error, "reading a DNS socket");
                    return;
                }
            }
        }
    }
}

/// What one datagram needs.
struct Work<'a> {
    shared: &'a Shared,
    listener: &'a Listener,
    answerer: &'a mut Answerer,
    outbox: &'a mut Outbox,
    forward: &'a mut Datagrams,
}

impl Work<'_> {
    fn datagram(&mut self, packet: &[u8], ends: Ends, snapshot: &Snapshot) {
        let Some(draft) = self.outbox.draft() else { return };
        match self.answerer.respond(packet, snapshot, SocketKind::Udp, draft) {
            Verdict::Dropped => self.shared.metrics.malformed.increment(),
            Verdict::Malformed => {
                self.shared.metrics.malformed.increment();
                self.outbox.keep(ends);
            }
            Verdict::Answered => self.outbox.keep(ends),
            Verdict::Forward(query) => {
                let Listener { socket, port, askers, .. } = self.listener;
                let sender = Asking { socket, port: *port, ends, askers: askers.as_deref() };
                let asked =
                    sender.local().and_then(|local| self.shared.asked.datagram(ends.client, local));
                if let Err(fault) = self.forward.ask(&query, asked, &sender) {
                    wire::fail(draft, &query, fault);
                    self.outbox.keep(ends);
                }
            }
        }
    }
}

/// Whole milliseconds until a deadline, rounded up: woken too early, the thread would turn in place.
fn wait_for(deadline: Instant, now: Instant) -> EpollTimeout {
    let wait = deadline.saturating_duration_since(now) + Duration::from_micros(999);
    u16::try_from(wait.as_millis()).map_or(EpollTimeout::from(u16::MAX), EpollTimeout::from)
}

/// The token of the wake-up; listeners are numbered after it.
const WAKE: u64 = 0;
/// Events taken at a time.
const MAX_EVENTS: usize = 64;
/// Batches read from one socket before others get their turn.
const MAX_BATCHES: usize = 4;
