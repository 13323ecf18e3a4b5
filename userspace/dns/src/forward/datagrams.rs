//! Asking upstream over UDP: one for each thread, driven by that thread's events.
//!
//! Each question travels under a random id of ours, and from a socket and so a source port of its
//! own as long as there are not too many. The socket is connected: the kernel drops what comes from
//! anybody but the server. What arrives must have the id and the question.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::{
    forward::{PATIENCE, is_helpless, probe},
    server::{
        Shared,
        datagram::{Ends, send_one},
    },
    socket::SocketKind,
    upstream::{Transport, Upstream, Upstreams},
    wire::{self, Fault, Query},
};

/// Questions on their way, of one thread.
pub(crate) struct Datagrams {
    shared: Arc<Shared>,
    epoll: Arc<Epoll>,
    /// By the token that epoll reports.
    sockets: HashMap<u64, Asking>,
    /// Tokens by server.
    by_server: HashMap<SocketAddr, Vec<u64>>,
    waiting: HashMap<u64, Waiting>,
    /// In order of time, because every attempt has the same limit. Attempts that are over are
    /// skipped.
    deadlines: VecDeque<(Instant, Attempt)>,
    /// How many questions of one kind are with a local server: a loop piles them up.
    piles: HashMap<(SocketAddr, u64), usize>,
    hasher: RandomState,
    next: u64,
    buffer: Vec<u8>,
    last_probe: Option<(Instant, Arc<Upstreams>)>,
}

/// Who wants the reply.
pub(crate) enum Requester {
    /// An application.
    Client {
        /// The socket its query came by.
        socket: Arc<UdpSocket>,
        /// Where it came from and went to.
        ends: Ends,
    },
    /// We ourselves, to learn whether an upstream leads back to us.
    Probe {
        /// The upstreams.
        upstreams: Arc<Upstreams>,
        /// Which one of them.
        place: usize,
    },
}

/// A socket with questions on their way to one server.
struct Asking {
    socket: UdpSocket,
    server: SocketAddr,
    /// Tickets by the id on the wire.
    tickets: HashMap<u16, u64>,
}

/// A question that has no reply yet.
struct Waiting {
    /// The query as it came.
    query: Vec<u8>,
    /// The largest reply that its client can take.
    limit: usize,
    requester: Requester,
    since: Instant,
    /// Servers not asked yet, the next one last.
    rest: Vec<Upstream>,
    /// What a server said that could not help.
    fallback: Option<Vec<u8>>,
    at: Option<Place>,
    attempts: u32,
}

/// Where a question is.
#[derive(Clone, Copy)]
struct Place {
    token: u64,
    id: u16,
    server: SocketAddr,
    pile: Option<u64>,
}

/// One attempt of one question.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Attempt {
    ticket: u64,
    number: u32,
}

/// How a question ended.
enum End {
    /// With a reply to be relayed.
    Reply(Vec<u8>),
    /// With servers left that are spoken to over connections.
    Streams,
    /// Without anything.
    Nothing,
}

impl Datagrams {
    pub(crate) fn new(shared: Arc<Shared>, epoll: Arc<Epoll>) -> Self {
        Self {
            shared,
            epoll,
            sockets: HashMap::new(),
            by_server: HashMap::new(),
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
            piles: HashMap::new(),
            hasher: RandomState::new(),
            next: FIRST_TOKEN,
            buffer: vec![0; wire::STREAM],
            last_probe: None,
        }
    }

    /// Takes charge of a query. `asked` is the server that the application meant, if that is known.
    /// Says why, if the query cannot even begin to be asked.
    pub(crate) fn ask(
        &mut self,
        query: &Query<'_>,
        asked: Option<SocketAddr>,
        socket: &Arc<UdpSocket>,
        ends: Ends,
    ) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let mut rest = shared.servers_for(query, asked)?;
        rest.reverse();
        if self.waiting.len() >= MAX_WAITING {
            shared.metrics.upstream_refused.increment();
            shared.metrics.upstream_failures.increment();
            return Err(Fault::ServFail);
        }
        let waiting = Waiting {
            query: query.packet().to_vec(),
            limit: query.udp_limit(),
            requester: Requester::Client { socket: Arc::clone(socket), ends },
            since: Instant::now(),
            rest,
            fallback: None,
            at: None,
            attempts: 0,
        };
        self.begin(waiting);
        Ok(())
    }

    /// Sends probes to upstreams on this node, every [`probe::INTERVAL`] and whenever there are new
    /// ones.
    pub(crate) fn probe(&mut self, now: Instant) {
        let upstreams = self.shared.upstreams.load_full();
        let is_due = self.last_probe.as_ref().is_none_or(|(last, of)| {
            now.duration_since(*last) >= probe::INTERVAL || !Arc::ptr_eq(of, &upstreams)
        });
        if !is_due {
            return;
        }
        self.last_probe = Some((now, Arc::clone(&upstreams)));
        for (place, upstream) in upstreams.local() {
            if upstream.transport != Transport::Plain {
                continue;
            }
            self.begin(Waiting {
                query: probe::query(&upstreams, place),
                limit: wire::PLAIN_UDP,
                requester: Requester::Probe { upstreams: Arc::clone(&upstreams), place },
                since: now,
                rest: vec![upstream.clone()],
                fallback: None,
                at: None,
                attempts: 0,
            });
        }
    }

    /// Whether a token of epoll is one of ours.
    pub(crate) fn owns(token: u64) -> bool {
        token >= FIRST_TOKEN
    }

    /// Reads what has come for a socket.
    pub(crate) fn readable(&mut self, token: u64) {
        for _ in 0..MAX_READS {
            let Some(asking) = self.sockets.get(&token) else { return };
            match asking.socket.recv(&mut self.buffer) {
                Ok(length) => {
                    let reply = self.buffer.get(..length).unwrap_or_default();
                    let ticket = wire::id(reply).and_then(|id| asking.tickets.get(&id).copied());
                    let genuine = ticket.filter(|ticket| {
                        let waiting = self.waiting.get(ticket);
                        waiting.is_some_and(|waiting| wire::answers(reply, &waiting.query))
                    });
                    if let Some(ticket) = genuine {
                        self.shared.health.spoke(asking.server);
                        let reply = reply.to_vec();
                        self.replied(ticket, reply);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let server = asking.server;
                    tracing::debug!(%server, %error, "a DNS upstream cannot be reached");
                    let tickets: Vec<u64> = asking.tickets.values().copied().collect();
                    self.shared.health.silent(server);
                    for ticket in tickets {
                        self.next_server(ticket);
                    }
                    return;
                }
            }
        }
    }

    /// When the next question runs out of time.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, attempt)) = self.deadlines.front() {
            if self.is_current(*attempt) {
                return Some(*deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Gives up on servers that have not answered in time.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((deadline, attempt)) = self.deadlines.front().copied() {
            if !self.is_current(attempt) {
                self.deadlines.pop_front();
                continue;
            }
            if deadline > now {
                return;
            }
            self.deadlines.pop_front();
            if let Some(place) = self.waiting.get(&attempt.ticket).and_then(|waiting| waiting.at) {
                tracing::debug!(server = %place.server, "a DNS upstream did not answer in time");
                self.shared.health.silent(place.server);
            }
            self.next_server(attempt.ticket);
        }
    }

    fn is_current(&self, attempt: Attempt) -> bool {
        let waiting = self.waiting.get(&attempt.ticket);
        waiting.is_some_and(|waiting| waiting.attempts == attempt.number)
    }

    fn begin(&mut self, waiting: Waiting) {
        if matches!(waiting.requester, Requester::Client { .. }) {
            self.shared.metrics.upstream_requests.increment();
        }
        let ticket = self.number();
        self.waiting.insert(ticket, waiting);
        self.next_server(ticket);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn replied(&mut self, ticket: u64, reply: Vec<u8>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        // Larger than the client can take: as good as no answer (conformance: `giant.`).
        if reply.len() > waiting.limit {
            self.next_server(ticket);
        } else if is_helpless(&reply) && !waiting.rest.is_empty() {
            waiting.fallback = Some(reply);
            self.next_server(ticket);
        } else {
            self.finish(ticket, End::Reply(reply));
        }
    }

    /// Asks the next server that can be asked; ends the question if there is none.
    fn next_server(&mut self, ticket: u64) {
        self.release(ticket);
        loop {
            let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
            let Some(upstream) = waiting.rest.pop() else {
                let end = waiting.fallback.take().map_or(End::Nothing, End::Reply);
                return self.finish(ticket, end);
            };
            if upstream.transport != Transport::Plain {
                waiting.rest.push(upstream);
                return self.finish(ticket, End::Streams);
            }
            waiting.attempts += 1;
            let attempt = Attempt { ticket, number: waiting.attempts };
            match self.send(ticket, upstream.address) {
                Ok(()) => {
                    self.deadlines.push_back((Instant::now() + PATIENCE, attempt));
                    return;
                }
                Err(error) => {
                    let server = upstream.address;
                    tracing::debug!(%server, %error, "a DNS upstream cannot be asked");
                }
            }
        }
    }

    fn send(&mut self, ticket: u64, server: SocketAddr) -> io::Result<()> {
        let pile = self.pile_up(ticket, server)?;
        let token = match self.socket_for(server) {
            Ok(token) => token,
            Err(error) => {
                self.pile_down(server, pile);
                return Err(error);
            }
        };
        let id = self.free_id(token);
        let place = Place { token, id, server, pile };
        let (Some(asking), Some(waiting)) =
            (self.sockets.get_mut(&token), self.waiting.get_mut(&ticket))
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        asking.tickets.insert(id, ticket);
        waiting.at = Some(place);
        let theirs = wire::id(&waiting.query).unwrap_or_default();
        wire::set_id(&mut waiting.query, id);
        let sent = asking.socket.send(&waiting.query);
        wire::set_id(&mut waiting.query, theirs);
        if let Err(error) = sent {
            self.release(ticket);
            return Err(error);
        }
        Ok(())
    }

    /// A socket for one more question: a fresh one, and so a fresh source port, unless there are too
    /// many; then one of this server's at random.
    fn socket_for(&mut self, server: SocketAddr) -> io::Result<u64> {
        let tokens = self.by_server.get(&server).map(Vec::as_slice).unwrap_or_default();
        let asking = tokens.iter().filter_map(|token| self.sockets.get(token));
        let questions: usize = asking.map(|asking| asking.tickets.len()).sum();
        if questions >= MAX_WAITING_EACH {
            self.shared.metrics.upstream_refused.increment();
            return Err(io::Error::other("too many questions are waiting for this server"));
        }
        let is_full = tokens.len() >= MAX_SOCKETS_EACH || self.sockets.len() >= MAX_SOCKETS;
        if is_full && !tokens.is_empty() {
            let place = rand::random_range(0..tokens.len());
            return tokens.get(place).copied().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        if self.sockets.len() >= MAX_SOCKETS {
            return Err(io::Error::other("too many servers are being asked"));
        }
        let socket = UdpSocket::from(self.shared.sockets.socket(SocketKind::Udp, server)?);
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        let token = self.number();
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.sockets.insert(token, Asking { socket, server, tickets: HashMap::new() });
        self.by_server.entry(server).or_default().push(token);
        Ok(token)
    }

    fn free_id(&self, token: u64) -> u16 {
        let taken = self.sockets.get(&token).map(|asking| &asking.tickets);
        loop {
            let id = rand::random();
            if taken.is_none_or(|taken| !taken.contains_key(&id)) {
                return id;
            }
        }
    }

    /// Takes a question off the wire; the socket goes with the last one.
    fn release(&mut self, ticket: u64) {
        let Some(place) = self.waiting.get_mut(&ticket).and_then(|waiting| waiting.at.take())
        else {
            return;
        };
        self.pile_down(place.server, place.pile);
        let Some(asking) = self.sockets.get_mut(&place.token) else { return };
        asking.tickets.remove(&place.id);
        if !asking.tickets.is_empty() {
            return;
        }
        // Closing takes it out of epoll, too.
        self.sockets.remove(&place.token);
        if let Some(tokens) = self.by_server.get_mut(&place.server) {
            tokens.retain(|token| *token != place.token);
            if tokens.is_empty() {
                self.by_server.remove(&place.server);
            }
        }
    }

    /// Counts a question to a server on this node; too many of one kind are a loop that the probe
    /// has not shown.
    fn pile_up(&mut self, ticket: u64, server: SocketAddr) -> io::Result<Option<u64>> {
        if !self.shared.upstreams.load().is_local(server) {
            return Ok(None);
        }
        let Some(waiting) = self.waiting.get(&ticket) else { return Ok(None) };
        let question = waiting.query.get(wire::HEADER..).unwrap_or_default().to_ascii_lowercase();
        let pile = self.hasher.hash_one(question);
        let count = self.piles.entry((server, pile)).or_default();
        if *count >= MAX_PILE {
            self.shared.metrics.upstream_loops.increment();
            return Err(io::Error::other(
                "the same question too often: this server leads back here",
            ));
        }
        *count += 1;
        Ok(Some(pile))
    }

    fn pile_down(&mut self, server: SocketAddr, pile: Option<u64>) {
        let Some(pile) = pile else { return };
        if let Some(count) = self.piles.get_mut(&(server, pile)) {
            *count -= 1;
            if *count == 0 {
                self.piles.remove(&(server, pile));
            }
        }
    }

    fn finish(&mut self, ticket: u64, end: End) {
        self.release(ticket);
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        match waiting.requester {
            Requester::Probe { upstreams, place } => {
                if let Some(upstream) = upstreams.probe_over(place) {
                    tracing::info!(%upstream, "a DNS upstream does not lead back here any more");
                }
            }
            Requester::Client { socket, ends } => {
                let shared = &self.shared;
                match end {
                    End::Reply(mut reply) => {
                        wire::set_id(&mut reply, wire::id(&waiting.query).unwrap_or_default());
                        shared.metrics.upstream_duration.record(waiting.since.elapsed());
                        relay(&socket, ends, reply);
                    }
                    End::Streams => {
                        let mut order = waiting.rest;
                        order.reverse();
                        let pending = Pending {
                            query: waiting.query,
                            limit: waiting.limit,
                            since: waiting.since,
                            fallback: waiting.fallback,
                        };
                        hand_over(shared, order, pending, socket, ends);
                    }
                    End::Nothing => {
                        shared.metrics.upstream_duration.record(waiting.since.elapsed());
                        shared.metrics.upstream_failures.increment();
                        refuse(&waiting.query, &socket, ends);
                    }
                }
            }
        }
    }
}

/// What goes on over connections.
struct Pending {
    query: Vec<u8>,
    limit: usize,
    since: Instant,
    fallback: Option<Vec<u8>>,
}

/// Lets the runtime ask over connections, and answers from there.
fn hand_over(
    shared: &Arc<Shared>,
    order: Vec<Upstream>,
    pending: Pending,
    socket: Arc<UdpSocket>,
    ends: Ends,
) {
    let shared = Arc::clone(shared);
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let replied = shared.streams.ask(&order, &pending.query).await;
        shared.metrics.upstream_duration.record(pending.since.elapsed());
        match replied.ok().or(pending.fallback) {
            Some(mut reply) => {
                if reply.len() > pending.limit {
                    wire::truncate(&mut reply);
                }
                wire::set_id(&mut reply, wire::id(&pending.query).unwrap_or_default());
                relay(&socket, ends, reply);
            }
            None => {
                shared.metrics.upstream_failures.increment();
                refuse(&pending.query, &socket, ends);
            }
        }
    });
}

fn relay(socket: &UdpSocket, ends: Ends, reply: Vec<u8>) {
    if let Err(error) = send_one(socket, ends, reply) {
        tracing::debug!(client = %ends.client, %error, "an answer could not be sent");
    }
}

fn refuse(query: &[u8], socket: &UdpSocket, ends: Ends) {
    if let Ok(query) = Query::parse(query) {
        let mut reply = Vec::with_capacity(query.question().len() + 32);
        wire::fail(&mut reply, &query, Fault::ServFail);
        relay(socket, ends, reply);
    }
}

/// Tokens and tickets are numbered from here; smaller tokens are the thread's own.
const FIRST_TOKEN: u64 = 1 << 32;
/// Questions of one thread that wait for servers. A hundred bytes each as a rule, 4 KiB at most.
const MAX_WAITING: usize = 4096;
/// Those that wait for one server: a dead one does not use up what others need.
const MAX_WAITING_EACH: usize = 1024;
/// Sockets of one thread.
const MAX_SOCKETS: usize = 384;
/// Sockets of one thread towards one server. Beyond this, questions share source ports.
const MAX_SOCKETS_EACH: usize = 128;
/// Datagrams read from a socket before others get their turn: somebody may be guessing ids.
const MAX_READS: usize = 64;
/// Questions of one kind with one local server.
const MAX_PILE: usize = 256;
