//! A watch over the parts of the daemon: one that hangs is named in the log, and the service manager
//! stops hearing from us, so that it starts us anew (systemd's `WatchdogSec`).
//!
//! Each part has a pulse, a number that grows while it works. A thread of its own looks at them; it
//! waits for nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Failure, notify::Notify};

/// A number that grows while a part works.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The part works.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has said so.
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads the pulse of a part.
pub(super) type Reading = Box<dyn Fn() -> u64 + Send>;

/// The watch, until it is dropped.
pub(super) struct Watchdog {
    draining: Arc<AtomicBool>,
    end: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watchdog {
    /// Watches these parts; `main` is the one that rests while the daemon drains.
    pub(super) fn start(
        main: Pulse,
        parts: Vec<(String, Reading)>,
        notify: Notify,
    ) -> Result<Self, Failure> {
        let draining = Arc::<AtomicBool>::default();
        let is_draining = Arc::clone(&draining);
        // Then it waits for flows to end, and a number that is another one each time is alive.
        let main: Reading = Box::new(move || match is_draining.load(Ordering::Relaxed) {
            true => unique(),
            false => main.count(),
        });
        let mut watch = Watch::new(
            std::iter::once(("main loop".to_owned(), main)).chain(parts),
            Instant::now(),
        );
        let (end, ended) = channel();
        let work = move || {
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if watch.look(Instant::now()) {
                    notify.alive();
                }
            }
        };
        let thread = thread::Builder::new().name("egressd-watch".to_owned()).spawn(work);
        let thread = thread.map_err(Failure::machine("starting the watchdog"))?;
        Ok(Self { draining, end: Some(end), thread: Some(thread) })
    }

    /// The daemon drains.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watchdog had panicked");
        }
    }
}

/// A number that is another one each time.
fn unique() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(1);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// What is known of the parts.
struct Watch {
    parts: Vec<Part>,
    last_look: Instant,
}

struct Part {
    name: String,
    read: Reading,
    pulse: u64,
    /// When the pulse was last another one than before.
    alive: Instant,
    hangs: bool,
}

impl Watch {
    fn new(parts: impl Iterator<Item = (String, Reading)>, now: Instant) -> Self {
        let part = |(name, read): (String, Reading)| {
            let pulse = read();
            Part { name, read, pulse, alive: now, hangs: false }
        };
        Self { parts: parts.map(part).collect(), last_look: now }
    }

    /// Looks at all parts; says whether all of them are alive.
    fn look(&mut self, now: Instant) -> bool {
        // We were stopped ourselves, and the others with us: their time begins anew.
        let slept = now.duration_since(self.last_look) > LOOK * 3;
        self.last_look = now;
        let mut all = true;
        for part in &mut self.parts {
            let pulse = (part.read)();
            if pulse != part.pulse || slept {
                part.alive = now;
            }
            if pulse != part.pulse && part.hangs {
                part.hangs = false;
                tracing::info!(part = part.name, "works again");
            }
            part.pulse = pulse;
            let silent = now.duration_since(part.alive);
            if silent >= LIMIT && !part.hangs {
                part.hangs = true;
                tracing::error!(
                    part = part.name,
                    ?silent,
                    "hangs: what it does stands still; a service manager with a watchdog starts \
                     the daemon anew"
                );
            }
            all &= !part.hangs;
        }
        all
    }
}

/// How often the parts are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A part that was silent for this long hangs. A reload of 10,000 services takes less.
const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every second for so long; gives what the last look said.
    fn looks(watch: &mut Watch, now: &mut Instant, seconds: u32, beating: &[&Pulse]) -> bool {
        let mut all = true;
        for _ in 0..seconds {
            *now += LOOK;
            beating.iter().for_each(|pulse| pulse.beat());
            all = watch.look(*now);
        }
        all
    }

    #[test]
    fn one_that_hangs_silences_all() {
        let (one, other) = (Pulse::default(), Pulse::default());
        let reading = |pulse: &Pulse| {
            let pulse = pulse.clone();
            Box::new(move || pulse.count()) as Reading
        };
        let parts = [("one".to_owned(), reading(&one)), ("other".to_owned(), reading(&other))];
        let mut now = Instant::now();
        let mut watch = Watch::new(parts.into_iter(), now);
        assert!(looks(&mut watch, &mut now, 100, &[&one, &other]));
        assert!(looks(&mut watch, &mut now, 9, &[&one]));
        assert!(!looks(&mut watch, &mut now, 1, &[&one]));
        assert!(looks(&mut watch, &mut now, 1, &[&one, &other]));
        // A machine that slept: nobody could beat.
        now += Duration::from_secs(3600);
        assert!(watch.look(now));
        assert!(looks(&mut watch, &mut now, 9, &[]));
        assert!(!looks(&mut watch, &mut now, 1, &[]));
    }
}
