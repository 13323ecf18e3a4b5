//! The limit on a whole exchange (semantics.md §3, timeout).
//!
//! It begins when the application has sent all of its request, so that a slow upload is not held
//! against the upstream, and ends with the last byte of the answer. Beside it there may be a limit on
//! how long nothing moves, in either direction.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::coop,
    time::{Instant, Sleep, sleep},
};

/// A moment at which an exchange is over, whatever its state.
#[derive(Debug)]
pub(crate) struct Deadline {
    limit: Limit,
    state: State,
    quiet: Option<Box<Quiet>>,
}

/// The limit on how long nothing moves.
#[derive(Debug)]
struct Quiet {
    longest: Duration,
    sleep: Pin<Box<Sleep>>,
    /// Bytes from the application.
    received: Arc<AtomicU64>,
    /// What `received` was when the time began.
    before: u64,
    /// Something went to the application since.
    moved: bool,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The route's, or the application's by `x-envoy-upstream-rq-timeout-ms`.
    Route,
    /// The application's by `grpc-timeout`.
    Grpc,
    /// Nothing has moved for too long.
    Quiet,
}

#[derive(Debug)]
enum State {
    Never,
    /// The request is not complete; then there is so much time.
    Waiting(oneshot::Receiver<()>, Duration),
    Running(Pin<Box<Sleep>>),
}

impl Deadline {
    /// No deadline.
    pub(crate) const NEVER: Self = Self { limit: Limit::Route, state: State::Never, quiet: None };

    /// So long after `complete`, or from this moment if the request is complete.
    pub(crate) fn new(
        limit: Limit,
        time: Duration,
        complete: Option<oneshot::Receiver<()>>,
    ) -> Self {
        let state = match complete {
            Some(complete) => State::Waiting(complete, time),
            None => State::Running(Box::pin(sleep(time))),
        };
        Self { limit, state, quiet: None }
    }

    /// The same, and not longer than `longest` without a byte in either direction; `received` counts
    /// those of the application.
    pub(crate) fn or_quiet_for(self, longest: Duration, received: &Arc<AtomicU64>) -> Self {
        let quiet = Quiet {
            longest,
            sleep: Box::pin(sleep(longest)),
            received: Arc::clone(received),
            before: received.load(Ordering::Relaxed),
            moved: false,
        };
        Self { quiet: Some(Box::new(quiet)), ..self }
    }

    /// Whether it never comes.
    pub(crate) fn is_never(&self) -> bool {
        matches!(self.state, State::Never) && self.quiet.is_none()
    }

    /// Something has gone to the application.
    pub(crate) fn moved(&mut self) {
        if let Some(quiet) = &mut self.quiet {
            quiet.moved = true;
        }
    }

    /// Ready when it has come, with whose it was.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Limit> {
        if let Poll::Ready(limit) = self.poll_whole(cx) {
            return Poll::Ready(limit);
        }
        match &mut self.quiet {
            Some(quiet) => quiet.poll(cx),
            None => Poll::Pending,
        }
    }

    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Limit> {
        loop {
            match &mut self.state {
                State::Never => return Poll::Pending,
                State::Waiting(complete, time) => {
                    // A body that broke off is as good as complete.
                    let _told = ready!(Pin::new(complete).poll(cx));
                    self.state = State::Running(Box::pin(sleep(*time)));
                }
                State::Running(sleep) => {
                    ready!(poll_timer(sleep.as_mut(), cx));
                    return Poll::Ready(self.limit);
                }
            }
        }
    }

    /// Runs `work` until it is done or the deadline has come.
    pub(crate) async fn bound<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Limit> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }
}

/// Ready when a timer has run out. A task that has used up its turn, as one does that carries bytes
/// without a pause, is told that none has: then the clock knows better.
pub(super) fn poll_timer(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if timer.as_mut().poll(cx).is_ready()
        || (!coop::has_budget_remaining() && Instant::now() >= timer.deadline())
    {
        return Poll::Ready(());
    }
    Poll::Pending
}

impl Quiet {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Limit> {
        loop {
            ready!(poll_timer(self.sleep.as_mut(), cx));
            let received = self.received.load(Ordering::Relaxed);
            if received == self.before && !self.moved {
                return Poll::Ready(Limit::Quiet);
            }
            // Looked at once a turn: it may be quiet for nearly twice the time before it shows.
            self.before = received;
            self.moved = false;
            self.sleep.as_mut().reset(Instant::now() + self.longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_runs_from_the_end_of_the_request() {
        let (complete, told) = oneshot::channel();
        let mut deadline = Deadline::new(Limit::Route, Duration::from_secs(3), Some(told));
        let start = Instant::now();
        tokio::spawn(async move {
            sleep(Duration::from_secs(5)).await;
            complete.send(()).unwrap();
        });
        assert_eq!(deadline.bound(std::future::pending::<()>()).await, Err(Limit::Route));
        assert_eq!(start.elapsed().as_secs(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_not_quiet() {
        let received = Arc::new(AtomicU64::new(0));
        let seconds = Duration::from_secs;
        let mut deadline = Deadline::NEVER.or_quiet_for(seconds(3), &received);
        let start = Instant::now();
        let counter = Arc::clone(&received);
        tokio::spawn(async move {
            for _ in 0..5 {
                sleep(seconds(2)).await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(deadline.bound(std::future::pending::<()>()).await, Err(Limit::Quiet));
        assert_eq!(start.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_done_in_time_is_kept() {
        let mut deadline = Deadline::new(Limit::Grpc, Duration::from_secs(3), None);
        let work = async {
            sleep(Duration::from_secs(2)).await;
            7
        };
        assert_eq!(deadline.bound(work).await, Ok(7));
        assert_eq!(deadline.bound(std::future::pending::<()>()).await, Err(Limit::Grpc));
        let mut never = Deadline::NEVER;
        assert_eq!(never.bound(async { 1 }).await, Ok(1));
    }
}
