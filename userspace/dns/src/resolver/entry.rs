//! One name: what is known of it, and the task that keeps it so.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use egressd_tables::IpFamilies;
use tokio::{
    sync::{Notify, futures::Notified, watch},
    time::{Instant, sleep_until},
};

use crate::{
    resolver::{
        ANYBODY, Inner, Known, NameEvent, Origin, ResolveError, ResolverSettings,
        attempts::{Class, MAX_REQUEST_ATTEMPTS},
        backend::{self, Failure, Family, Records},
        families_shown, schedule,
    },
    shares::Asker,
};

/// One name of one set of families.
pub(crate) struct Entry {
    name: Arc<str>,
    families: IpFamilies,
    /// Also, or only, brought by the configuration.
    of_cluster: AtomicBool,
    /// It was pushed out by another name.
    closed: AtomicBool,
    /// Ends an attempt under way when it is.
    closing: Notify,
    /// It counts among the names that got no answer.
    is_outage: AtomicBool,
    /// It was said that it has too many addresses.
    was_bounded: AtomicBool,
    known: watch::Sender<Known>,
    times: Mutex<Times>,
    /// An attempt is over.
    done: Notify,
    /// Somebody needs an answer.
    wanted: Notify,
}

/// The times that decide what an answer is worth.
#[derive(Clone, Copy, Debug)]
struct Times {
    used: Instant,
    /// The last one whose request asked for it.
    asker: Asker,
    /// The answer, of whatever kind, is good until then.
    fresh_until: Instant,
    /// Addresses may serve until then while nobody answers.
    stale_until: Instant,
    /// Failures in a row.
    failures: u32,
    /// After a failure: no attempt before, whoever wants one.
    hold_until: Instant,
    /// When the next attempt is due of itself.
    due: Instant,
    /// When the attempt under way began.
    attempt: Option<Instant>,
    /// When the last addresses came.
    answered: Option<Instant>,
    /// How many answers in a row were fetched for nobody.
    unused: u32,
}

/// What an attempt has come to.
struct Finished {
    /// The error, if it is the first one in a row.
    first_failure: Option<ResolveError>,
    /// What is known is something else than before.
    is_new: bool,
}

/// What an entry is worth to a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Good addresses.
    Fresh(Arc<[IpAddr]>),
    /// Addresses past their time, and nobody to ask.
    Stale(Arc<[IpAddr]>),
    /// There are none.
    Failed(ResolveError),
    /// It is worth waiting: for an attempt, or until the time given.
    Wait(Option<Instant>),
}

impl Entry {
    pub(crate) fn new(name: Arc<str>, families: IpFamilies, origin: Origin) -> Self {
        let now = Instant::now();
        Self {
            name,
            families,
            of_cluster: AtomicBool::new(origin == Origin::Cluster),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            is_outage: AtomicBool::new(false),
            was_bounded: AtomicBool::new(false),
            known: watch::Sender::default(),
            times: Mutex::new(Times {
                used: now,
                asker: ANYBODY,
                fresh_until: now,
                stale_until: now,
                failures: 0,
                hold_until: now,
                due: now,
                attempt: Some(now),
                answered: None,
                unused: 0,
            }),
            done: Notify::new(),
            wanted: Notify::new(),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn families(&self) -> IpFamilies {
        self.families
    }

    /// A name that the configuration has brought once stays among those. Says whether it was a
    /// request's before.
    pub(crate) fn brought_by(&self, origin: Origin) -> bool {
        origin == Origin::Cluster && !self.of_cluster.swap(true, Ordering::Relaxed)
    }

    /// What speaks for keeping the name when another one needs its place: whether it is good for
    /// anything, and when it was last used.
    pub(crate) fn worth(&self) -> (u8, Instant) {
        let good = match &*self.known.borrow() {
            Known::Failed(_) => 0,
            Known::Addresses(_) => 1,
            // Somebody waits for it.
            Known::Pending => 2,
        };
        (good, self.last_used())
    }

    pub(crate) fn origin(&self) -> Origin {
        if self.of_cluster.load(Ordering::Relaxed) { Origin::Cluster } else { Origin::Request }
    }

    pub(crate) fn touch(&self) {
        self.times().used = Instant::now();
    }

    /// It is asked for by somebody's request.
    pub(crate) fn asked_by(&self, asker: Asker) {
        self.times().asker = asker;
    }

    /// What the next attempt counts against.
    fn class(&self) -> Class {
        match (self.origin(), &*self.known.borrow()) {
            (Origin::Cluster, _) => Class::Cluster,
            (Origin::Request, Known::Addresses(_)) => Class::Refresh(self.times().asker),
            (Origin::Request, Known::Pending | Known::Failed(_)) => {
                Class::Request(self.times().asker)
            }
        }
    }

    pub(crate) fn last_used(&self) -> Instant {
        self.times().used
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.known.receiver_count() > 0
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    pub(crate) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Completes when the attempt under way, or the next one, is over.
    pub(crate) fn done(&self) -> Notified<'_> {
        self.done.notified()
    }

    /// Somebody needs an answer: the task looks whether to fetch one.
    pub(crate) fn nudge(&self) {
        self.wanted.notify_one();
    }

    /// There are other servers now: a failure is not held against the name any longer.
    pub(crate) fn try_again(&self) {
        let mut times = self.times();
        times.hold_until = Instant::now();
        if times.failures > 0 {
            times.due = Instant::now();
        }
        drop(times);
        self.nudge();
    }

    /// Ends the task.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
        self.wanted.notify_one();
    }

    /// What the entry is worth now.
    pub(crate) fn view(&self, now: Instant) -> View {
        let times = *self.times();
        let is_fresh = now < times.fresh_until;
        match &*self.known.borrow() {
            Known::Pending => View::Wait(None),
            Known::Addresses(addresses) if is_fresh => View::Fresh(Arc::clone(addresses)),
            Known::Addresses(addresses) if now < times.stale_until => {
                let patient_until = times.attempt.unwrap_or(now) + schedule::STALE_WAIT;
                if times.failures > 0 || patient_until <= now {
                    View::Stale(Arc::clone(addresses))
                } else {
                    View::Wait(Some(patient_until))
                }
            }
            Known::Failed(error) if is_fresh || now < times.hold_until => {
                View::Failed(error.clone())
            }
            Known::Addresses(_) | Known::Failed(_) => View::Wait(None),
        }
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        self.times().attempt = Some(Instant::now());
    }

    /// Takes in the outcome of an attempt.
    fn finish(&self, outcome: Result<Records, Failure>, settings: &ResolverSettings) -> Finished {
        let mut first_failure = None;
        let now = Instant::now();
        let chance = rand::random();
        let mut times = self.times();
        times.attempt = None;
        let name = || Arc::clone(&self.name);
        let (known, due) = match outcome {
            Ok(mut records) => {
                self.bound(&mut records);
                let lifetime = times.answer(records.ttl, self.is_watched(), now, settings);
                let known = Known::Addresses(records.addresses.into());
                (Some(known), now + schedule::refresh(lifetime, times.unused, chance))
            }
            Err(Failure::NoSuchName { ttl }) => {
                let due = times.believe(schedule::negative_lifetime(ttl, settings), now);
                (Some(Known::Failed(ResolveError::NoSuchName { name: name() })), due)
            }
            Err(Failure::NoAddresses { ttl }) => {
                let due = times.believe(schedule::negative_lifetime(ttl, settings), now);
                let families = families_shown(self.families);
                let error = ResolveError::NoAddresses { name: name(), families };
                (Some(Known::Failed(error)), due)
            }
            Err(failure @ (Failure::Unavailable { .. } | Failure::Busy)) => {
                times.failures = times.failures.saturating_add(1);
                times.hold_until = now + schedule::FIRST_RETRY;
                let has_addresses = matches!(self.known(), Known::Addresses(_));
                let error = if let Failure::Unavailable { reason } = failure {
                    ResolveError::Unavailable { name: name(), reason: reason.into() }
                } else {
                    ResolveError::Busy { name: name(), limit: MAX_REQUEST_ATTEMPTS }
                };
                let keeps = has_addresses && now < times.stale_until;
                first_failure = (times.failures == 1).then(|| error.clone());
                let due = now + schedule::retry(times.failures, chance, settings);
                ((!keeps).then_some(Known::Failed(error)), due)
            }
        };
        times.due = due;
        drop(times);
        let is_new = known.is_some_and(|known| self.learn(known));
        self.done.notify_waiters();
        Finished { first_failure, is_new }
    }

    /// Takes in the addresses of one family while the other one's are still being waited for: their
    /// last ones stay meanwhile. Says whether this is news.
    fn half(&self, family: Family, mut records: Records, settings: &ResolverSettings) -> bool {
        self.bound(&mut records);
        let now = Instant::now();
        self.times().answer(records.ttl, self.is_watched(), now, settings);
        let is_other = |ip: &&IpAddr| ip.is_ipv4() != (family == Family::V4);
        let known = self.known();
        let before: Vec<IpAddr> = match &known {
            Known::Addresses(addresses) => addresses.iter().filter(is_other).copied().collect(),
            Known::Pending | Known::Failed(_) => Vec::new(),
        };
        let addresses = match family {
            Family::V4 => [records.addresses, before].concat(),
            Family::V6 => [before, records.addresses].concat(),
        };
        let is_new = self.learn(Known::Addresses(addresses.into()));
        self.done.notify_waiters();
        is_new
    }

    /// Drops addresses beyond what may be: whoever answers for a name chooses how many there are, and
    /// every connection looks at all of them.
    fn bound(&self, records: &mut Records) {
        let (is_of_cluster, count) = (self.origin() == Origin::Cluster, records.addresses.len());
        let most = if is_of_cluster { MAX_CLUSTER_ADDRESSES } else { MAX_REQUEST_ADDRESSES };
        let (mut v4, mut v6) = (0, 0);
        records.addresses.retain(|ip| {
            let of_family = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
            *of_family += 1;
            *of_family <= most
        });
        let left_out = count - records.addresses.len();
        if left_out > 0 {
            tracing::debug!(name = %self.name, left_out, most, "addresses of an answer are left out");
            if is_of_cluster && !self.was_bounded.swap(true, Ordering::Relaxed) {
                tracing::warn!(most, "a name of an endpoint has more addresses than are used");
            }
        }
    }

    /// Says whether this is news.
    fn learn(&self, known: Known) -> bool {
        self.known.send_if_modified(|before| {
            let is_new = *before != known;
            // The same answer stays the same allocation: those who use it compare that.
            if is_new {
                *before = known;
            }
            is_new
        })
    }

    /// Whether the last attempt got no answer.
    fn is_failing(&self) -> bool {
        self.times().failures > 0
    }

    /// Whether somebody who nudges is right: the answer has ended, and an attempt may be made. While
    /// addresses go on serving because nobody answers, attempts keep to their own times.
    fn needs_answer(&self) -> bool {
        let times = *self.times();
        let now = Instant::now();
        let serves = now < times.stale_until && matches!(self.known(), Known::Addresses(_));
        let is_due = now >= times.due || !serves || times.failures == 0;
        now >= times.fresh_until && now >= times.hold_until && is_due
    }

    fn is_in_use(&self, settings: &ResolverSettings) -> bool {
        self.is_watched() || self.last_used().elapsed() < settings.idle
    }

    /// When an entry that nobody uses is forgotten. Those of clusters stay while their addresses may
    /// be needed, should the upstreams fail.
    fn forget_at(&self, settings: &ResolverSettings) -> Instant {
        let times = *self.times();
        let idle = times.used + settings.idle;
        match (self.origin(), &*self.known.borrow()) {
            (Origin::Cluster, Known::Addresses(_)) => idle.max(times.stale_until),
            _ => idle,
        }
    }
}

impl Times {
    /// There are addresses. Says for how long they are good.
    fn answer(
        &mut self,
        ttl: Duration,
        is_watched: bool,
        now: Instant,
        settings: &ResolverSettings,
    ) -> Duration {
        let lifetime = schedule::lifetime(ttl, settings);
        let was_used = is_watched || self.answered.is_none_or(|last| self.used > last);
        self.unused = if was_used { 0 } else { self.unused.saturating_add(1) };
        self.answered = Some(now);
        self.failures = 0;
        self.fresh_until = now + lifetime;
        self.stale_until = self.fresh_until + settings.max_stale;
        lifetime
    }

    /// There are no addresses, and that is certain for a while.
    fn believe(&mut self, lifetime: Duration, now: Instant) -> Instant {
        self.failures = 0;
        self.fresh_until = now + lifetime;
        self.stale_until = now;
        now + lifetime
    }
}

/// Keeps a name: fetches, waits until the next answer is due or wanted, and fetches again; ends when
/// the name is forgotten, or the resolver is.
pub(crate) async fn keep(entry: Arc<Entry>, resolver: Weak<Inner>) {
    while attempt(&entry, &resolver).await.is_some() && wait(&entry, &resolver).await {}
    if entry.is_outage.swap(false, Ordering::Relaxed)
        && let Some(inner) = resolver.upgrade()
    {
        inner.outage_over();
    }
}

/// Fetches an answer; nothing if the resolver is gone.
async fn attempt(entry: &Entry, resolver: &Weak<Inner>) -> Option<()> {
    entry.begin();
    let outcome = {
        let inner = resolver.upgrade()?;
        inner.metrics.resolutions.increment();
        match inner.hosts.find(&entry.name, entry.families) {
            Some(records) => Ok(records),
            None => {
                let (backend, attempts) = (Arc::clone(&inner.backend.load().0), inner.attempts());
                // The resolver may go while its servers think.
                drop(inner);
                let half = |family, records| {
                    if let Some(inner) = resolver.upgrade()
                        && entry.half(family, records, &inner.settings)
                    {
                        inner.tell(entry, NameEvent::Changed);
                    }
                };
                let class = entry.class();
                let asking = backend::ask(&*backend, &entry.name, entry.families, half);
                tokio::select! {
                    outcome = attempts.run(class, asking) => outcome,
                    () = entry.closing.notified() => Err(Failure::Busy),
                }
            }
        }
    };
    let inner = resolver.upgrade()?;
    match &outcome {
        Err(Failure::Unavailable { .. }) => inner.metrics.resolution_failures.increment(),
        Err(Failure::Busy) => inner.metrics.resolutions_refused.increment(),
        Ok(_) | Err(Failure::NoSuchName { .. } | Failure::NoAddresses { .. }) => {}
    }
    let Finished { first_failure, is_new } = entry.finish(outcome, &inner.settings);
    if is_new {
        inner.tell(entry, NameEvent::Changed);
    }
    if let Some(error) = first_failure {
        // What requests ask for is no business of the log: anybody may ask for anything.
        if entry.origin() == Origin::Request {
            tracing::debug!(%error, "a name of a request cannot be resolved");
        } else if !entry.is_outage.swap(true, Ordering::Relaxed) {
            inner.outage(&error);
        }
    } else if !entry.is_failing() && entry.is_outage.swap(false, Ordering::Relaxed) {
        inner.outage_over();
    }
    Some(())
}

/// Waits until an attempt is to be made; says no when there will be none.
async fn wait(entry: &Arc<Entry>, resolver: &Weak<Inner>) -> bool {
    let mut until = entry.times().due;
    loop {
        let is_due = tokio::select! {
            () = sleep_until(until) => true,
            () = entry.wanted.notified() => false,
        };
        if entry.closed.load(Ordering::Relaxed) {
            return false;
        }
        let Some(inner) = resolver.upgrade() else { return false };
        let settings = &inner.settings;
        if is_due && entry.is_in_use(settings) {
            return true;
        }
        if !is_due {
            if entry.needs_answer() {
                return true;
            }
            continue;
        }
        let unused_since = entry.last_used();
        inner.tell(entry, NameEvent::Idle);
        let forget_at = entry.forget_at(settings);
        if Instant::now() >= forget_at && inner.forget(entry, unused_since) {
            return false;
        }
        until = forget_at.max(Instant::now() + schedule::FIRST_RETRY);
    }
}

/// Addresses of each family that are used of an answer for an endpoint of the configuration: as many as
/// the largest services have.
const MAX_CLUSTER_ADDRESSES: usize = 1024;
/// The same for a name of a request: 2 KiB, for 1,024 such names.
const MAX_REQUEST_ADDRESSES: usize = 64;
