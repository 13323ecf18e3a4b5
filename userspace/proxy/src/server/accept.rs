//! Accepting connections from one listener.

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use rustix::io::Errno;
use tokio::{
    io::unix::AsyncFd,
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep},
};

use super::Worker;
use crate::{
    flow,
    socket::{accept, watch},
};

/// Accepts until `stop`, and then what still waits.
pub(super) async fn accept_all(worker: Arc<Worker>, listener: TcpListener, stop: Arc<Notify>) {
    let listener = match watch(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener cannot be watched");
            return;
        }
    };
    let mut trouble = Trouble::default();
    loop {
        let mut ready = tokio::select! {
            ready = listener.readable() => match ready {
                Ok(ready) => ready,
                Err(_ended) => return,
            },
            () = stop.notified() => break,
        };
        match accept_some(&worker, &listener) {
            Next::Nothing => ready.clear_ready(),
            Next::More => yield_now().await,
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
    while matches!(accept_some(&worker, &listener), Next::More) {}
}

enum Next {
    /// No connection waits.
    Nothing,
    /// More may wait; others have their turn first.
    More,
    /// The system lacks something.
    Wait(io::Error),
}

fn accept_some(worker: &Arc<Worker>, listener: &AsyncFd<TcpListener>) -> Next {
    for _ in 0..BATCH {
        match accept(listener) {
            Ok(accepted) => {
                tokio::spawn(flow::run(Arc::clone(worker), accepted, worker.slot()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Nothing,
            Err(error) if is_the_connections(&error) => {}
            Err(error) => return Next::Wait(error),
        }
    }
    Next::More
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

/// Connections accepted before flows have their turn.
const BATCH: u32 = 32;
/// After a failure; doubled with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const TELL_AGAIN: Duration = Duration::from_secs(10);
