//! Asking upstream over UDP: one for each thread, driven by that thread's events.
//!
//! Each question travels under a random id of ours, and from a socket and so a source port of its
//! own as long as there are not too many. The socket is connected: the kernel drops what comes from
//! anybody but the server. What arrives must have the id and the question.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use nix::sys::epoll::Epoll;

use crate::{
    forward::{
        PATIENCE, is_helpless,
        pool::{Place, Pool, PoolError, Received},
        probe,
        relay::{Client, Sender},
    },
    server::Shared,
    shares::{Admission, Asker, Shares},
    socket::SocketKind,
    upstream::{Transport, Upstream, Upstreams},
    wire::{self, Fault, Query},
};

/// Questions on their way, of one thread.
pub(crate) struct Datagrams {
    shared: Arc<Shared>,
    pool: Pool,
    waiting: HashMap<u64, Waiting>,
    /// Whose they are, but for probes.
    shares: Shares,
    /// In order of time, because every attempt has the same limit. Attempts that are over are
    /// skipped.
    deadlines: VecDeque<(Instant, Attempt)>,
    piles: Piles,
    last_ticket: u64,
    last_probe: Option<(Instant, Arc<Upstreams>)>,
}

/// A question that has no reply yet.
struct Waiting {
    requester: Requester,
    /// Servers not asked yet, the next one last.
    rest: Vec<Upstream>,
    /// What a server said that could not help.
    fallback: Option<Vec<u8>>,
    at: Option<Place>,
    pile: Option<Pile>,
    attempts: u32,
}

/// Who wants the reply.
enum Requester {
    /// An application.
    Client(Client),
    /// We ourselves, to learn whether the upstream at a place leads back to us.
    Probe { of: Arc<Upstreams>, place: usize, number: u64, query: Vec<u8> },
}

/// One attempt of one question.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Attempt {
    ticket: u64,
    number: u32,
}

impl Datagrams {
    pub(crate) fn new(shared: Arc<Shared>, epoll: Arc<Epoll>) -> Self {
        Self {
            pool: Pool::new(Arc::clone(&shared.sockets), epoll),
            shared,
            waiting: HashMap::new(),
            shares: Shares::new(MAX_WAITING),
            deadlines: VecDeque::new(),
            piles: Piles::default(),
            last_ticket: 0,
            last_probe: None,
        }
    }

    /// Takes charge of a query. `asked` is the server that the application meant, if that is known.
    /// Says why, if the query cannot even begin to be asked.
    pub(crate) fn ask(
        &mut self,
        query: &Query<'_>,
        asked: Option<SocketAddr>,
        sender: &Sender<'_>,
    ) -> Result<(), Fault> {
        let mut rest = self.shared.servers_for(query, asked)?;
        let by_datagram = rest.first().is_some_and(|first| first.transport == Transport::Plain);
        rest.reverse();
        // Who it is takes a look to find out, and matters once there are many, or to others.
        let asker = match by_datagram && self.shares.count() < UNNOTICED {
            true => Asker::Address(sender.ends.client.ip()),
            false => sender.asker(SocketKind::Udp),
        };
        let now = Instant::now();
        match self.shares.admit(asker, now) {
            Admission::Free => {}
            Admission::InsteadOf(ticket) => self.displace(ticket),
            Admission::Refused => {
                self.shared.crowded(asker);
                self.shared.metrics.upstream_refused.increment();
                self.shared.metrics.upstream_failures.increment();
                return Err(Fault::ServFail);
            }
        }
        self.shared.metrics.upstream_requests.increment();
        let client = Client {
            socket: Arc::clone(sender.socket),
            ends: sender.ends,
            query: query.packet().to_vec(),
            limit: query.udp_limit(),
            since: now,
            asker,
        };
        self.shares.add(asker, self.last_ticket + 1, now);
        self.begin(Requester::Client(client), rest);
        Ok(())
    }

    /// Ends a question so that another one may begin.
    fn displace(&mut self, ticket: u64) {
        if let Some(Requester::Client(client)) =
            self.waiting.get(&ticket).map(|waiting| &waiting.requester)
        {
            self.shared.crowded(client.asker);
        }
        self.shared.metrics.upstream_displaced.increment();
        self.finish(ticket, None);
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
            if upstream.transport == Transport::Plain {
                let number = upstreams.probe_sent(place);
                let query = probe::query(&upstreams, place, number);
                let of = Arc::clone(&upstreams);
                let requester = Requester::Probe { of, place, number, query };
                self.begin(requester, vec![upstream.clone()]);
            }
        }
    }

    /// What the last probes have shown may not hold any more: the next ones are due at once.
    pub(crate) fn forget_probes(&mut self) {
        self.last_probe = None;
    }

    /// Whether a token of epoll is one of ours.
    pub(crate) fn owns(token: u64) -> bool {
        Pool::owns(token)
    }

    /// Reads what has come for a socket.
    pub(crate) fn readable(&mut self, token: u64) {
        for _ in 0..MAX_READS {
            match self.pool.receive(token) {
                Received::Reply(ticket, reply) => {
                    let waiting = self.waiting.get(&ticket);
                    let query = waiting.map_or(&[][..], |waiting| waiting.requester.query());
                    if wire::answers(reply, query) {
                        let reply = reply.to_vec();
                        self.replied(ticket, reply);
                    }
                }
                Received::Stray => {}
                Received::Broken(server, tickets) => {
                    self.shared.health.silent(server);
                    for ticket in tickets {
                        self.next_server(ticket);
                    }
                    return;
                }
                Received::Nothing => return,
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
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            let Some((_, attempt)) = self.deadlines.pop_front() else { return };
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

    fn begin(&mut self, requester: Requester, rest: Vec<Upstream>) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let waiting =
            Waiting { requester, rest, fallback: None, at: None, pile: None, attempts: 0 };
        self.waiting.insert(ticket, waiting);
        self.next_server(ticket);
    }

    fn replied(&mut self, ticket: u64, reply: Vec<u8>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        if let Some(place) = waiting.at {
            self.shared.health.spoke(place.server);
        }
        // Larger than the client can take: as good as no answer (conformance: `giant.`).
        if reply.len() > waiting.requester.limit() {
            self.next_server(ticket);
        } else if is_helpless(&reply) && !waiting.rest.is_empty() {
            waiting.fallback = Some(reply);
            self.next_server(ticket);
        } else {
            self.finish(ticket, Some(reply));
        }
    }

    /// Asks the next server that can be asked; ends the question if there is none.
    fn next_server(&mut self, ticket: u64) {
        loop {
            self.release(ticket);
            let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
            let Some(upstream) = waiting.rest.pop() else {
                let fallback = waiting.fallback.take();
                return self.finish(ticket, fallback);
            };
            if upstream.transport != Transport::Plain {
                waiting.rest.push(upstream);
                return self.hand_over(ticket);
            }
            waiting.attempts += 1;
            let attempt = Attempt { ticket, number: waiting.attempts };
            let server = upstream.address;
            match self.send(ticket, server) {
                Ok(()) => {
                    self.deadlines.push_back((Instant::now() + PATIENCE, attempt));
                    return;
                }
                Err(error) => {
                    let is_full = matches!(error, PoolError::Full);
                    self.shared.metrics.upstream_refused.add(u64::from(is_full));
                    tracing::debug!(%server, %error, "a DNS upstream cannot be asked");
                }
            }
        }
    }

    /// What this leaves behind when it fails is released before the next attempt.
    fn send(&mut self, ticket: u64, server: SocketAddr) -> Result<(), PoolError> {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return Ok(()) };
        if self.shared.upstreams.load().is_local(server) {
            let requester = &waiting.requester;
            let pile = self.piles.add(server, requester.asker(), requester.query());
            waiting.pile = pile;
            if pile.is_none() {
                self.shared.metrics.upstream_loops.increment();
                return Err(PoolError::Loop);
            }
        }
        let place = self.pool.place(ticket, server)?;
        waiting.at = Some(place);
        let query = waiting.requester.query_mut();
        let theirs = wire::id(query).unwrap_or_default();
        wire::set_id(query, place.id);
        let sent = self.pool.send(&place, query);
        wire::set_id(query, theirs);
        Ok(sent?)
    }

    /// Takes a question off the wire.
    fn release(&mut self, ticket: u64) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        let (pile, at) = (waiting.pile.take(), waiting.at.take());
        self.give_up(pile, at);
    }

    fn give_up(&mut self, pile: Option<Pile>, at: Option<Place>) {
        if let Some(pile) = pile {
            self.piles.remove(pile);
        }
        if let Some(place) = at {
            self.pool.release(&place);
        }
    }

    fn finish(&mut self, ticket: u64, reply: Option<Vec<u8>>) {
        let Some(waiting) = self.take(ticket) else { return };
        let Waiting { requester, pile, at, .. } = waiting;
        match requester {
            Requester::Client(client) => client.finish(reply, &self.shared),
            Requester::Probe { of, place, number, .. } => {
                if let Some(upstream) = of.probe_over(place, number) {
                    tracing::info!(%upstream, "a DNS upstream does not lead back here any more");
                }
            }
        }
        // Closing a socket takes time, and nobody waits for it any more.
        self.give_up(pile, at);
    }

    fn take(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Requester::Client(client) = &waiting.requester {
            self.shares.remove(client.asker, ticket);
        }
        Some(waiting)
    }

    /// The servers that are left are spoken to over connections.
    fn hand_over(&mut self, ticket: u64) {
        let Some(mut waiting) = self.take(ticket) else { return };
        if let Requester::Client(client) = waiting.requester {
            waiting.rest.reverse();
            client.ask_over_connections(waiting.rest, waiting.fallback, &self.shared);
        }
    }
}

impl Requester {
    /// Whose it is; nobody's if it is ours.
    fn asker(&self) -> Option<Asker> {
        match self {
            Self::Client(client) => Some(client.asker),
            Self::Probe { .. } => None,
        }
    }

    fn query(&self) -> &[u8] {
        match self {
            Self::Client(client) => &client.query,
            Self::Probe { query, .. } => query,
        }
    }

    fn query_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Client(client) => &mut client.query,
            Self::Probe { query, .. } => query,
        }
    }

    fn limit(&self) -> usize {
        match self {
            Self::Client(client) => client.limit,
            Self::Probe { .. } => wire::PLAIN_UDP,
        }
    }
}

/// How many questions of one kind are with a server on this node, for each who asks. A loop that the
/// probe has not shown piles up those of the server itself; somebody else who repeats a question
/// keeps it from nobody.
#[derive(Default)]
struct Piles {
    counts: HashMap<Pile, usize>,
    hasher: RandomState,
}

/// A server, and the hash of a question and of who asks it.
type Pile = (SocketAddr, u64);

impl Piles {
    /// Counts a question; nothing if there are too many of it.
    fn add(&mut self, server: SocketAddr, asker: Option<Asker>, query: &[u8]) -> Option<Pile> {
        let question = query.get(wire::HEADER..).unwrap_or_default().to_ascii_lowercase();
        let pile = (server, self.hasher.hash_one((asker, question)));
        let count = self.counts.entry(pile).or_default();
        if *count >= MAX_PILE {
            return None;
        }
        *count += 1;
        Some(pile)
    }

    fn remove(&mut self, pile: Pile) {
        if let Some(count) = self.counts.get_mut(&pile) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&pile);
            }
        }
    }
}

/// Questions of one thread that wait for servers. A hundred bytes each as a rule, 4 KiB at most.
const MAX_WAITING: usize = 2048;
/// As long as fewer wait, nobody looks whose they are.
const UNNOTICED: usize = 64;
/// Datagrams read from a socket before others get their turn: somebody may be guessing ids.
const MAX_READS: usize = 64;
/// Questions of one kind with one server on this node.
const MAX_PILE: usize = 256;
