//! HTTP/1 connections: one request at a time, driven by whoever sends it.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use egressd_tables::ConnectionPool;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
    rt::{Read, ReadBufCursor, Write},
};
use tokio::time::{Instant, timeout};

use super::{
    ClusterPool, NoConnection, Pools, Way,
    host::{HostPool, Place, Turn},
};
use crate::{
    addrs::LocalAddr,
    http::{
        binding::Owner,
        circuit::Limited,
        io::HttpIo,
        request_body::RequestBody,
        settings::{BUFFER_SIZE, HEAD_SIZE},
        upstream::{Connected, NotConnected},
    },
    record::{Errno, TransportFailure},
};

/// An HTTP/1 connection to an endpoint, in the hands of one request.
pub(crate) struct H1 {
    sender: SendRequest<RequestBody>,
    connection: Driven,
    /// Our end.
    pub(crate) local: Option<LocalAddr>,
    received: Arc<AtomicU64>,
    /// Requests sent on it.
    sent: u32,
    since: Instant,
    /// When its last request ended.
    pub(super) idle_since: Instant,
    limits: Limits,
    host: Weak<HostPool>,
    /// Whose it is, if not everybody's.
    owner: Option<Weak<Owner>>,
    _place: Place,
}

#[derive(Clone, Copy)]
struct Limits {
    requests: u32,
    age: Option<Duration>,
    idle: Option<Duration>,
}

/// What became of a request that was sent.
pub(crate) enum Exchanged {
    /// An answer.
    Answered(Response<Incoming>),
    /// The connection broke.
    Broken {
        /// hyper's words.
        error: hyper::Error,
        /// Not a byte came back.
        silent: bool,
    },
}

/// The connection was closed before the request was sent on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsent;

impl Pools {
    /// A connection for one request: one that is idle, a new one, or, if there may be no more, the
    /// next that becomes free.
    ///
    /// # Errors
    /// Too many wait, or connecting failed.
    pub(crate) async fn http1(
        &self,
        cluster: &ClusterPool,
        way: Way<'_>,
    ) -> Result<Box<H1>, NoConnection> {
        let host = cluster.host(way);
        loop {
            let idle = host.lock().take_idle(way.owner);
            match idle {
                Some(mut idle) => {
                    if poll_fn(|cx| Poll::Ready(idle.is_usable(cx))).await {
                        return Ok(idle);
                    }
                }
                // Boxed: most requests find a connection, and all would carry the room for this.
                None => return Box::pin(self.new_http1(cluster, &host, way)).await,
            }
        }
    }

    async fn new_http1(
        &self,
        cluster: &ClusterPool,
        host: &Arc<HostPool>,
        way: Way<'_>,
    ) -> Result<Box<H1>, NoConnection> {
        let (circuit, pool) = (&cluster.circuit, &cluster.cluster.pool);
        let pending = circuit.permit(Limited::Pending, pool.max_pending_requests);
        let _pending = pending.ok_or(NoConnection::Overflow)?;
        let turn = loop {
            self.room_for(circuit)?;
            let waiting = {
                let mut state = host.lock();
                let permit = circuit.permit(Limited::Connections, pool.max_connections);
                match permit {
                    Some(permit) => break Turn::Connect(state.place(host, permit)),
                    None if state.open == 0 => {
                        drop(state);
                        if let Some(permit) = cluster.force(&way.picked.addr)? {
                            break Turn::Connect(host.lock().place(host, permit));
                        }
                        continue;
                    }
                    None => match state.take_owned() {
                        // Its owner may never come back, and others wait.
                        Some(owned) => {
                            drop(state);
                            owned.close();
                            continue;
                        }
                        None => state.wait(),
                    },
                }
            };
            if let Ok(turn) = waiting.await {
                break turn;
            }
        };
        let place = match turn {
            Turn::Take(mut connection) => {
                if poll_fn(|cx| Poll::Ready(connection.is_usable(cx))).await {
                    return Ok(connection);
                }
                let H1 { _place, .. } = *connection;
                _place
            }
            Turn::Connect(place) => place,
        };
        let connected = self.connector().connect(cluster.target(way, false)).await;
        let Connected { io, local } = connected.map_err(NoConnection::Failed)?;
        H1::new(io, local, pool, Arc::downgrade(host), place).await.map_err(NoConnection::Failed)
    }
}

impl H1 {
    async fn new(
        io: HttpIo,
        local: Option<LocalAddr>,
        pool: &ConnectionPool,
        host: Weak<HostPool>,
        place: Place,
    ) -> Result<Box<Self>, NotConnected> {
        let received = Arc::<AtomicU64>::default();
        let io = Counted { io, received: Arc::clone(&received) };
        let mut builder = Builder::new();
        builder.max_header_size(HEAD_SIZE).max_buf_size(BUFFER_SIZE);
        let shaken = builder.handshake(io).await;
        let (sender, connection) = shaken.map_err(|_closed| NotConnected {
            failure: TransportFailure::Delayed(CLOSED, Errno(libc::ECONNRESET)),
        })?;
        let since = Instant::now();
        let limits = Limits {
            requests: pool.max_requests_per_connection.unwrap_or(u32::MAX),
            age: pool.max_connection_duration,
            idle: pool.http_idle_timeout,
        };
        Ok(Box::new(Self {
            sender,
            connection: Driven { inner: connection, ended: false },
            local,
            received,
            sent: 0,
            since,
            idle_since: since,
            limits,
            host,
            owner: None,
            _place: place,
        }))
    }

    /// Whether it has carried a request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.sent > 1
    }

    /// From here on it is one application's connection's; without an owner it carries no further
    /// request.
    pub(crate) fn bind(&mut self, owner: Option<&Arc<Owner>>) {
        match owner {
            Some(owner) => self.owner = Some(Arc::downgrade(owner)),
            None => self.limits.requests = 0,
        }
    }

    /// Whether it is somebody's own.
    pub(super) fn is_owned(&self) -> bool {
        self.owner.is_some()
    }

    /// Whether it is this one's own.
    pub(super) fn is_owned_by(&self, owner: &Arc<Owner>) -> bool {
        self.owner.as_ref().is_some_and(|own| own.as_ptr() == Arc::as_ptr(owner))
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// The connection turned out to be closed before anything was sent.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Exchanged, Unsent> {
        self.sent = self.sent.saturating_add(1);
        let before = self.received.load(Ordering::Relaxed);
        let mut sending = pin!(self.sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            // The connection first: it takes the request, and then gives the answer.
            self.connection.drive(cx);
            match sending.as_mut().poll(cx) {
                // It was closed while it was idle, and has ended without looking at the request: it
                // would say so only when it is dropped.
                Poll::Pending if self.connection.ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
            }
        })
        .await;
        match answer {
            Some(Ok(response)) => Ok(Exchanged::Answered(response)),
            None => Err(Unsent),
            Some(Err(failure)) if failure.message().is_some() => Err(Unsent),
            Some(Err(failure)) => Ok(Exchanged::Broken {
                error: failure.into_error(),
                silent: self.received.load(Ordering::Relaxed) == before,
            }),
        }
    }

    /// Drives the connection while an answer's body is read; without that nothing comes.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.connection.drive(cx);
    }

    /// Gives it back after an exchange that came to its end.
    pub(crate) fn release(mut self: Box<Self>) {
        let mut nobody = Context::from_waker(Waker::noop());
        if self.sent >= self.limits.requests || !self.is_usable(&mut nobody) {
            self.close();
            return;
        }
        self.idle_since = Instant::now();
        match self.host.upgrade() {
            Some(host) => host.put_back(self),
            // The cluster it was made for is another one by this time.
            None => self.close(),
        }
    }

    /// The connection itself, with what was read of it and not used, after a switch of protocols;
    /// nothing if it does not let go of HTTP within [`SWITCHING`].
    pub(crate) async fn into_io(mut self: Box<Self>) -> Option<(HttpIo, Bytes, Held)> {
        // It ends by saying that it is no longer HTTP's.
        let ended = poll_fn(|cx| {
            self.connection.drive(cx);
            if self.connection.ended { Poll::Ready(()) } else { Poll::Pending }
        });
        timeout(SWITCHING, ended).await.ok()?;
        let Self { connection, _place, .. } = *self;
        let parts = connection.inner.into_parts();
        Some((parts.io.io, parts.read_buf, Held { _place }))
    }

    /// Closes it in order.
    pub(super) fn close(self: Box<Self>) {
        let Self { sender, mut connection, .. } = *self;
        drop(sender);
        // Without anybody to send on it, it shuts down, at once for a socket.
        let mut nobody = Context::from_waker(Waker::noop());
        connection.drive(&mut nobody);
    }

    /// Whether it can carry one more request, as far as can be told.
    pub(super) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_over_age() {
            return false;
        }
        if !self.sender.is_ready() {
            // Its last exchange may have left it in the middle of a turn.
            self.drive(cx);
        }
        self.sender.is_ready() && !self.connection.ended
    }

    /// Whether an idle connection is good to be kept; finds out that the endpoint has closed it.
    pub(super) fn is_worth_keeping(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = self.idle_since.elapsed();
        let abandoned = self.owner.as_ref().is_some_and(|owner| owner.strong_count() == 0);
        if abandoned
            || self.is_over_age()
            || self.limits.idle.is_some_and(|longest| idle >= longest)
        {
            return false;
        }
        self.connection.drive(cx);
        !self.connection.ended
    }

    fn is_over_age(&self) -> bool {
        self.limits.age.is_some_and(|longest| self.since.elapsed() >= longest)
    }
}

/// A connection that nobody but its user drives.
struct Driven {
    inner: Connection<Counted, RequestBody>,
    /// It wants nothing more; hyper must not be asked again.
    ended: bool,
}

impl Driven {
    /// Does what can be done now. How it went shows in the request that is under way.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            self.ended = Pin::new(&mut self.inner).poll(cx).is_ready();
        }
    }
}

/// The place of a connection that carries another protocol now.
pub(crate) struct Held {
    _place: Place,
}

/// A connection whose received bytes are counted.
struct Counted {
    io: HttpIo,
    received: Arc<AtomicU64>,
}

impl Read for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, received } = self.get_mut();
        io.poll_read_and(cx, buf, |bytes| {
            received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        })
    }
}

impl Write for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// How long the rest of an exchange may take that ends in another protocol.
const SWITCHING: Duration = Duration::from_secs(10);
const CLOSED: io::ErrorKind = io::ErrorKind::ConnectionReset;
