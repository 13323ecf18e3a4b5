//! Looking for the next event a little longer before a worker's thread sleeps.
//!
//! Waking a thread costs more than most of what it then does: an interrupt to another processor, on
//! a virtual machine with a turn through the hypervisor, on the time of whoever sends the bytes. A
//! connection to something near goes back and forth within microseconds, and each way would be paid
//! with it. So a thread that has just been busy looks again, for [`LONGEST`] at most.
//!
//! It does so only where that pays. Where nothing came in time, it sleeps at once for the next
//! [`SLEEPS`] times: a remote endpoint, or an application that has no processor but ours, costs one
//! look in so many. Where much comes at once ([`CROWD`]), threads wake seldom and there is nothing
//! to gain either.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{task::yield_now, time::Instant};

/// Notes that a connection has had bytes to read.
pub(crate) fn note() {
    READS.with(|reads| reads.set(reads.get() + 1));
}

/// Tells [`stay`] that this thread has slept and was woken.
pub(crate) fn woken() {
    if let Some(waker) = SLEEPING.take() {
        waker.wake();
    }
}

/// Keeps this thread's event loop from sleeping while it pays. Does not end.
pub(crate) async fn stay() {
    let mut alert = Alert::default();
    poll_fn(|cx| poll_stay(&mut alert, cx)).await
}

fn poll_stay(alert: &mut Alert, cx: &mut Context<'_>) -> Poll<()> {
    match alert.next(Instant::now(), READS.with(Cell::get)) {
        Next::Look => {
            // Comes back after one look at the events, without waiting.
            if pin!(yield_now()).poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Next::Sleep => drop(SLEEPING.replace(Some(cx.waker().clone()))),
    }
    Poll::Pending
}

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
    static SLEEPING: RefCell<Option<Waker>> = const { RefCell::new(None) };
}

/// Whether it pays.
#[derive(Debug, Default)]
struct Alert {
    /// Reads up to the last look.
    seen: u64,
    /// When something last came; `None` while the thread sleeps.
    since: Option<Instant>,
    /// Times that it is to sleep at once.
    sleeps: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Look,
    Sleep,
}

impl Alert {
    /// What to do, given how many reads there have been.
    fn next(&mut self, now: Instant, reads: u64) -> Next {
        let came = reads - std::mem::replace(&mut self.seen, reads);
        match self.since {
            None if self.sleeps > 0 => {
                self.sleeps -= 1;
                return Next::Sleep;
            }
            Some(since) if came == 0 && now - since < LONGEST => return Next::Look,
            Some(_) if came == 0 || came > CROWD => {
                self.sleeps = SLEEPS;
                self.since = None;
                return Next::Sleep;
            }
            None | Some(_) => self.since = Some(now),
        }
        Next::Look
    }
}

/// How long it is looked without anything coming: about twice what waking a thread on another
/// processor takes on a virtual machine.
const LONGEST: Duration = Duration::from_micros(50);
/// Times the thread sleeps at once after it has looked in vain.
const SLEEPS: u32 = 63;
/// Reads between two looks from which it is not worth looking.
const CROWD: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(20);

    /// Feeds one look for each number of reads, [`STEP`] apart, and tells what came of them.
    fn looks(alert: &mut Alert, now: &mut Instant, came: &[u64]) -> Vec<Next> {
        let looks = came.iter().map(|came| {
            *now += STEP;
            alert.next(*now, alert.seen + came)
        });
        looks.collect()
    }

    #[test]
    fn it_looks_as_long_as_something_comes_now_and_then() {
        let (mut alert, mut now) = (Alert::default(), Instant::now());
        let came = [1, 0, 0, 1, 0, 0, 1, 0, 0, 1];
        assert_eq!(looks(&mut alert, &mut now, &came), [Next::Look; 10]);
    }

    #[test]
    fn in_vain_it_sleeps_at_once_for_a_while() {
        let (mut alert, mut now) = (Alert::default(), Instant::now());
        let vain = looks(&mut alert, &mut now, &[1, 0, 0, 0]);
        assert_eq!(vain, [Next::Look, Next::Look, Next::Look, Next::Sleep]);
        let later = looks(&mut alert, &mut now, &[1; SLEEPS as usize]);
        assert_eq!(later, [Next::Sleep; SLEEPS as usize]);
        assert_eq!(looks(&mut alert, &mut now, &[1]), [Next::Look]);
    }

    #[test]
    fn a_crowd_keeps_nobody_awake() {
        let (mut alert, mut now) = (Alert::default(), Instant::now());
        let crowd = looks(&mut alert, &mut now, &[1, CROWD, CROWD + 1, 1]);
        assert_eq!(crowd, [Next::Look, Next::Look, Next::Sleep, Next::Sleep]);
    }
}
