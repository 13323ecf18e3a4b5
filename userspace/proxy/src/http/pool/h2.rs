//! HTTP/2 connections: many requests at once, driven by a task of their own.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use egressd_tables::ConnectionPool;
use http::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{sync::oneshot, time::Instant};

use super::{
    ClusterPool, Exchanged, NoConnection, Pools, Unsent, Way,
    host::{CROWD, HostPool, Place, State},
};
use crate::{
    addrs::LocalAddr,
    http::{
        circuit::{Limited, Permit},
        request_body::RequestBody,
        settings::{BUFFER_SIZE, CONNECTION_WINDOW, HEAD_SIZE, UPSTREAM_WINDOW},
        upstream::{Connected, NotConnected},
    },
    record::{Errno, TransportFailure},
};

/// One request's part of an HTTP/2 connection.
pub(crate) struct H2 {
    sender: SendRequest<RequestBody>,
    /// Our end.
    pub(crate) local: Option<LocalAddr>,
    _use: Use,
    /// Requests had been sent on it before.
    reused: bool,
    /// No further request goes on it.
    retired: Arc<AtomicBool>,
}

/// An HTTP/2 connection that is shared.
pub(super) struct Shared {
    sender: SendRequest<RequestBody>,
    local: Option<LocalAddr>,
    active: Arc<AtomicU32>,
    /// Requests that the endpoint allows at once.
    room: Arc<AtomicU32>,
    sent: u32,
    since: Instant,
    used: Instant,
    retired: Arc<AtomicBool>,
}

/// Counts a request on a connection while it lives.
struct Use(Arc<AtomicU32>);

impl Pools {
    /// A connection with room for one more request, or a new one.
    ///
    /// # Errors
    /// Too many wait, or connecting failed.
    pub(crate) async fn http2(
        &self,
        cluster: &ClusterPool,
        way: Way<'_>,
    ) -> Result<H2, NoConnection> {
        let host = cluster.host(way);
        let pool = &cluster.cluster.pool;
        let found = host.lock().shared_use(pool, true);
        match found {
            Some(found) => Ok(found),
            // Boxed: most requests find a connection, and all would carry the room for this.
            None => Box::pin(self.new_http2(cluster, &host, way)).await,
        }
    }

    async fn new_http2(
        &self,
        cluster: &ClusterPool,
        host: &Arc<HostPool>,
        way: Way<'_>,
    ) -> Result<H2, NoConnection> {
        let (circuit, pool) = (&cluster.circuit, &cluster.cluster.pool);
        let pending = circuit.permit(Limited::Pending, pool.max_pending_requests);
        let _pending = pending.ok_or(NoConnection::Overflow)?;
        loop {
            self.room_for(circuit)?;
            let place = {
                let mut state = host.lock();
                if let Some(found) = state.shared_use(pool, true) {
                    return Ok(found);
                }
                if let Some(others) = &mut state.connecting {
                    let (tell, told) = oneshot::channel();
                    if others.len() >= CROWD && others.len().is_power_of_two() {
                        others.retain(|one| !one.is_closed());
                    }
                    others.push(tell);
                    Err(told)
                } else {
                    match circuit.permit(Limited::Connections, pool.max_connections) {
                        Some(permit) => Ok(state.begin_connecting(host, permit)),
                        // What cannot have a connection of its own shares one beyond its limit.
                        None => match state.shared_use(pool, false) {
                            Some(found) => return Ok(found),
                            None => {
                                drop(state);
                                let Some(permit) = cluster.force(&way.picked.addr)? else {
                                    continue;
                                };
                                Ok(host.lock().begin_connecting(host, permit))
                            }
                        },
                    }
                }
            };
            match place {
                Ok((connecting, place)) => {
                    let connected = self.connect_http2(cluster, way, place).await;
                    return connecting.finish(connected, pool);
                }
                Err(told) => match told.await {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => return Err(NoConnection::Failed(failure)),
                    // Whoever was connecting has gone without an answer.
                    Err(_gone) => {}
                },
            }
        }
    }

    async fn connect_http2(
        &self,
        cluster: &ClusterPool,
        way: Way<'_>,
        place: Place,
    ) -> Result<Shared, NotConnected> {
        let Connected { io, local } = self.connector().connect(cluster.target(way, true)).await?;
        let pool = &cluster.cluster.pool;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_SIZE as u32)
            .max_send_buf_size(BUFFER_SIZE)
            .initial_stream_window_size(UPSTREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if let Some((interval, timeout)) = pool.http2_keepalive {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
            builder.keep_alive_while_idle(true);
        }
        let shaken = builder.handshake(io).await;
        let (sender, connection) = shaken.map_err(|error| {
            tracing::debug!(%error, "an HTTP/2 connection did not begin");
            NotConnected { failure: TransportFailure::Delayed(CLOSED, Errno(libc::ECONNRESET)) }
        })?;
        let room = Arc::new(AtomicU32::new(u32::MAX));
        let told = Arc::clone(&room);
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                let most = u32::try_from(connection.current_max_send_streams());
                told.store(most.unwrap_or(u32::MAX), Ordering::Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "an HTTP/2 connection ended");
            }
            drop(place);
        });
        let now = Instant::now();
        let (active, retired) = (Arc::default(), Arc::default());
        Ok(Shared { sender, local, active, room, sent: 0, since: now, used: now, retired })
    }
}

impl H2 {
    /// Whether it has carried requests before this one.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// No further request goes on it.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// # Errors
    /// The connection turned out to be closed before anything was sent.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Exchanged, Unsent> {
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(Exchanged::Answered(response)),
            Err(failure) if failure.message().is_some() => Err(Unsent),
            // Whether something came back on this stream cannot be told.
            Err(failure) => Ok(Exchanged::Broken { error: failure.into_error(), silent: true }),
        }
    }
}

/// A connection is being made, for which others wait.
struct Connecting {
    host: Arc<HostPool>,
    over: bool,
}

impl Connecting {
    /// Shares the connection with those who wait, or tells them that there is none.
    fn finish(
        mut self,
        connected: Result<Shared, NotConnected>,
        pool: &ConnectionPool,
    ) -> Result<H2, NoConnection> {
        self.over = true;
        let mut state = self.host.lock();
        let others = state.connecting.take().unwrap_or_default();
        let (mine, told) = match connected {
            Ok(shared) => {
                state.shared.push(shared);
                (state.shared_use(pool, false).ok_or(NoConnection::Overflow), Ok(()))
            }
            Err(failure) => (Err(NoConnection::Failed(failure.clone())), Err(failure)),
        };
        drop(state);
        for other in others {
            // Who has gone meanwhile needs no answer.
            other.send(told.clone()).ok();
        }
        mine
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if !self.over {
            // Others see that nobody is connecting any more, and one of them does.
            self.host.lock().connecting = None;
        }
    }
}

impl State {
    fn begin_connecting(&mut self, host: &Arc<HostPool>, permit: Permit) -> (Connecting, Place) {
        self.connecting = Some(Vec::new());
        (Connecting { host: Arc::clone(host), over: false }, self.place(host, permit))
    }

    /// A part of a connection: of one with room, or of the least busy if `with_room` does not matter.
    fn shared_use(&mut self, pool: &ConnectionPool, with_room: bool) -> Option<H2> {
        self.shared.retain(|shared| !shared.sender.is_closed() && shared.may_take_more(pool));
        let least = self.shared.iter_mut().min_by_key(|shared| shared.active())?;
        let room = if with_room { least.room(pool) } else { MOST_STREAMS };
        if least.active() >= room {
            return None;
        }
        let reused = least.sent > 0;
        least.sent = least.sent.saturating_add(1);
        least.used = Instant::now();
        least.active.fetch_add(1, Ordering::Relaxed);
        let _use = Use(Arc::clone(&least.active));
        let (sender, retired) = (least.sender.clone(), Arc::clone(&least.retired));
        Some(H2 { sender, local: least.local, _use, reused, retired })
    }
}

impl Shared {
    fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    fn room(&self, pool: &ConnectionPool) -> u32 {
        let room = self.room.load(Ordering::Relaxed).min(pool.max_concurrent_streams);
        room.clamp(1, MOST_STREAMS)
    }

    /// Since when it has had no request, if it has none.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.active() == 0).then_some(self.used)
    }

    /// Whether age and the number of its requests allow more; requests under way go on if not.
    fn may_take_more(&self, pool: &ConnectionPool) -> bool {
        !self.retired.load(Ordering::Relaxed)
            && pool.max_requests_per_connection.is_none_or(|most| self.sent < most)
            && pool.max_connection_duration.is_none_or(|longest| self.since.elapsed() < longest)
    }

    /// Whether it is good to be kept without a request.
    pub(super) fn is_worth_keeping(&self, pool: &ConnectionPool) -> bool {
        let idle = self.active() == 0
            && pool.http_idle_timeout.is_some_and(|longest| self.used.elapsed() >= longest);
        !self.sender.is_closed() && !idle && self.may_take_more(pool)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const CLOSED: std::io::ErrorKind = std::io::ErrorKind::ConnectionReset;
/// Requests that a connection carries at once, whatever else allows more: so many windows of streams fit
/// into the connection's, so that applications that do not read their answers hold up nobody else's.
const MOST_STREAMS: u32 = CONNECTION_WINDOW / UPSTREAM_WINDOW;
