//! Accepting connections from one listener.

use std::{
    future::poll_fn,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::Worker;
use crate::{
    door::Entrance,
    flow,
    socket::{Watched, accept},
};

/// Accepts until `stop`, and then what still waits.
pub(super) async fn accept_all(
    worker: Arc<Worker>,
    listener: OwnedFd,
    entrance: Entrance,
    stop: Arc<Notify>,
) {
    let mut listener = Watched::new(listener);
    let (fd, watch) = match listener.watch() {
        Ok(watched) => watched,
        Err(error) => {
            tracing::error!(%error, "a listener cannot be watched");
            return;
        }
    };
    let mut trouble = Trouble::default();
    loop {
        let mut ready = tokio::select! {
            ready = watch.readable() => match ready {
                Ok(ready) => ready,
                Err(_ended) => return,
            },
            () = stop.notified() => break,
        };
        match accept_one(&worker, fd, &entrance) {
            Next::Nothing => ready.clear_ready(),
            Next::More => let_others().await,
            Next::Wait(error) => {
                worker.counters.accept_failures.add(1);
                let pause = trouble.note(&error);
                tokio::select! {
                    () = sleep(pause) => continue,
                    () = stop.notified() => break,
                }
            }
        }
        trouble = Trouble::default();
    }
    while matches!(accept_one(&worker, fd, &entrance), Next::More) {}
}

enum Next {
    /// No connection waits.
    Nothing,
    /// More may wait.
    More,
    /// The system lacks something.
    Wait(io::Error),
}

/// Accepts one connection and starts its flow.
fn accept_one(worker: &Arc<Worker>, listener: BorrowedFd<'_>, entrance: &Entrance) -> Next {
    match accept(listener) {
        Ok(accepted) => {
            let worker = Arc::clone(worker);
            match entrance {
                Entrance::Captured => {
                    let slot = worker.slot();
                    tokio::spawn(flow::run(worker, accepted, slot))
                }
                Entrance::Door { door, .. } => {
                    let slot = worker.visitors_slot();
                    tokio::spawn(flow::run_at_door(worker, accepted, slot, Arc::clone(door)))
                }
            };
            Next::More
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Nothing,
        Err(error) if is_the_connections(&error) => Next::More,
        Err(error) => Next::Wait(error),
    }
}

/// Lets tasks that are ready go first: the flow that was just started sooner than the look for the
/// next one. Unlike tokio's own yield, without a turn of the event loop.
async fn let_others() {
    let mut gone_first = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gone_first, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether the error is of the connection that was to be accepted: Linux reports its pending network
/// errors here (accept(2)).
fn is_the_connections(error: &io::Error) -> bool {
    const THEIRS: [Errno; 10] = [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ];
    THEIRS.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Failures in a row.
#[derive(Default)]
struct Trouble {
    failures: u32,
    told: Option<Instant>,
}

impl Trouble {
    /// How long to wait before the next try; says what is wrong, now and then.
    fn note(&mut self, error: &io::Error) -> Duration {
        if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(%error, "connections wait: none can be accepted");
        }
        let pause = FIRST_PAUSE * 2_u32.pow(self.failures.min(7));
        self.failures += 1;
        pause.min(LONGEST_PAUSE)
    }
}

/// After a failure; doubled with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const TELL_AGAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut trouble = Trouble::default();
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let pauses: Vec<_> = (0..10).map(|_| trouble.note(&error).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        assert!(!is_the_connections(&error));
        assert!(is_the_connections(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }
}
