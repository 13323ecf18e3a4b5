//! Ending an exchange in time although nobody asks for its answer.
//!
//! hyper asks for the next piece of an answer when the application has taken enough of the pieces before.
//! An application that takes nothing would keep its exchange for ever, whatever the limit. So the task
//! that carries an exchange looks at the limit, too, whenever nothing else is to be done.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

use super::deadline::{Deadline, Limit};

tokio::task_local! {
    /// The answer that is on its way in this task.
    static WATCHED: RefCell<Option<Watched>>;
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
        // Elsewhere the body alone looks.
        WATCHED.try_with(|place| *place.borrow_mut() = Some(watched.clone())).ok();
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

/// Runs the task of an application's connection, or of one request of it, until it ends or the answer
/// on its way has had its time. The future is as large as `work`: there is one for each request.
pub(super) fn watching<F: Future>(work: F) -> impl Future<Output = Result<F::Output, Limit>> {
    WATCHED.scope(RefCell::new(None), Watching { work })
}

pin_project! {
    struct Watching<F> {
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for Watching<F> {
    type Output = Result<F::Output, Limit>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(done) = self.project().work.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        WATCHED.with(|place| match &*place.borrow() {
            Some(watched) => watched.poll(cx).map(Err),
            None => Poll::Pending,
        })
    }
}

/// Gives each request of an HTTP/2 connection a task that is [`watching`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Tasks;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, request: F) {
        tokio::spawn(watching(request));
    }
}
