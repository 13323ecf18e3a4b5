//! One connection of a client that dialled us, from accept to record:
//!
//! `Accepted -> Sniffed -> Arrangement -> (TLS ends) -> Requests | Forward -> FlowRecord`

use std::{net::SocketAddr, sync::Arc, time::Duration};

use egressd_tables::{Listener, ServerTlsSettings};
use tokio::time::Instant;

use super::{Following, Found, OverLimit, carry, carry_sealed, limits, outcome, tools};
use crate::{
    addrs::{ClientAddr, OriginalDst},
    connect::{self, Connected, Upstream},
    door::Door,
    http::{self, Downstream, HttpIo, Origin, Speaks, TlsIo},
    original::Original,
    plan::{Arrangement, Forward, Requests, Router, wanted_at_door},
    record::{FlowRecord, Outcome, Pending},
    relay::SealedEnds,
    resolve::Asker,
    server::{VisitorsSlot, Worker},
    sniff::{self, HttpVersion, Sniffed, Wanted},
    socket::{Accepted, Stream, THIS_MACHINE, local_addr, reset},
    tls::{ServerTls, TlsStream},
};

/// Carries one connection through.
pub(crate) async fn run(
    worker: Arc<Worker>,
    accepted: Accepted,
    slot: Result<VisitorsSlot, OverLimit>,
    door: Arc<Door>,
) {
    let Accepted { socket, client } = accepted;
    let local = local_addr(&socket).unwrap_or(THIS_MACHINE);
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let client = ClientAddr(SocketAddr::new(client.0.ip().to_canonical(), client.0.port()));
    worker.counters.opened.add(1);
    let original = Original::new(OriginalDst(local));
    let mut pending = Pending::new(original, client, Arc::clone(&worker));
    if slot.is_err() {
        worker.counters.over_limit.add(1);
        reset(socket);
        pending.record(Outcome::FlowLimit);
        return;
    }
    let app = Stream::accepted(socket);
    let visit = Visit { worker: &worker, door, client };
    match visit.arrange(app, &mut pending.flow).await {
        Ok(Way::Relay(app, forward)) => {
            let outcome = carry(&worker, app, client, forward, &mut pending.flow).await;
            pending.record(outcome);
        }
        Ok(Way::RelayInside(app, forward)) => {
            let carrying = carry_inside(&worker, app, client, forward, &mut pending.flow);
            let outcome = Box::pin(carrying).await;
            pending.record(outcome);
        }
        Ok(Way::Requests(requests)) => Box::pin(visit.serve(*requests, pending)).await,
        Err(outcome) => pending.record(outcome),
    }
    drop(slot);
}

/// A client at a door.
struct Visit<'a> {
    worker: &'a Arc<Worker>,
    door: Arc<Door>,
    client: ClientAddr,
}

/// What is done with a connection.
enum Way {
    /// Its bytes are carried.
    Relay(Stream, Forward),
    /// What is in its TLS is carried.
    RelayInside(TlsStream, Forward),
    /// Its requests are answered, one by one. Boxed: it is the rarer and the larger one.
    Requests(Box<Serving>),
}

/// A connection whose requests are answered.
struct Serving {
    io: HttpIo,
    speaks: Speaks,
    router: Arc<Box<dyn Router>>,
    requests: Requests,
    /// What it was found by, should there be another generation.
    sniffed: Sniffed,
    /// What its TLS was ended by, if it has any.
    terminate: Option<Arc<ServerTlsSettings>>,
    scheme: &'static str,
}

impl Visit<'_> {
    /// Decides the connection, and ends its TLS where a server says so.
    async fn arrange(&self, mut app: Stream, record: &mut FlowRecord) -> Result<Way, Outcome> {
        let destination = record.destination();
        let router = self.worker.shared.snapshot.load();
        // A door that has just been shut: what waited at it finds nobody.
        let listener = router.listener(&self.door).ok_or(Outcome::NoRoute)?;
        let sniffed = self.sniff(&listener, &mut app).await?;
        if let Sniffed::Tls(hello) = &sniffed {
            record.server_name.clone_from(&hello.server_name);
        }
        match router.arrange(&listener, destination, &sniffed) {
            Arrangement::Relay { plan, tls } => {
                record.cluster = plan.cluster;
                let forward = plan.verdict?;
                let Some(tls) = tls else { return Ok(Way::Relay(app, forward)) };
                let app = self.terminate(&ServerTls::for_bytes(&tls), app).await?;
                Ok(Way::RelayInside(app, forward))
            }
            Arrangement::Requests { requests, tls: None } => {
                let speaks = match sniffed {
                    Sniffed::Http(HttpVersion::Http2) => Speaks::Http2,
                    // What is no request is told so by whoever reads it.
                    Sniffed::Http(HttpVersion::Http1)
                    | Sniffed::Nothing
                    | Sniffed::Raw
                    | Sniffed::Tls(_) => Speaks::Http1,
                };
                let io = HttpIo::Plain(app);
                let (scheme, terminate) = ("http", None);
                let serving = Serving { io, speaks, router, requests, sniffed, terminate, scheme };
                Ok(Way::Requests(Box::new(serving)))
            }
            Arrangement::Requests { requests, tls: Some(tls) } => {
                let stream = self.terminate(&ServerTls::for_requests(&tls), app).await?;
                let speaks = match stream.alpn() {
                    Some(b"h2") => Speaks::Http2,
                    Some(_) | None => Speaks::Http1,
                };
                let (io, scheme) = (HttpIo::Tls(TlsIo::new(stream)), "https");
                let terminate = Some(tls);
                let serving = Serving { io, speaks, router, requests, sniffed, terminate, scheme };
                Ok(Way::Requests(Box::new(serving)))
            }
        }
    }

    async fn sniff(&self, listener: &Listener, app: &mut Stream) -> Result<Sniffed, Outcome> {
        let Some(wanted) = wanted_at_door(listener) else { return Ok(Sniffed::Nothing) };
        let timeout = wanted.timeout.min(PATIENCE);
        let sniffed = Box::pin(sniff::sniff(app, Wanted { timeout, ..wanted })).await;
        sniffed.map_err(|_gone| Outcome::AppGone)
    }

    /// Ends the client's TLS.
    async fn terminate(&self, tls: &ServerTls, app: Stream) -> Result<TlsStream, Outcome> {
        let deadline = Instant::now() + PATIENCE;
        let accepting = self.worker.shared.terminator.accept(tls, app, deadline);
        Box::pin(accepting).await.map_err(|failure| {
            tracing::debug!(%failure, door = %self.door, "no TLS with a client");
            Outcome::NotTerminated(Box::new(failure))
        })
    }

    /// Answers the requests of a connection; each leaves a record of its own.
    async fn serve(&self, serving: Serving, pending: Pending<Arc<Worker>>) {
        let Serving { io, speaks, router, requests, sniffed, terminate, scheme } = serving;
        let Requests { table, original: place, explicit } = requests;
        let original = pending.flow.original;
        let destination = original.destination;
        let client = self.client;
        let asker = Asker::of(&original, client);
        let origin = Origin { client, destination, original: place, explicit, asker };
        let door = Arc::clone(&self.door);
        let find = move |router: &dyn Router| {
            let Some(listener) = router.listener(&door) else { return Found::AnotherThing };
            match router.arrange(&listener, destination, &sniffed) {
                // Routes are for those who came in by the TLS of their server: a client that showed no
                // certificate must not be let in by the connection it has kept.
                Arrangement::Requests { requests, tls } if tls == terminate => {
                    Found::Table(requests.table)
                }
                Arrangement::Requests { .. } | Arrangement::Relay { .. } => Found::AnotherThing,
            }
        };
        let snapshot = Arc::clone(&self.worker.shared.snapshot);
        let routes = Box::new(Following::new(snapshot, router, table, find));
        let http = Arc::clone(&self.worker.http);
        let mut downstream = Downstream::new(http, routes, origin, original);
        downstream.server_name.clone_from(&pending.flow.server_name);
        downstream.scheme = scheme;
        downstream.activity.hurry();
        downstream.edge = matches!(*self.door, Door::Gateway { .. });
        pending.leave_to_requests();
        http::serve(Arc::new(downstream), io, speaks, self.worker.drained()).await;
        self.worker.counters.closed.add(1);
    }
}

/// Carries what is in the client's TLS.
async fn carry_inside(
    worker: &Worker,
    mut app: TlsStream,
    client: ClientAddr,
    forward: Forward,
    record: &mut FlowRecord,
) -> Outcome {
    let tools = tools(&worker.shared);
    let connected = connect::connect(tools, &forward, client, &mut app, record).await;
    let Connected { upstream, leases } = match connected {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let limits = limits(&forward);
    let ending = match upstream {
        Upstream::Plain(upstream) => {
            record.upstream_local = upstream.local_addr();
            carry_sealed(SealedEnds { app, upstream }, limits, record).await
        }
        Upstream::Tls(upstream) => {
            record.upstream_local = upstream.local_addr();
            carry_sealed(SealedEnds { app, upstream }, limits, record).await
        }
    };
    drop(leases);
    outcome(ending)
}

/// How long a client may take to say what it wants, and to shake hands. Envoy's limit for both.
const PATIENCE: Duration = Duration::from_secs(15);
