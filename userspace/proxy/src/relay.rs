//! The relay: bytes both ways between the application and the endpoint, until both have ended, one
//! has broken off, or a limit is reached.
//!
//! # How it moves bytes
//! - A flow that waits holds no buffer. Bytes are read into one scratch buffer per thread and written
//!   straight on; only what the other side does not take is kept, in an allocation of that size,
//!   and then nothing more is read: that is the backpressure.
//! - Reads start at [`pump::FIRST_READ`] and grow to [`scratch::SIZE`] while they come back full.
//! - A direction that has carried [`pump::BULK_AFTER`] in full reads goes on by splice(2), through a
//!   pipe borrowed while bytes are on their way; without a free pipe it goes on copying.
//! - Each direction ends by itself (half-close); a reset on one side is a reset on the other.

mod pipe;
mod pump;
pub(crate) mod scratch;
mod sealed;

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use self::pump::{Broken, End, Pump};
pub(crate) use self::{
    pipe::PipePool,
    sealed::{SealedEnds, Side, relay_sealed},
};
use crate::socket::Stream;

/// The two ends of a flow.
pub(crate) struct Ends {
    /// The application's connection.
    pub(crate) app: Stream,
    /// The endpoint's.
    pub(crate) upstream: Stream,
}

/// How long a flow may last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Time without a byte in either direction; `None` for ever.
    pub(crate) idle: Option<Duration>,
    /// When the flow ends whatever happens; `None` never.
    pub(crate) until: Option<Instant>,
}

/// Bytes carried, kept up to date while the relay runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// From the application, delivered to the endpoint.
    pub(crate) up: u64,
    /// From the endpoint, delivered to the application.
    pub(crate) down: u64,
}

/// Why the relay stopped.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Both sides said that they send no more.
    Complete,
    /// The application broke off.
    AppReset(io::Error),
    /// The endpoint broke off.
    UpstreamReset(io::Error),
    /// [`Limits::idle`] has passed.
    Idle,
    /// [`Limits::until`] has come.
    Expired,
}

/// Carries bytes both ways until the flow ends. When the ends are dropped, both connections are
/// closed in order after [`Ending::Complete`], else reset; so they are if this is dropped.
pub(crate) async fn relay(
    ends: &mut Ends,
    limits: Limits,
    pipes: &Arc<PipePool>,
    carried: &mut Carried,
) -> Ending {
    let (up, down) = (Pump::new(), Pump::new());
    let mut flow = Flow { ends, up, down, broken: None, active: Instant::now() };
    let mut timer = pin!(sleep_until(limits.next(flow.active)));
    poll_fn(|cx| {
        let moved = flow.poll_carry(cx, pipes);
        *carried = Carried { up: flow.up.carried(), down: flow.down.carried() };
        if let Poll::Ready(ending) = moved {
            if matches!(ending, Ending::Complete) {
                flow.ends.app.end();
                flow.ends.upstream.end();
            }
            return Poll::Ready(ending);
        }
        while timer.as_mut().poll(cx).is_ready() {
            match limits.reached(flow.active, Instant::now()) {
                Some(ending) => return Poll::Ready(ending),
                None => timer.as_mut().reset(limits.next(flow.active)),
            }
        }
        Poll::Pending
    })
    .await
}

struct Flow<'a> {
    ends: &'a mut Ends,
    up: Pump,
    down: Pump,
    /// One side takes nothing more; what it sent before that still goes to the other.
    broken: Option<Ending>,
    /// When the last byte moved.
    active: Instant,
}

impl Flow<'_> {
    fn poll_carry(&mut self, cx: &mut Context<'_>, pipes: &Arc<PipePool>) -> Poll<Ending> {
        let before = self.carried();
        let moved = self.poll_both(cx, pipes);
        if self.carried() != before {
            self.active = Instant::now();
        }
        moved
    }

    fn poll_both(&mut self, cx: &mut Context<'_>, pipes: &Arc<PipePool>) -> Poll<Ending> {
        let Ends { app, upstream } = &mut *self.ends;
        // The last direction to end needs no shutdown: closing says the same.
        let end = if self.down.is_done() { End::Close } else { End::HalfClose };
        match self.up.poll_carry(cx, app, upstream, pipes, end) {
            Poll::Ready(Err(Broken::Source(error))) => return Poll::Ready(Ending::AppReset(error)),
            Poll::Ready(Err(Broken::Sink(error))) => {
                self.up.abandon();
                self.broken = Some(Ending::UpstreamReset(error));
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        let end = if self.up.is_done() { End::Close } else { End::HalfClose };
        match self.down.poll_carry(cx, upstream, app, pipes, end) {
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
        if self.up.is_done() && self.down.is_done() {
            return Poll::Ready(self.broken.take().unwrap_or(Ending::Complete));
        }
        self.poll_resets(cx)
    }

    fn carried(&self) -> u64 {
        self.up.carried() + self.down.carried()
    }

    /// A side that is not being read, because it has ended or the other one is slow, can still break
    /// off.
    fn poll_resets(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if !self.up.is_reading()
            && let Poll::Ready(error) = self.ends.app.poll_reset(cx)
        {
            return Poll::Ready(Ending::AppReset(error));
        }
        if !self.down.is_reading()
            && let Poll::Ready(error) = self.ends.upstream.poll_reset(cx)
        {
            return Poll::Ready(Ending::UpstreamReset(error));
        }
        Poll::Pending
    }
}

impl Limits {
    /// When to look next, given when the last byte moved.
    fn next(&self, active: Instant) -> Instant {
        let idle = self.idle.and_then(|idle| active.checked_add(idle));
        match (idle, self.until) {
            (Some(idle), Some(until)) => idle.min(until),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => active + FAR_AWAY,
        }
    }

    fn reached(&self, active: Instant, now: Instant) -> Option<Ending> {
        if self.until.is_some_and(|until| until <= now) {
            return Some(Ending::Expired);
        }
        self.idle.is_some_and(|idle| active + idle <= now).then_some(Ending::Idle)
    }
}

/// Without limits the timer is set this far ahead, again and again.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests;
