//! The body of an answer on its way to the application. It holds what the exchange needs until its last
//! byte: the connection, the deadline, and the record.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    binding::Owner,
    circuit::Permit,
    deadline::Limit,
    failure::broken_details,
    headers::{Present, hop, name},
    log::RequestLog,
    outgoing::{Outgoing, Spoken},
    pool::{Exchanged, H1, H2, Unsent},
    request_body::RequestBody,
    settings::{BUFFER_SIZE, UPSTREAM_WINDOW},
    watch::{self, Over, Watched},
};
use crate::{addrs::LocalAddr, cluster::HostLease, record::ResponseFlag};

/// A body for the application.
pub(crate) struct ResponseBody {
    source: Source,
    log: Option<Box<RequestLog>>,
}

enum Source {
    Whole(Bytes),
    Upstream(Box<FromUpstream>),
}

/// An answer's body as it comes from an upstream.
pub(crate) struct FromUpstream {
    /// The bytes.
    pub(crate) incoming: Incoming,
    /// What they come on.
    pub(crate) lease: Lease,
    /// When the exchange is over in any case; nothing if never.
    pub(crate) limit: Option<Watched>,
}

/// What an exchange holds of an upstream.
pub(crate) struct Lease {
    /// The connection.
    pub(crate) connection: UpstreamConnection,
    /// Counts the request among those of the cluster.
    pub(crate) request: Permit,
    /// Counts the request among those of the endpoint.
    pub(crate) host: Option<HostLease>,
}

/// A connection that a request was sent on.
pub(crate) enum UpstreamConnection {
    /// HTTP/1: driven by us.
    H1(Box<H1>),
    /// HTTP/2: driven by itself.
    H2(H2),
    /// None any more.
    Released,
}

/// An answer broke off.
#[derive(Debug)]
pub(crate) struct BrokenOff;

impl ResponseBody {
    /// No body, and nothing to record.
    pub(crate) fn empty() -> Self {
        Self { source: Source::Whole(Bytes::new()), log: None }
    }

    /// A body that is there; the record ends with it.
    pub(crate) fn whole(bytes: Bytes, mut log: Box<RequestLog>) -> Self {
        log.sent(bytes.len());
        log.finish();
        Self { source: Source::Whole(bytes), log: None }
    }

    /// A body that is to come.
    pub(crate) fn upstream(from: FromUpstream, log: Box<RequestLog>) -> Self {
        let mut body = Self { source: Source::Upstream(Box::new(from)), log: Some(log) };
        if body.is_end_stream() {
            body.end();
        } else {
            body.wait(0);
        }
        body
    }

    /// hyper asks for more when the application has taken enough: until then, what may come ahead is ours
    /// to keep.
    fn wait(&self, given: u64) {
        if let Source::Upstream(from) = &self.source {
            let left = from.incoming.size_hint().upper().unwrap_or(u64::MAX);
            let most = from.lease.connection.most_ahead() + MOST_WRITTEN;
            watch::answer_waits(most.min(given.saturating_add(left)));
        }
    }

    fn end(&mut self) {
        watch::nothing_waits();
        if let Source::Upstream(from) = &mut self.source {
            from.lease.release();
            if let Some(limit) = &from.limit {
                limit.end();
            }
        }
        if let Some(mut log) = self.log.take() {
            log.finish();
        }
    }

    fn break_off(&mut self, flag: ResponseFlag, details: String) -> BrokenOff {
        if let Some(mut log) = self.log.take() {
            log.flag(flag);
            log.fields().details = details.into();
            log.finish();
        }
        BrokenOff
    }

    fn too_long(&mut self, limit: Limit) -> BrokenOff {
        let (flag, details) = Over::Limit(limit).said();
        self.break_off(flag, details.to_owned())
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let Some(log) = &mut self.log else { return };
        if let Some(data) = frame.data_ref() {
            log.sent(data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            let status = grpc_status(trailers, Present::of(trailers));
            log.fields().grpc_status = status.or(log.fields().grpc_status);
        }
    }
}

impl FromUpstream {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut incoming = Pin::new(&mut self.incoming);
        if let UpstreamConnection::H1(connection) = &mut self.lease.connection {
            if let Poll::Ready(frame) = incoming.as_mut().poll_frame(cx) {
                return Poll::Ready(frame);
            }
            connection.drive(cx);
        }
        incoming.poll_frame(cx)
    }
}

impl Lease {
    /// Gives the connection back, after an exchange that came to its end.
    pub(crate) fn release(&mut self) {
        std::mem::replace(&mut self.connection, UpstreamConnection::Released).release();
    }
}

impl UpstreamConnection {
    /// Gives it back, when nothing is under way on it.
    pub(crate) fn release(self) {
        match self {
            Self::H1(connection) => connection.release(),
            Self::H2(_) | Self::Released => {}
        }
    }

    /// Sees to it that what holds for the connection holds for nobody else: it goes to requests of its
    /// owner alone, and without one to none.
    pub(crate) fn bind(&mut self, owner: Option<&Arc<Owner>>) {
        match self {
            Self::H1(connection) => connection.bind(owner),
            // What others have under way on it cannot be helped; no server binds HTTP/2.
            Self::H2(connection) => connection.retire(),
            Self::Released => {}
        }
    }

    /// Our end.
    pub(crate) fn local(&self) -> Option<LocalAddr> {
        match self {
            Self::H1(connection) => connection.local,
            Self::H2(connection) => connection.local,
            Self::Released => None,
        }
    }

    /// Whether it has carried requests before the present one.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Self::H1(connection) => connection.is_reused(),
            Self::H2(connection) => connection.is_reused(),
            Self::Released => false,
        }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// The connection turned out to be closed before anything was sent.
    pub(crate) async fn exchange(
        &mut self,
        outgoing: &Outgoing,
        spoken: Spoken,
        number: u32,
    ) -> Result<Exchanged, Unsent> {
        self.send(outgoing.build(spoken, number)).await
    }

    /// The same for a request that is built.
    ///
    /// # Errors
    /// The connection turned out to be closed before anything was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Exchanged, Unsent> {
        match self {
            Self::H1(connection) => connection.exchange(request).await,
            Self::H2(connection) => connection.exchange(request).await,
            Self::Released => Err(Unsent),
        }
    }

    /// Bytes of an answer that the upstream may send ahead of who reads it.
    fn most_ahead(&self) -> u64 {
        match self {
            Self::H1(_) => BUFFER_SIZE as u64,
            Self::H2(_) => u64::from(UPSTREAM_WINDOW),
            Self::Released => 0,
        }
    }

    /// Drives it while an answer's body is read, if it has no task of its own.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Self::H1(connection) = self {
            connection.drive(cx);
        }
    }
}

/// The gRPC status in headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap, present: Present) -> Option<u16> {
    if !present.has(&name::GRPC_STATUS) {
        return None;
    }
    headers.get(name::GRPC_STATUS)?.to_str().ok()?.trim().parse().ok()
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let from = match &mut this.source {
            Source::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Source::Upstream(from) => from,
        };
        match from.poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    hop::strip_trailers(trailers);
                }
                if let Some(limit) = &from.limit {
                    limit.moved();
                }
                this.note(&frame);
                if this.is_end_stream() {
                    this.end();
                } else {
                    this.wait(this.log.as_ref().map_or(0, |log| log.flow().bytes_sent));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let (flag, details) = broken_details(&error);
                Poll::Ready(Some(Err(this.break_off(flag, details))))
            }
            Poll::Pending => {
                watch::nothing_waits();
                match &from.limit {
                    Some(limit) => limit.poll(cx).map(|limit| Some(Err(this.too_long(limit)))),
                    None => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Upstream(from) => from.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(from) => from.incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    /// Where nobody asks for more, the limit comes to the task that carries the answer, which drops it.
    fn drop(&mut self) {
        let Source::Upstream(from) = &self.source else { return };
        watch::nothing_waits();
        let Some(limit) = &from.limit else { return };
        let over = limit.over();
        limit.end();
        if let Some(limit) = over {
            self.too_long(limit);
        }
    }
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl std::error::Error for BrokenOff {}

impl From<BrokenOff> for io::Error {
    fn from(error: BrokenOff) -> Self {
        Self::other(error)
    }
}

/// Bytes of an answer that hyper has from us and has not written: a buffer, and a piece that goes beyond.
const MOST_WRITTEN: u64 = 2 * BUFFER_SIZE as u64;
