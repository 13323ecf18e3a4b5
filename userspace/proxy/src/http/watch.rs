//! Ending an exchange in time although nobody asks for its answer.
//!
//! hyper asks for the next piece of an answer when the application has taken enough of the pieces before.
//! An application that takes nothing would keep its exchange for ever, whatever the limit. So the task
//! that carries an exchange looks at the limit, too, whenever nothing else is to be done; and there it
//! counts what is held for the application ([`unread`](super::unread)).

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::{
    deadline::{Deadline, Limit, poll_timer},
    downstream::Downstream,
    unread::{Entry, Holding, Share, TAKES_NOTHING},
};
use crate::record::ResponseFlag;

tokio::task_local! {
    /// The exchange that is on its way in this task.
    static CARRIED: RefCell<Carried>;
}

/// The exchange that a task carries.
#[derive(Debug, Default)]
struct Carried {
    limit: Option<Watched>,
    /// Bytes that are held at most while the application does not ask for more; nothing while the
    /// upstream is waited for.
    unread: Option<u64>,
    /// The application has asked for more, and got it.
    moved: bool,
    waiting: Option<Box<Waiting>>,
    upload: Option<Arc<Entry>>,
    over: Option<Over>,
}

/// An answer that ever waited for the application.
#[derive(Debug)]
struct Waiting {
    holding: Holding,
    timer: Pin<Box<Sleep>>,
}

/// Why an exchange is ended that might go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Its limit.
    Limit(Limit),
    /// Too much is held for those who do not read, and it has not moved for longest.
    Overflow,
    /// The application has taken nothing for [`TAKES_NOTHING`].
    Untaken,
}

impl Over {
    /// Flag and details.
    pub(super) fn said(self) -> (ResponseFlag, &'static str) {
        match self {
            Self::Limit(Limit::Route) => (ResponseFlag::UpstreamTimeout, "response_timeout"),
            Self::Limit(Limit::Grpc) => (ResponseFlag::DurationTimeout, "max_duration_timeout"),
            Self::Limit(Limit::Quiet) => (ResponseFlag::StreamIdleTimeout, "stream_idle_timeout"),
            Self::Overflow => (ResponseFlag::Overload, "unread_overflow"),
            Self::Untaken => (ResponseFlag::StreamIdleTimeout, "unread_timeout"),
        }
    }
}

/// The limit of an exchange whose answer is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Watched(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    deadline: Deadline,
    over: Option<Limit>,
}

impl Watched {
    /// Watches a limit, in this task as well if it is one of [`watching`]; nothing if there is none.
    pub(crate) fn new(deadline: Deadline) -> Option<Self> {
        if deadline.is_never() {
            return None;
        }
        let watched = Self(Arc::new(Mutex::new(State { deadline, over: None })));
        carried(|it| it.limit = Some(watched.clone()));
        Some(watched)
    }

    /// Something has gone to the application.
    pub(crate) fn moved(&self) {
        self.lock().deadline.moved();
    }

    /// Ready when the limit has come, with whose it was.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Limit> {
        let mut state = self.lock();
        let polled = state.deadline.poll(cx);
        if let Poll::Ready(limit) = polled {
            state.over = Some(limit);
        }
        polled
    }

    /// The limit that has come.
    pub(crate) fn over(&self) -> Option<Limit> {
        self.lock().over
    }

    /// The exchange is over.
    pub(crate) fn end(&self) {
        self.lock().deadline = Deadline::NEVER;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of an answer has gone to hyper, or its head: until the application asks for more, up to so
/// many bytes of it may be held.
pub(super) fn answer_waits(most: u64) {
    carried(|it| {
        it.unread = Some(most);
        it.moved = true;
    });
}

/// The application has asked for more than there is, or the answer is over.
pub(super) fn nothing_waits() {
    carried(|it| it.unread = None);
}

/// What the upstream does not take of a request is counted by somebody else; this task ends if it is to.
pub(super) fn sends(upload: &Holding) {
    carried(|it| it.upload = Some(Arc::clone(upload.entry())));
}

/// Why the exchange of this task is ended, if it is.
pub(super) fn over() -> Option<Over> {
    CARRIED.try_with(|it| it.borrow().over).ok().flatten()
}

/// Does something of which [`over`] is to say why.
pub(super) fn ending<T>(over: Over, work: impl FnOnce() -> T) -> T {
    let carried = Carried { over: Some(over), ..Carried::default() };
    CARRIED.sync_scope(RefCell::new(carried), work)
}

/// Elsewhere than in a task of [`watching`], nothing happens.
fn carried(change: impl FnOnce(&mut Carried)) {
    CARRIED.try_with(|it| change(&mut it.borrow_mut())).ok();
}

/// Runs the task of an application's connection, or of one request of it, until it ends or the answer
/// on its way has had its time. The future is as large as `work` and little more: there is one for each
/// request.
pub(super) fn watching<F: Future>(
    downstream: Arc<Downstream>,
    work: F,
) -> impl Future<Output = Result<F::Output, Over>> {
    CARRIED.scope(RefCell::new(Carried::default()), Watching { work, downstream })
}

pin_project! {
    struct Watching<F> {
        #[pin]
        work: F,
        downstream: Arc<Downstream>,
    }
}

impl<F: Future> Future for Watching<F> {
    type Output = Result<F::Output, Over>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        CARRIED.with(|it| {
            let mut it = it.borrow_mut();
            it.over = it.look(&this.downstream.worker.unread, cx);
            it.over.map_or(Poll::Pending, |over| Poll::Ready(Err(over)))
        })
    }
}

impl Carried {
    /// Counts what is held, and says whether the exchange is over.
    fn look(&mut self, share: &Arc<Share>, cx: &mut Context<'_>) -> Option<Over> {
        if let Some(limit) = &self.limit
            && let Poll::Ready(limit) = limit.poll(cx)
        {
            return Some(Over::Limit(limit));
        }
        if let Some(upload) = &self.upload
            && upload.is_over(cx)
        {
            return Some(Over::Overflow);
        }
        let Some(most) = self.unread else {
            if let Some(waiting) = &self.waiting {
                waiting.holding.let_go();
            }
            return None;
        };
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::new(Waiting { holding: share.holding(), timer: Box::pin(sleep(TAKES_NOTHING)) })
        });
        waiting.poll(most, std::mem::take(&mut self.moved), cx)
    }
}

impl Waiting {
    fn poll(&mut self, most: u64, moved: bool, cx: &mut Context<'_>) -> Option<Over> {
        // The waker first: it may be ended from here on.
        if self.holding.entry().is_over(cx) {
            return Some(Over::Overflow);
        }
        self.holding.hold(most, moved);
        while poll_timer(self.timer.as_mut(), cx).is_ready() {
            let left = TAKES_NOTHING.checked_sub(self.holding.still_for().unwrap_or_default());
            match left.filter(|left| !left.is_zero()) {
                Some(left) => self.timer.as_mut().reset(Instant::now() + left),
                None => return Some(Over::Untaken),
            }
        }
        None
    }
}

/// Gives each request of an HTTP/2 connection a task that is [`watching`].
#[derive(Clone)]
pub(super) struct Tasks(pub(super) Arc<Downstream>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, request: F) {
        tokio::spawn(watching(Arc::clone(&self.0), request));
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_which_nothing_is_taken_ends() {
        let share = Arc::new(Share::new(Arc::default()));
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let mut carried = Carried::default();
        // Something is taken, then the upstream is waited for, and then nothing is taken any more.
        for _ in 0..3 {
            (carried.unread, carried.moved) = (Some(1 << 20), true);
            assert_eq!(poll_fn(|cx| Poll::Ready(carried.look(&share, cx))).await, None);
            assert_eq!(share.held(), 1 << 20);
            sleep(minutes(9)).await;
        }
        carried.unread = None;
        assert_eq!(poll_fn(|cx| Poll::Ready(carried.look(&share, cx))).await, None);
        sleep(minutes(60)).await;
        assert_eq!(share.held(), 0);
        (carried.unread, carried.moved) = (Some(1 << 20), true);
        let start = Instant::now();
        let over = poll_fn(|cx| carried.look(&share, cx).map_or(Poll::Pending, Poll::Ready));
        assert_eq!(over.await, Over::Untaken);
        assert_eq!(start.elapsed().as_secs(), 600);
        drop(carried);
        assert_eq!(share.held(), 0);
    }
}
