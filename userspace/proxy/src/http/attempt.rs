//! One try: an endpoint, a connection, the request, and the head of the answer.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use egressd_tables::{Cluster, UpstreamHttp, UpstreamTls};
use http::{Response, Version};
use hyper::body::Incoming;

use super::{
    binding::{self, Binding, Owner},
    circuit::Limited,
    deadline::{Deadline, Limit},
    downstream::HttpWorker,
    failure::Failure,
    headers::Present,
    log::RequestLog,
    outgoing::{Outgoing, Spoken},
    pool::{ClusterPool, Exchanged, NoConnection, Unsent, Way},
    response_body::{Lease, UpstreamConnection, grpc_status},
    upstream::{NoEndpoint, Origin, Picked, Picking, Wish},
};
use crate::{addrs::UpstreamAddr, cluster::Observation};

/// What the tries of a request have in common.
pub(crate) struct Attempts<'a> {
    /// The worker.
    pub(crate) worker: &'a HttpWorker,
    /// Where the request came from.
    pub(crate) origin: &'a Origin,
    /// What the application's connection has for itself; nothing where it is several applications'.
    pub(crate) binding: Option<&'a Binding>,
    /// The request.
    pub(crate) outgoing: &'a Outgoing,
    /// Where it goes.
    pub(crate) cluster: &'a Arc<Cluster>,
    /// The connections there.
    pub(crate) pool: Arc<ClusterPool>,
    /// What is spoken there.
    pub(crate) spoken: Spoken,
    /// For consistent hashing.
    pub(crate) hash: Option<u64>,
    /// Limit on one try.
    pub(crate) timeout: Option<Duration>,
    /// Endpoints tried.
    pub(crate) tried: Vec<UpstreamAddr>,
    /// How often another endpoint is looked for, for the sake of those.
    pub(crate) reselections: u32,
    /// Tries so far.
    pub(crate) number: u32,
    /// The endpoint of the try that is under way.
    pub(crate) current: Option<Picked>,
}

/// The head of an answer, and what it holds.
pub(crate) struct Answered {
    /// The answer.
    pub(crate) response: Response<Incoming>,
    /// What it holds.
    pub(crate) lease: Lease,
    /// Which headers it has.
    pub(crate) present: Present,
}

/// What is spoken to a cluster.
pub(crate) fn spoken_to(cluster: &Cluster, by_client: Version, websocket: bool) -> Spoken {
    let http2 = match cluster.http {
        UpstreamHttp::Http1 => false,
        UpstreamHttp::Http2 => true,
        UpstreamHttp::AsDownstream => by_client == Version::HTTP_2,
    };
    // A switch of protocols is a thing of HTTP/1.
    if http2 && !websocket {
        Spoken::Http2 { secure: matches!(cluster.tls, UpstreamTls::Originate(_)) }
    } else {
        Spoken::Http1
    }
}

impl Attempts<'_> {
    /// Tries once.
    ///
    /// # Errors
    /// There is no answer; the failure says why.
    pub(crate) async fn attempt(&mut self, log: &mut RequestLog) -> Result<Answered, Failure> {
        self.number += 1;
        let picked = self.pick().await?;
        log.flow_mut().upstream = Some(picked.addr.clone());
        self.current = Some(picked);
        let outcome = self.send(log).await;
        let Some(picked) = self.current.take() else { return outcome };
        let seen = match &outcome {
            Ok(answered) => Some(Observation::Answered(status_of(answered))),
            Err(failure) => observation(failure),
        };
        if let Some(seen) = seen {
            self.worker.picker.observe(self.cluster, &picked, seen);
        }
        let Picked { addr, lease: host, .. } = picked;
        self.tried.push(addr);
        outcome.map(|answered| {
            let lease = Lease { host, ..answered.lease };
            Answered { lease, ..answered }
        })
    }

    /// The whole exchange has taken too long, and the try under way with it.
    pub(crate) fn give_up(&self) {
        if let Some(picked) = &self.current {
            self.worker.picker.observe(self.cluster, picked, Observation::TimedOut);
        }
    }

    /// The application's connection, if it has connections of its own.
    fn owner(&self) -> Option<&Arc<Owner>> {
        self.binding.and_then(Binding::owner)
    }

    async fn pick(&self) -> Result<Picked, Failure> {
        let seat = self.owner().and_then(|own| own.seat(self.cluster, self.outgoing.authority()));
        if let Some((addr, mesh)) = seat
            && !self.tried.contains(&addr)
        {
            return Ok(Picked { addr, mesh, lease: None });
        }
        let wish = Wish {
            authority: self.outgoing.authority(),
            origin: self.origin,
            hash: self.hash,
            tried: &self.tried,
            reselections: self.reselections,
        };
        let picked = match self.worker.picker.pick(self.cluster, wish) {
            Picking::Now(picked) => picked,
            Picking::Later(picking) => picking.await,
        };
        picked.map_err(Failure::NoEndpoint)
    }

    /// Sends the request, on another connection if one turns out to be closed.
    async fn send(&mut self, log: &mut RequestLog) -> Result<Answered, Failure> {
        for _ in 0..RESTARTS {
            if let Some(answered) = self.send_once(log).await? {
                return Ok(answered);
            }
        }
        Err(Failure::Terminated)
    }

    /// Sends the request on one connection; nothing comes of it if that turns out to be closed.
    async fn send_once(&mut self, log: &mut RequestLog) -> Result<Option<Answered>, Failure> {
        let (mut connection, other) = self.connection().await?;
        if let Some(other) = other {
            log.flow_mut().upstream = Some(other.addr.clone());
            self.current = Some(other);
        }
        let Some(picked) = &self.current else {
            return Err(Failure::NoEndpoint(NoEndpoint::NoneHealthy));
        };
        let limit = self.cluster.pool.max_requests;
        let request = self.pool.circuit.permit(Limited::Requests, limit);
        let Some(request) = request else {
            // It has carried nothing; somebody else may use it.
            connection.release();
            return Err(Failure::Overflow);
        };
        let binds = self.outgoing.binds;
        if binds {
            self.bind(&mut connection, picked);
        }
        log.flow_mut().upstream_local = connection.local();
        let exchange = connection.exchange(self.outgoing, self.spoken, self.number);
        let exchanged = match self.timeout {
            Some(timeout) => {
                let complete = self.outgoing.body.as_ref().and_then(|body| body.completion());
                let mut deadline = Deadline::new(Limit::Route, timeout, complete);
                Box::pin(deadline.bound(exchange)).await.map_err(|_limit| Failure::TimedOut)?
            }
            None => exchange.await,
        };
        match exchanged {
            Ok(Exchanged::Answered(response)) => {
                if !binds && binding::is_offered(response.status(), response.headers()) {
                    self.bind(&mut connection, picked);
                }
                let lease = Lease { connection, request, host: None };
                let present = Present::of(response.headers());
                Ok(Some(Answered { response, lease, present }))
            }
            // Whatever was to be sent has not left us. A new connection on which that happens is an
            // endpoint that breaks off, and trying again is for the route to allow.
            Err(Unsent) if connection.is_reused() && self.can_restart() => Ok(None),
            Err(Unsent) => Err(Failure::Terminated),
            Ok(Exchanged::Broken { error, silent }) => {
                let failure = self.blame(Failure::of(&error));
                // The upstream closed an idle connection just when the request was sent on it.
                let stale = silent
                    && failure == Failure::Terminated
                    && connection.is_reused()
                    && self.outgoing.method.is_idempotent()
                    && self.can_restart();
                if stale { Ok(None) } else { Err(failure) }
            }
        }
    }

    /// A connection to the endpoint of this try, or to another one that was faster by far.
    async fn connection(&self) -> Result<(UpstreamConnection, Option<Picked>), Failure> {
        let Some(picked) = &self.current else {
            return Err(Failure::NoEndpoint(NoEndpoint::NoneHealthy));
        };
        let mut connecting = pin!(self.connect(picked));
        // Most requests find a connection, and need no clock.
        if let Poll::Ready(connected) =
            poll_fn(|cx| Poll::Ready(connecting.as_mut().poll(cx))).await
        {
            return Ok((connected.map_err(no_connection)?, None));
        }
        let connected = Box::pin(self.beside(connecting, picked)).await;
        connected.map_err(no_connection)
    }

    /// A connection to an endpoint.
    pub(super) async fn connect(
        &self,
        picked: &Picked,
    ) -> Result<UpstreamConnection, NoConnection> {
        let (authority, origin) = (self.outgoing.authority(), self.origin);
        let way = Way { picked, authority, origin, owner: self.owner() };
        let pools = &self.worker.pools;
        match self.spoken {
            Spoken::Http1 => pools.http1(&self.pool, way).await.map(UpstreamConnection::H1),
            Spoken::Http2 { .. } => pools.http2(&self.pool, way).await.map(UpstreamConnection::H2),
        }
    }

    /// Keeps a connection that is authenticated, or is about to be, to the application's.
    fn bind(&self, connection: &mut UpstreamConnection, picked: &Picked) {
        let owner = self.binding.map(Binding::own);
        connection.bind(owner);
        if let Some(owner) = owner {
            owner.sit(self.cluster, self.outgoing.authority(), (&picked.addr, &picked.mesh));
        }
    }

    /// A request whose body broke off fails for the application's sake.
    fn blame(&self, failure: Failure) -> Failure {
        let broken = self.outgoing.body.as_ref().and_then(|body| body.broken());
        broken.map_or(failure, Failure::Downstream)
    }

    /// Whether the request could be sent again from its start.
    pub(crate) fn can_restart(&self) -> bool {
        self.outgoing.body.as_ref().is_none_or(|body| body.can_restart())
    }
}

/// Connections that may turn out to be closed before one try counts as failed.
const RESTARTS: u32 = 16;

fn no_connection(why: NoConnection) -> Failure {
    match why {
        NoConnection::Overflow => Failure::Overflow,
        NoConnection::Full => Failure::Full,
        NoConnection::Failed(failure) => Failure::NotConnected(failure.failure),
    }
}

/// The status of an answer; where it is one of gRPC without a body, the status that stands for.
fn status_of(answered: &Answered) -> u16 {
    match grpc_status(answered.response.headers(), answered.present) {
        None | Some(0) => answered.response.status().as_u16(),
        Some(14) => 503,
        Some(4) => 504,
        Some(2 | 13 | 15) => 500,
        Some(_) => 400,
    }
}

fn observation(failure: &Failure) -> Option<Observation> {
    match failure {
        Failure::NotConnected(_) => Some(Observation::NotConnected),
        Failure::TimedOut => Some(Observation::TimedOut),
        Failure::Terminated | Failure::Reset | Failure::Refused | Failure::Protocol => {
            Some(Observation::BrokenOff)
        }
        Failure::NoEndpoint(_) | Failure::Overflow | Failure::Full | Failure::Downstream(_) => None,
    }
}
