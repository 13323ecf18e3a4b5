//! One captured connection, from accept to record:
//!
//! `Accepted -> Original -> Sniffed -> Plan -> Connected -> Ending -> FlowRecord`
//!
//! or, where requests are routed one by one, `Sniffed -> Requests`, and on in [`http`].

mod doors;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use egressd_tables::{HttpDecision, RequestHead, RouteTable};
use tokio::time::Instant;

use crate::{
    addrs::ClientAddr,
    cluster::Observation,
    connect::{self, Connected, Tools, Upstream},
    http::{self, Downstream, HttpIo, Origin, Routes, Speaks, Standing},
    original::Original,
    plan::{Forward, Requests, Router},
    record::{Fate, FlowRecord, Outcome, Pending, TransportFailure},
    relay::{self, Carried, Ending, Ends, Limits, SealedEnds, Side},
    resolve::Asker,
    server::{Shared, Slot, Worker},
    snapshot::Snapshot,
    sniff::{self, HttpVersion, Sniffed},
    socket::{Accepted, Stream, reset},
    tls::TlsFailure,
};

pub(crate) use self::doors::run as run_at_door;

/// Carries one connection through.
pub(crate) async fn run(worker: Arc<Worker>, accepted: Accepted, slot: Result<Slot, OverLimit>) {
    let Accepted { socket, client } = accepted;
    let Some(original) = original(&worker, &socket) else {
        worker.counters.no_original.add(1);
        reset(socket);
        return;
    };
    worker.counters.opened.add(1);
    let mut pending = Pending::new(original, client, Arc::clone(&worker));
    if slot.is_err() {
        worker.counters.over_limit.add(1);
        reset(socket);
        pending.record(Outcome::FlowLimit);
        return;
    }
    let mut app = Stream::accepted(socket);
    let outcome = match decide(&worker, &mut app, &mut pending.flow).await {
        Ok(Way::Relay(forward)) => carry(&worker, app, client, forward, &mut pending.flow).await,
        Ok(Way::Requests(http)) => {
            // Boxed: most flows are relayed, and all would carry the room for it to their end.
            Box::pin(serve(&worker, app, client, http, pending)).await;
            drop(slot);
            return;
        }
        Err(outcome) => outcome,
    };
    pending.record(outcome);
    drop(slot);
}

/// What is done with a connection.
enum Way {
    /// Its bytes are carried.
    Relay(Forward),
    /// Its requests are answered, one by one.
    Requests(Http),
}

/// A connection that begins with a request.
struct Http {
    router: Arc<Box<dyn Router>>,
    requests: Requests,
    version: HttpVersion,
}

/// Answers the requests of a connection; each leaves a record of its own.
async fn serve(
    worker: &Arc<Worker>,
    app: Stream,
    client: ClientAddr,
    http: Http,
    pending: Pending<Arc<Worker>>,
) {
    let Http { router, requests, version } = http;
    let original = pending.flow.original;
    let Requests { table, original: place, explicit } = requests;
    let destination = original.destination;
    let asker = Asker::of(&original, client);
    let origin = Origin { client, destination, original: place, explicit, asker };
    let snapshot = Arc::clone(&worker.shared.snapshot);
    let find = move |router: &dyn Router| match router.requests(destination) {
        Some(requests) => Found::Table(requests.table),
        None => match router.plan(destination, &Sniffed::Http(version)).verdict {
            Ok(_) => Found::AnotherThing,
            Err(_) => Found::Nothing,
        },
    };
    let routes = Following::new(snapshot, router, table, find);
    let downstream = Downstream::new(Arc::clone(&worker.http), Box::new(routes), origin, original);
    pending.leave_to_requests();
    let speaks = match version {
        HttpVersion::Http1 => Speaks::Http1,
        HttpVersion::Http2 => Speaks::Http2,
    };
    http::serve(Arc::new(downstream), HttpIo::Plain(app), speaks, worker.drained()).await;
    worker.counters.closed.add(1);
}

/// Decides requests by the generation in force, which may be another one than when the connection
/// began.
struct Following<F> {
    snapshot: Arc<Snapshot>,
    /// Finds the connection's table in a generation.
    find: F,
    /// The last generation that was asked, and its table.
    last: Mutex<Asked>,
}

/// A generation, and what decides a connection's requests in it.
struct Asked {
    router: Arc<Box<dyn Router>>,
    table: Arc<RouteTable>,
    standing: Standing,
}

/// What a generation makes of a connection that began under another one.
enum Found {
    /// Its requests are decided by this.
    Table(Arc<RouteTable>),
    /// It would be carried as it is, or by other terms.
    AnotherThing,
    /// It would be refused.
    Nothing,
}

impl<F> Following<F> {
    fn new(
        snapshot: Arc<Snapshot>,
        router: Arc<Box<dyn Router>>,
        table: Arc<RouteTable>,
        find: F,
    ) -> Self {
        let last = Asked { router, table, standing: Standing::Good };
        Self { snapshot, find, last: Mutex::new(last) }
    }

    fn last(&self) -> MutexGuard<'_, Asked> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Routes for Following<F>
where
    F: Fn(&dyn Router) -> Found + Send + Sync,
{
    fn route(&self, head: &RequestHead<'_>) -> HttpDecision {
        self.last().table.route(head)
    }

    fn standing(&self) -> Standing {
        let current = self.snapshot.load();
        let mut last = self.last();
        if !Arc::ptr_eq(&current, &last.router) {
            last.standing = match (self.find)(&**current) {
                Found::Table(table) => {
                    last.table = table;
                    Standing::Good
                }
                Found::AnotherThing => Standing::Outlived,
                Found::Nothing => Standing::Refused,
            };
            last.router = current;
        }
        last.standing
    }
}

/// There are as many flows as there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverLimit;

fn original(worker: &Worker, socket: &OwnedFd) -> Option<Original> {
    match worker.shared.originals.original(socket.as_fd()) {
        Ok(original) => original,
        Err(error) => {
            tracing::debug!(%error, "reading the original destination");
            None
        }
    }
}

async fn carry(
    worker: &Worker,
    mut app: Stream,
    client: ClientAddr,
    forward: Forward,
    record: &mut FlowRecord,
) -> Outcome {
    let shared = &*worker.shared;
    let connected = connect::connect(tools(shared), &forward, client, &mut app, record).await;
    let Connected { upstream, leases } = match connected {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let limits = limits(&forward);
    // From here on the cluster is known by its leases alone.
    drop(forward);
    let ending = match upstream {
        Upstream::Plain(upstream) => {
            let ends = Ends { app, upstream };
            let mut flow = Flow { record, ends, carried: Carried::default() };
            relay::relay(&mut flow.ends, limits, &shared.pipes, &mut flow.carried).await
        }
        Upstream::Tls(upstream) => {
            record.upstream_local = upstream.local_addr();
            // Boxed: most flows are not TLS on our side, and all would carry the room for it.
            Box::pin(carry_sealed(SealedEnds { app, upstream }, limits, record)).await
        }
    };
    if let Some(addr) = &record.upstream {
        let seen = match &ending {
            Ending::UpstreamReset(_) => Observation::Reset,
            Ending::Complete | Ending::AppReset(_) | Ending::Idle | Ending::Expired => {
                Observation::Ended
            }
        };
        leases.observe(addr, seen);
    }
    drop(leases);
    outcome(ending)
}

/// What connecting needs.
fn tools(shared: &Shared) -> Tools<'_> {
    Tools {
        factory: &shared.factory,
        originator: &shared.originator,
        resolver: &*shared.resolver,
        max_attempts: shared.config.max_connect_attempts.max(1),
    }
}

/// How long a flow may last that begins at this moment.
fn limits(forward: &Forward) -> Limits {
    Limits {
        idle: forward.idle_timeout,
        until: forward.max_duration.and_then(|longest| Instant::now().checked_add(longest)),
    }
}

fn outcome(ending: Ending) -> Outcome {
    match ending {
        Ending::Complete => Outcome::Completed,
        Ending::AppReset(error) => {
            tracing::debug!(%error, "the application broke off");
            Outcome::AppReset
        }
        Ending::UpstreamReset(error) => {
            tracing::debug!(%error, "the endpoint broke off");
            broke_off(&error)
        }
        Ending::Idle => Outcome::IdleTimeout,
        Ending::Expired => Outcome::DurationLimit,
    }
}

/// Carries bytes where a side is spoken TLS to.
async fn carry_sealed<A: Side, U: Side>(
    mut ends: SealedEnds<A, U>,
    limits: Limits,
    record: &mut FlowRecord,
) -> Ending {
    let mut flow = Sealed { record, carried: Carried::default() };
    relay::relay_sealed(&mut ends, limits, &mut flow.carried).await
}

/// What is known of an endpoint that broke off: more than that it did, if there is TLS.
fn broke_off(error: &io::Error) -> Outcome {
    let failure = TlsFailure::from_io(error);
    if matches!(failure, TlsFailure::Reset | TlsFailure::Io(_)) {
        return Outcome::UpstreamReset;
    }
    Outcome::UpstreamBroke(TransportFailure::from(failure))
}

/// Sniffs as far as the listener asks, and decides.
async fn decide(
    worker: &Worker,
    app: &mut Stream,
    record: &mut FlowRecord,
) -> Result<Way, Outcome> {
    let destination = record.destination();
    let router = worker.shared.snapshot.load();
    let sniffed = match router.wanted(destination) {
        Some(wanted) => {
            // Boxed: few flows are sniffed, and all would carry the room for it to their end.
            Box::pin(sniff::sniff(app, wanted)).await.map_err(|_gone| Outcome::AppGone)?
        }
        None => Sniffed::Nothing,
    };
    if let Sniffed::Http(version) = sniffed
        && let Some(requests) = router.requests(destination)
    {
        return Ok(Way::Requests(Http { router, requests, version }));
    }
    let plan = router.plan(destination, &sniffed);
    record.cluster = plan.cluster;
    record.authority = plan.host.as_deref().map(Into::into);
    if let Sniffed::Tls(hello) = sniffed {
        record.server_name = hello.server_name;
    }
    plan.verdict.map(Way::Relay)
}

/// A flow that is relayed. Whatever becomes of it, its record gets what the relay knows: the bytes,
/// and our address, which is asked for only here, where nobody waits for it.
struct Flow<'a> {
    record: &'a mut FlowRecord,
    ends: Ends,
    carried: Carried,
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        self.record.bytes_received = self.carried.up;
        self.record.bytes_sent = self.carried.down;
        self.record.upstream_local = self.ends.upstream.local_addr();
    }
}

/// As [`Flow`], where the endpoint is spoken TLS to.
struct Sealed<'a> {
    record: &'a mut FlowRecord,
    carried: Carried,
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        self.record.bytes_received = self.carried.up;
        self.record.bytes_sent = self.carried.down;
    }
}

impl Fate for Arc<Worker> {
    fn take(&self, record: &FlowRecord) {
        let counters = &self.counters;
        counters.closed.add(1);
        if !record.outcome.is_success() {
            counters.failed.add(1);
        }
        counters.bytes_received.add(record.bytes_received);
        counters.bytes_sent.add(record.bytes_sent);
        self.shared.records.record(record);
    }

    fn dropped(&self) -> Outcome {
        if self.is_ending() { Outcome::Drained } else { Outcome::Forgotten }
    }
}
