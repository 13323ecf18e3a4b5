//! The relay where one side is TLS, or both: everything passes through this process, and nothing can
//! be spliced.
//!
//! Otherwise as its sibling: a flow that waits holds no buffer of ours, only what the slower side has
//! not taken is kept, and each direction ends by itself. An end inside TLS becomes an end for the
//! application and the other way round; a connection that is cut without one is broken off, so
//! that nobody takes what was cut short for the whole.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, sleep_until};

use super::{Carried, Ending, Limits, scratch};
use crate::{socket::Stream, tls::TlsStream};

/// The two ends of a flow.
pub(crate) struct SealedEnds<A, U> {
    /// The application's connection.
    pub(crate) app: A,
    /// The endpoint's.
    pub(crate) upstream: U,
}

/// Carries bytes both ways until the flow ends. When the ends are dropped, both connections are
/// closed in order after [`Ending::Complete`], else reset; so they are if this is dropped.
pub(crate) async fn relay_sealed<A: Side, U: Side>(
    ends: &mut SealedEnds<A, U>,
    limits: Limits,
    carried: &mut Carried,
) -> Ending {
    let (up, down) = (Direction::default(), Direction::default());
    let mut flow = Flow { ends, up, down, broken: None, cut: false };
    let mut active = Instant::now();
    let mut timer = pin!(sleep_until(limits.next(active)));
    poll_fn(|cx| {
        let before = flow.carried();
        let moved = flow.poll_both(cx);
        *carried = flow.carried();
        if *carried != before {
            active = Instant::now();
        }
        if let Poll::Ready(ending) = moved {
            if matches!(ending, Ending::Complete) {
                if !flow.cut {
                    flow.ends.app.close_in_order();
                }
                flow.ends.upstream.close_in_order();
            }
            return Poll::Ready(ending);
        }
        while timer.as_mut().poll(cx).is_ready() {
            match limits.reached(active, Instant::now()) {
                Some(ending) => return Poll::Ready(ending),
                None => timer.as_mut().reset(limits.next(active)),
            }
        }
        Poll::Pending
    })
    .await
}

struct Flow<'a, A, U> {
    ends: &'a mut SealedEnds<A, U>,
    up: Direction,
    down: Direction,
    /// One side takes nothing more; what it sent before that still goes to the other.
    broken: Option<Ending>,
    /// The endpoint has gone without a goodbye: the application must not take that for an end.
    cut: bool,
}

/// One direction of the flow.
#[derive(Default)]
struct Direction {
    carried: u64,
    /// Taken from one side, and not yet by the other.
    held: Box<[u8]>,
    written: usize,
    ended: bool,
    done: bool,
}

impl<A: Side, U: Side> Flow<'_, A, U> {
    fn carried(&self) -> Carried {
        Carried { up: self.up.carried, down: self.down.carried }
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let SealedEnds { app, upstream } = &mut *self.ends;
        match poll_direction(cx, &mut self.up, app, upstream) {
            // An application that has everything need not say goodbye.
            Poll::Ready(Err(Broken::Source(error)))
                if self.down.done && error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                return Poll::Ready(self.broken.take().unwrap_or(Ending::Complete));
            }
            Poll::Ready(Err(Broken::Source(error))) => return Poll::Ready(Ending::AppReset(error)),
            Poll::Ready(Err(Broken::Sink(error))) => {
                self.up.abandon();
                self.broken = Some(Ending::UpstreamReset(error));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match poll_direction(cx, &mut self.down, upstream, app) {
            // Many servers do not answer a goodbye. An application that has closed does not care.
            Poll::Ready(Err(Broken::Source(error)))
                if self.up.done && error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                self.cut = true;
                return Poll::Ready(self.broken.take().unwrap_or(Ending::Complete));
            }
            Poll::Ready(Err(Broken::Source(error))) => {
                return Poll::Ready(Ending::UpstreamReset(error));
            }
            Poll::Ready(Err(Broken::Sink(error))) => {
                self.down.abandon();
                self.broken = Some(Ending::AppReset(error));
                // The other direction has something to do that no event will announce.
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if self.up.done && self.down.done {
            return Poll::Ready(self.broken.take().unwrap_or(Ending::Complete));
        }
        if !self.up.is_reading()
            && let Poll::Ready(error) = app.poll_broken(cx)
        {
            return Poll::Ready(Ending::AppReset(error));
        }
        if !self.down.is_reading()
            && let Poll::Ready(error) = upstream.poll_broken(cx)
        {
            return Poll::Ready(Ending::UpstreamReset(error));
        }
        Poll::Pending
    }
}

impl Direction {
    /// Whether the source is being read; if not, nobody would notice its reset.
    fn is_reading(&self) -> bool {
        !self.ended && self.held.is_empty()
    }

    /// Gives up what the sink does not take any more.
    fn abandon(&mut self) {
        (self.held, self.written) = (Box::default(), 0);
        (self.ended, self.done) = (true, true);
    }
}

/// The side that broke off.
enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

/// One side, as far as a flow cares.
pub(crate) trait Side {
    /// Takes what it has sent; 0 is its end.
    fn poll_take(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
    /// Gives it some of these bytes.
    fn poll_give(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
    /// Ready when nothing that was given waits in this process.
    fn poll_given(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Tells it that no more bytes follow.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Waits for its reset while nothing is read from it; never ready otherwise.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;
    /// From here on, dropping it closes in order.
    fn close_in_order(&mut self);
}

/// Carries bytes until the source has none, the sink takes none, or it is another flow's turn; ready
/// when the source has ended and the sink knows.
fn poll_direction(
    cx: &mut Context<'_>,
    direction: &mut Direction,
    source: &mut impl Side,
    sink: &mut impl Side,
) -> Poll<Result<(), Broken>> {
    let turn = direction.carried + TURN;
    loop {
        while direction.written < direction.held.len() {
            let given = sink.poll_give(cx, &direction.held[direction.written..]);
            let given = ready!(given).map_err(Broken::Sink)?;
            direction.written += given;
            direction.carried += given as u64;
        }
        (direction.held, direction.written) = (Box::default(), 0);
        if direction.done {
            return Poll::Ready(Ok(()));
        }
        // What is left in the sink is on its way before more is taken: that is the backpressure.
        ready!(sink.poll_given(cx)).map_err(Broken::Sink)?;
        if direction.ended {
            ready!(sink.poll_end(cx)).map_err(Broken::Sink)?;
            direction.done = true;
            return Poll::Ready(Ok(()));
        }
        if direction.carried >= turn {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(scratch::with(|buffer| poll_step(cx, direction, source, sink, buffer)))?;
    }
}

/// Takes bytes once, and gives on what the sink takes of them.
fn poll_step(
    cx: &mut Context<'_>,
    direction: &mut Direction,
    source: &mut impl Side,
    sink: &mut impl Side,
    buffer: &mut [u8],
) -> Poll<Result<(), Broken>> {
    let buffer = &mut buffer[..CHUNK];
    let taken = ready!(source.poll_take(cx, buffer)).map_err(Broken::Source)?;
    if taken == 0 {
        direction.ended = true;
        return Poll::Ready(Ok(()));
    }
    let taken = &buffer[..taken];
    let given = match sink.poll_give(cx, taken) {
        Poll::Ready(given) => given.map_err(Broken::Sink)?,
        Poll::Pending => 0,
    };
    direction.carried += given as u64;
    if given < taken.len() {
        direction.held = taken[given..].into();
    }
    Poll::Ready(Ok(()))
}

impl Side for Stream {
    fn poll_take(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_recv(cx, buf)
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf)
    }

    fn poll_given(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown_write();
        Poll::Ready(Ok(()))
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.poll_reset(cx)
    }

    fn close_in_order(&mut self) {
        self.end();
    }
}

impl Side for TlsStream {
    fn poll_take(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_recv(cx, buf)
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf)
    }

    fn poll_given(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown_write(cx)
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.poll_reset(cx)
    }

    fn close_in_order(&mut self) {
        self.end();
    }
}

/// Bytes of one read: a whole TLS record, and as much as may be kept for a slow sink.
const CHUNK: usize = 16 * 1024;
/// Bytes a direction carries before other flows have their turn.
const TURN: u64 = 256 * 1024;
