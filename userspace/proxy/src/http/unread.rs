//! What is held for those who do not read: a bound for the process.
//!
//! HTTP/2 lets an upstream send ahead on each stream, and an application on each of its own, so that who
//! does not read holds up nobody else. What came ahead is ours to keep. Each exchange that waits for its
//! reader counts here with as much as may be kept for it; beyond [`BUDGET`] those that have waited
//! longest without any movement are ended. Where somebody reads, an exchange waits for the other side,
//! keeps nothing and counts nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;

/// What the process holds for those who do not read.
#[derive(Debug)]
pub(crate) struct Unread {
    since: Instant,
    /// Bytes that may be held at this moment.
    held: AtomicU64,
    most: u64,
    /// Exchanges that ever waited for their reader, while they live.
    entries: Mutex<HashMap<u64, Arc<Entry>>>,
    numbers: AtomicU64,
    /// Exchanges that were ended.
    ended: AtomicU64,
    /// When that was last said, in milliseconds since the start; 0 for never.
    said: AtomicU64,
}

/// A worker's reference to it: each request counts those who refer to this, which no other worker does.
#[derive(Debug)]
pub(crate) struct Share(Arc<Unread>);

/// One direction of an exchange. Holds nothing until [`Holding::hold`].
#[derive(Debug)]
pub(crate) struct Holding {
    share: Arc<Share>,
    /// Its place in the list; 0 until it has one.
    number: AtomicU64,
    entry: Arc<Entry>,
}

/// What is to become of an exchange, as its task sees it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Bytes that it counts with; 0 if it waits for nobody.
    bytes: AtomicU64,
    /// Since when nothing has moved, in milliseconds since the start.
    still: AtomicU64,
    over: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Default for Unread {
    fn default() -> Self {
        Self::of(BUDGET)
    }
}

impl Unread {
    /// A budget of so many bytes.
    pub(crate) fn of(most: u64) -> Self {
        Self {
            since: Instant::now(),
            held: AtomicU64::new(0),
            most,
            entries: Mutex::default(),
            numbers: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            said: AtomicU64::new(0),
        }
    }

    /// Ends those that have waited longest, until there is room again for a while.
    fn make_room(&self) {
        let entries = self.lock();
        if self.held.load(Ordering::Relaxed) <= self.most {
            // Another thread has been here.
            return;
        }
        let mut waiting: Vec<_> = entries
            .values()
            .filter(|entry| entry.bytes.load(Ordering::Relaxed) > 0)
            .map(|entry| (entry.still.load(Ordering::Relaxed), entry))
            .collect();
        waiting.sort_unstable_by_key(|(still, _)| *still);
        let enough = self.most - self.most / SPARE;
        let (mut ended, mut wakers) = (0, Vec::new());
        for (_, entry) in waiting {
            if self.held.load(Ordering::Relaxed) <= enough {
                break;
            }
            entry.over.store(true, Ordering::SeqCst);
            self.let_go(entry);
            wakers.extend(entry.lock().take());
            ended += 1;
        }
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
        let ended = ended + self.ended.fetch_add(ended, Ordering::Relaxed);
        self.say(ended);
    }

    fn let_go(&self, entry: &Entry) {
        let bytes = entry.bytes.swap(0, Ordering::SeqCst);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn say(&self, ended: u64) {
        let (now, last) = (self.now(), self.said.load(Ordering::Relaxed));
        let due = last == 0 || now.saturating_sub(last) >= SAID_EVERY.as_millis() as u64;
        let mine = || self.said.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if due && mine().is_ok() {
            tracing::warn!(
                budget = self.most,
                ended,
                "requests are ended (OM, unread_overflow): too much is held for applications that do not \
                 read their answers, or endpoints that do not read requests"
            );
        }
    }

    /// Never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// A worker's.
    pub(crate) fn new(unread: Arc<Unread>) -> Self {
        Self(unread)
    }

    /// One direction of one exchange.
    pub(crate) fn holding(self: &Arc<Self>) -> Holding {
        Holding { share: Arc::clone(self), number: AtomicU64::new(0), entry: Arc::default() }
    }

    /// Bytes that may be held at this moment.
    #[cfg(test)]
    pub(crate) fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }
}

impl Holding {
    /// It waits for its reader, and up to so many bytes are kept meanwhile; `moved`: the reader has taken
    /// something since this was last called. Locks when an exchange calls it for the first time.
    pub(crate) fn hold(&self, bytes: u64, moved: bool) {
        let (unread, entry) = (&self.share.0, &self.entry);
        if entry.over.load(Ordering::SeqCst) {
            return;
        }
        if self.number.load(Ordering::Relaxed) == 0 {
            // Whoever holds it calls this, one at a time.
            let number = 1 + unread.numbers.fetch_add(1, Ordering::Relaxed);
            self.number.store(number, Ordering::Relaxed);
            unread.lock().insert(number, Arc::clone(entry));
        }
        let bytes = bytes.max(LEAST);
        let before = entry.bytes.load(Ordering::Relaxed);
        if moved || before == 0 {
            entry.still.store(unread.now(), Ordering::Relaxed);
        }
        if before != bytes {
            // In this order: what others take away has been counted before.
            unread.held.fetch_add(bytes, Ordering::Relaxed);
            let before = entry.bytes.swap(bytes, Ordering::SeqCst);
            unread.held.fetch_sub(before, Ordering::Relaxed);
        }
        if entry.over.load(Ordering::SeqCst) {
            // Ended meanwhile, perhaps before this was counted.
            unread.let_go(entry);
        } else if unread.held.load(Ordering::Relaxed) > unread.most {
            unread.make_room();
        }
    }

    /// It waits for the other side, and keeps nothing.
    pub(crate) fn let_go(&self) {
        if self.entry.bytes.load(Ordering::Relaxed) > 0 {
            self.share.0.let_go(&self.entry);
        }
    }

    /// How long nothing has moved; nothing if it does not wait for its reader.
    pub(crate) fn still_for(&self) -> Option<Duration> {
        let still = Duration::from_millis(self.entry.still.load(Ordering::Relaxed));
        let waits = self.entry.bytes.load(Ordering::Relaxed) > 0;
        waits.then(|| Duration::from_millis(self.share.0.now()).saturating_sub(still))
    }

    /// For the task that carries the exchange.
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if *self.number.get_mut() > 0 {
            self.share.0.lock().remove(self.number.get_mut());
            self.share.0.let_go(&self.entry);
        }
    }
}

impl Entry {
    /// Whether the exchange is to end. If not, the task is woken when it is.
    pub(crate) fn is_over(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.lock();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.over.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that the process holds at most for those who do not read.
pub(crate) const BUDGET: u64 = 512 << 20;
/// How long an application may take nothing of an answer that waits for it.
pub(crate) const TAKES_NOTHING: Duration = Duration::from_secs(600);
/// What an exchange counts at least: it costs so much besides its bytes.
const LEAST: u64 = 16 << 10;
/// This part of the budget is made free at once, so that not every newcomer looks for room.
const SPARE: u64 = 16;
/// How often exchanges that were ended are spoken of.
const SAID_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_not_moved_for_longest_are_ended() {
        const MIB: u64 = 1 << 20;
        let unread = Arc::new(Share::new(Arc::new(Unread::of(16 * MIB))));
        let holdings: Vec<_> = (0..16).map(|_| unread.holding()).collect();
        let over = || holdings.iter().filter(|it| it.entry.over.load(Ordering::SeqCst)).count();
        for holding in &holdings {
            holding.hold(MIB, false);
        }
        assert_eq!((unread.held(), over()), (16 * MIB, 0));
        std::thread::sleep(Duration::from_millis(5));
        for holding in &holdings[1..] {
            holding.hold(MIB, true);
        }
        std::thread::sleep(Duration::from_millis(5));
        let newcomer = unread.holding();
        newcomer.hold(MIB, false);
        assert!(holdings[0].entry.over.load(Ordering::SeqCst));
        assert!(unread.held() <= 16 * MIB && over() == 2, "{} {}", unread.held(), over());
        // Who was ended counts for nothing, whatever it does.
        holdings[0].hold(MIB, true);
        assert!(unread.held() <= 15 * MIB);
        holdings[5].let_go();
        drop(holdings);
        assert_eq!((unread.held(), unread.0.lock().len()), (MIB, 1));
        drop(newcomer);
        assert_eq!((unread.held(), unread.0.lock().len()), (0, 0));
    }
}
