//! The sign of life that the kernel side waits for: without it, queries are left alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How often each thread gives a sign.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);
/// A thread that was silent for this long stops the signs of all: its queries are stuck.
const LIMIT: Duration = Duration::from_millis(500);

/// The signs of all threads.
pub(crate) struct Heartbeat {
    hook: Arc<dyn Fn() + Send + Sync>,
    start: Instant,
    /// When each thread gave its last sign, in milliseconds since the start.
    beats: Vec<AtomicU64>,
}

impl Heartbeat {
    pub(crate) fn new(threads: usize, hook: Arc<dyn Fn() + Send + Sync>) -> Self {
        let beats = std::iter::repeat_with(AtomicU64::default).take(threads).collect();
        Self { hook, start: Instant::now(), beats }
    }

    /// A thread is alive; if the others are, too, the hook hears of it.
    pub(crate) fn beat(&self, thread: usize) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(beat) = self.beats.get(thread) {
            beat.store(now, Ordering::Relaxed);
        }
        let limit = u64::try_from(LIMIT.as_millis()).unwrap_or(u64::MAX);
        let fresh = |beat: &AtomicU64| now.saturating_sub(beat.load(Ordering::Relaxed)) <= limit;
        if self.beats.iter().all(fresh) {
            (self.hook)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread};

    use super::*;

    #[test]
    fn one_that_hangs_silences_all() {
        let count = Arc::new(AtomicUsize::new(0));
        let hook = Arc::clone(&count);
        let heartbeat = Heartbeat::new(
            2,
            Arc::new(move || {
                hook.fetch_add(1, Ordering::Relaxed);
            }),
        );
        heartbeat.beat(0);
        heartbeat.beat(1);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        thread::sleep(LIMIT + Duration::from_millis(50));
        heartbeat.beat(0);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        heartbeat.beat(1);
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }
}
