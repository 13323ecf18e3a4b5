//! Names resolved for clusters: each once for the whole node, however many clusters use it
//! (semantics.md §1.2).
//!
//! A name is resolved when it is first asked for, and kept warm as long as it is used: the next
//! answer is fetched before the last one ends. While no upstream answers, the last answer goes on
//! serving for a bounded time. A reload of the configuration keeps what is known.

mod attempts;
mod backend;
mod entry;
mod hickory;
mod hosts;
mod schedule;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{
        Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use egressd_tables::IpFamilies;
use rustls::ClientConfig;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout_at},
};

use self::{
    attempts::Attempts,
    backend::Backend,
    entry::{Entry, View},
    hickory::Hickory,
    hosts::Hosts,
};
use crate::{metrics::Metrics, shares::Asker, socket::SocketMaker, upstream::Upstreams};

/// How names are resolved and how long answers last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverSettings {
    /// An answer lasts at least this long, whatever its TTL. Default 1 s.
    pub min_ttl: Duration,
    /// An answer lasts at most this long, whatever its TTL. Default 1 h.
    pub max_ttl: Duration,
    /// That a name does not exist is believed for at most this long, and for at least
    /// [`Self::min_ttl`]. Default 60 s.
    pub max_negative_ttl: Duration,
    /// After failures, attempts are 1, 2, 4 … s apart, and never further than this:
    /// `meshConfig.dnsRefreshRate`. Default 60 s.
    pub failure_refresh: Duration,
    /// How long an answer goes on serving past its time while no upstream answers. Default 24 h.
    pub max_stale: Duration,
    /// A name that nobody has used for this long is not kept warm. Default 5 min.
    pub idle: Duration,
    /// Names of clusters, of each set of families. One more takes the place of the one that was not
    /// used for the longest time. Default 16,384, about 1 KiB each.
    pub max_names: usize,
    /// Names that requests bring (DYNAMIC_DNS), counted by themselves. Default 1,024, as Envoy.
    pub max_dynamic_names: usize,
    /// Limit for one question to one server. Default 5 s.
    pub timeout: Duration,
    /// How often all servers are asked. Default 2.
    pub attempts: usize,
    /// The file that is asked before any server; empty for none. Default `/etc/hosts`.
    pub hosts: PathBuf,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_hours(1),
            max_negative_ttl: Duration::from_mins(1),
            failure_refresh: Duration::from_mins(1),
            max_stale: Duration::from_hours(24),
            idle: Duration::from_mins(5),
            max_names: 16_384,
            max_dynamic_names: 1024,
            timeout: Duration::from_secs(5),
            attempts: 2,
            hosts: "/etc/hosts".into(),
        }
    }
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// It does not exist, says the DNS.
    #[error("resolving {name}: there is no such name")]
    NoSuchName {
        /// The name.
        name: Arc<str>,
    },
    /// It exists, and has no addresses of the families asked for.
    #[error("resolving {name}: it has no {families} addresses")]
    NoAddresses {
        /// The name.
        name: Arc<str>,
        /// `IPv4`, `IPv6`, or both.
        families: &'static str,
    },
    /// No upstream answered.
    #[error("resolving {name}: no DNS server answers: {reason}")]
    Unavailable {
        /// The name.
        name: Arc<str>,
        /// What the last one said.
        reason: Arc<str>,
    },
    /// No upstream has answered yet, and the caller cannot wait any longer.
    #[error("resolving {name}: no answer within {after:?}")]
    Timeout {
        /// The name.
        name: Arc<str>,
        /// The limit.
        after: Duration,
    },
    /// As many names as may be are in use.
    #[error("resolving {name}: {limit} names are in use already")]
    TooMany {
        /// The name.
        name: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// As many names of requests are being resolved as may be at a time.
    #[error("resolving {name}: {limit} names of requests are being resolved already")]
    Busy {
        /// The name.
        name: Arc<str>,
        /// The limit.
        limit: usize,
    },
}

impl ResolveError {
    /// Whether the name itself may be good: there was no room to find out.
    pub fn is_overload(&self) -> bool {
        match self {
            Self::TooMany { .. } | Self::Busy { .. } => true,
            Self::NoSuchName { .. }
            | Self::NoAddresses { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. } => false,
        }
    }
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Nothing yet.
    #[default]
    Pending,
    /// Its addresses, in the order of the answer, IPv4 first; maybe past their time.
    Addresses(Arc<[IpAddr]>),
    /// It has none.
    Failed(ResolveError),
}

/// Who brings a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration: an endpoint, or a host under DNS resolution.
    Cluster,
    /// A request: Host or SNI under DYNAMIC_DNS. Anybody may bring any number, so they are bounded
    /// by themselves.
    Request,
}

/// Resolves names. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

pub(crate) struct Inner {
    settings: ResolverSettings,
    metrics: Arc<Metrics>,
    runtime: Handle,
    sockets: Arc<dyn SocketMaker>,
    tls: Option<Arc<ClientConfig>>,
    hosts: Hosts,
    backend: ArcSwap<Slot>,
    entries: RwLock<HashMap<Key, Arc<Entry>>>,
    /// How many entries requests have brought.
    of_requests: AtomicUsize,
    attempts: Attempts,
    /// Is told what becomes of names.
    told: OnceLock<Told>,
}

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameEvent {
    /// Its addresses are others, or it has none any more.
    Changed,
    /// Nobody uses it: its next answer is not fetched any more.
    Idle,
}

/// Hears of names; must not wait.
type Told = Box<dyn Fn(&str, NameEvent) + Send + Sync>;

/// Makes a backend one word, as swapping it needs.
pub(crate) struct Slot(Arc<dyn Backend>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: Arc<str>,
    families: IpFamilies,
}

impl Resolver {
    /// A resolver that asks these upstreams. `tls` replaces the trust in the system's certificate
    /// authorities.
    pub fn new(
        settings: ResolverSettings,
        upstreams: &Upstreams,
        sockets: Arc<dyn SocketMaker>,
        tls: Option<Arc<ClientConfig>>,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Self {
        let backend = Hickory::new(upstreams, &settings, &sockets, tls.as_deref());
        Self(Arc::new(Inner {
            hosts: Hosts::new(settings.hosts.clone()),
            settings,
            metrics,
            runtime,
            sockets,
            tls,
            backend: ArcSwap::from_pointee(Slot(Arc::new(backend))),
            entries: RwLock::default(),
            of_requests: AtomicUsize::new(0),
            attempts: Attempts::new(),
            told: OnceLock::new(),
        }))
    }

    /// Asks these upstreams from now on. What is known stays known; what has failed is tried again.
    pub fn set_upstreams(&self, upstreams: &Upstreams) {
        let inner = &self.0;
        let tls = inner.tls.as_deref();
        let backend = Hickory::new(upstreams, &inner.settings, &inner.sockets, tls);
        self.set_backend(Arc::new(backend));
    }

    fn set_backend(&self, backend: Arc<dyn Backend>) {
        self.0.backend.store(Arc::new(Slot(backend)));
        for entry in self.0.read().values() {
            entry.try_again();
        }
    }

    /// The addresses of a name, now if they are known, else as soon as they are. An address is its
    /// own.
    ///
    /// # Errors
    /// There are none, for the reason given.
    pub async fn lookup(
        &self,
        name: &str,
        families: IpFamilies,
        origin: Origin,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        if let Some(address) = literal(name) {
            return Ok(Arc::from([address]));
        }
        let entry = self.0.entry(name, families, origin, ANYBODY)?;
        self.answer(&entry).await
    }

    /// As [`Resolver::lookup`], for a name that a request of `asker` brings: what is under way for such
    /// names is shared out among those who ask.
    ///
    /// # Errors
    /// There are no addresses, for the reason given.
    pub async fn lookup_for(
        &self,
        asker: Asker,
        name: &str,
        families: IpFamilies,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        if let Some(address) = literal(name) {
            return Ok(Arc::from([address]));
        }
        let entry = self.0.entry(name, families, Origin::Request, asker)?;
        self.answer(&entry).await
    }

    async fn answer(&self, entry: &Entry) -> Result<Arc<[IpAddr]>, ResolveError> {
        let limit = self.0.patience();
        let deadline = Instant::now() + limit;
        loop {
            // Listening begins before looking, so that nothing is missed in between.
            let done = entry.done();
            tokio::pin!(done);
            done.as_mut().enable();
            let until = match entry.view(Instant::now()) {
                View::Fresh(addresses) => return Ok(addresses),
                View::Stale(addresses) => {
                    entry.nudge();
                    self.0.metrics.stale_answers.increment();
                    return Ok(addresses);
                }
                View::Failed(error) => return Err(error),
                View::Wait(until) => until.unwrap_or(deadline).min(deadline),
            };
            entry.nudge();
            if timeout_at(until, done).await.is_err() && until == deadline {
                let name = Arc::clone(entry.name());
                return Err(ResolveError::Timeout { name, after: limit });
            }
        }
    }

    /// Sees to it that a name of the configuration is being resolved, without waiting for it. Counts
    /// as use.
    pub fn want(&self, name: &str, families: IpFamilies) {
        if literal(name).is_none()
            && let Err(error) = self.0.entry(name, families, Origin::Cluster, ANYBODY)
        {
            tracing::debug!(%error, "a name is not asked for");
        }
    }

    /// The addresses of a name if they are known: never waits, and never asks for a name that nobody
    /// has asked for. Counts as use.
    pub fn cached(&self, name: &str, families: IpFamilies) -> Option<Arc<[IpAddr]>> {
        if name.len() > MAX_NAME {
            return None;
        }
        let entry = self.0.existing(name, families, Origin::Request)?;
        match entry.view(Instant::now()) {
            View::Fresh(addresses) => Some(addresses),
            View::Stale(addresses) => {
                entry.nudge();
                self.0.metrics.stale_answers.increment();
                Some(addresses)
            }
            View::Failed(_) | View::Wait(_) => None,
        }
    }

    /// As [`Resolver::cached`], for somebody who only wants to know: does not count as use.
    pub fn peek(&self, name: &str, families: IpFamilies) -> Option<Arc<[IpAddr]>> {
        let entry = self.0.read().get(&key(name, families)).cloned()?;
        match entry.view(Instant::now()) {
            View::Fresh(addresses) | View::Stale(addresses) => Some(addresses),
            View::Failed(_) | View::Wait(_) => None,
        }
    }

    /// Tells `told` what becomes of names from now on. It is called where answers are taken in, and
    /// must not wait. The first one stays.
    pub fn follow(&self, told: impl Fn(&str, NameEvent) + Send + Sync + 'static) {
        let _second = self.0.told.set(Box::new(told)).is_err();
    }

    /// What is known of a name, and every change of it. The name is kept warm as long as somebody
    /// watches.
    ///
    /// # Errors
    /// As many names as may be are in use.
    pub fn watch(
        &self,
        name: &str,
        families: IpFamilies,
        origin: Origin,
    ) -> Result<watch::Receiver<Known>, ResolveError> {
        if let Some(address) = literal(name) {
            return Ok(watch::channel(Known::Addresses(Arc::from([address]))).1);
        }
        let entry = self.0.entry(name, families, origin, ANYBODY)?;
        let receiver = entry.subscribe();
        entry.nudge();
        Ok(receiver)
    }

    /// Every name that is known of, with what is known, in order: for `egressd config endpoints`.
    pub fn names(&self) -> Vec<(Arc<str>, IpFamilies, Known)> {
        let mut names: Vec<_> = self
            .0
            .read()
            .iter()
            .map(|(key, entry)| (Arc::clone(&key.name), key.families, entry.known()))
            .collect();
        names.sort_by(|a, b| (&a.0, families_shown(a.1)).cmp(&(&b.0, families_shown(b.1))));
        names
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.read().len();
        f.debug_struct("Resolver")
            .field("settings", &self.0.settings)
            .field("names", &names)
            .finish()
    }
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Key, Arc<Entry>>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Key, Arc<Entry>>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name got no answer, for the first time in a row. The first of all such names is worth a
    /// line; which others follow is in the log at its finest.
    fn outage(&self, error: &ResolveError) {
        tracing::debug!(%error, "a name cannot be resolved");
        if self.metrics.failing_names.increment() == 0 {
            let longest = self.settings.max_stale;
            tracing::warn!(
                %error, ?longest, "names cannot be resolved; their last addresses go on serving"
            );
        }
    }

    /// A name that got no answer has got one, or is forgotten.
    fn outage_over(&self) {
        if self.metrics.failing_names.decrement() == 1 {
            tracing::info!("every name has an answer again");
        }
    }

    /// Tells whoever follows what becomes of a name.
    fn tell(&self, entry: &Entry, event: NameEvent) {
        if let Some(told) = self.told.get() {
            told(entry.name(), event);
        }
    }

    /// How long a look-up may take: all servers, one after the other, and a moment.
    fn patience(&self) -> Duration {
        let attempts = u32::try_from(self.settings.attempts.max(1)).unwrap_or(1);
        self.settings.timeout * attempts + Duration::from_secs(1)
    }

    /// The limits on resolving.
    fn attempts(&self) -> Attempts {
        self.attempts.clone()
    }

    /// The entry of a name, in use from now on; made if there is none.
    fn entry(
        self: &Arc<Self>,
        name: &str,
        families: IpFamilies,
        origin: Origin,
        asker: Asker,
    ) -> Result<Arc<Entry>, ResolveError> {
        // A request may bring kilobytes; the DNS has no such name (RFC 1035 §2.3.4).
        if name.len() > MAX_NAME {
            let name = name.chars().take(SHOWN_OF_NAME).chain("…".chars()).collect::<String>();
            return Err(ResolveError::NoSuchName { name: name.into() });
        }
        if let Some(entry) = self.existing(name, families, origin) {
            entry.asked_by(asker);
            return Ok(entry);
        }
        let key = key(name, families);
        let mut entries = self.write();
        if let Some(entry) = entries.get(&key) {
            self.taken_up(entry, origin);
            entry.asked_by(asker);
            return Ok(Arc::clone(entry));
        }
        self.make_room(&mut entries, &key.name, origin)?;
        let entry = Arc::new(Entry::new(Arc::clone(&key.name), families, origin));
        entry.asked_by(asker);
        entries.insert(key, Arc::clone(&entry));
        if origin == Origin::Request {
            self.of_requests.fetch_add(1, Ordering::Relaxed);
        }
        drop(entries);
        self.runtime.spawn(entry::keep(Arc::clone(&entry), Arc::downgrade(self)));
        Ok(entry)
    }

    /// The entry of a name that is there already, in use from now on.
    fn existing(&self, name: &str, families: IpFamilies, origin: Origin) -> Option<Arc<Entry>> {
        let key = key(name, families);
        let entries = self.read();
        let entry = entries.get(&key)?;
        // Under the lock: an entry in use is not forgotten.
        self.taken_up(entry, origin);
        Some(Arc::clone(entry))
    }

    fn taken_up(&self, entry: &Entry, origin: Origin) {
        if entry.brought_by(origin) {
            self.of_requests.fetch_sub(1, Ordering::Relaxed);
        }
        entry.touch();
    }

    /// Forgets names that are worth the least, if there are as many as may be: those that are good
    /// for nothing before others, and of those the ones not used for the longest time. A part of them
    /// at once, as finding them takes a look at all.
    fn make_room(
        &self,
        entries: &mut HashMap<Key, Arc<Entry>>,
        name: &Arc<str>,
        origin: Origin,
    ) -> Result<(), ResolveError> {
        let of_requests = self.of_requests.load(Ordering::Relaxed);
        let (limit, count) = match origin {
            Origin::Cluster => (self.settings.max_names, entries.len() - of_requests),
            Origin::Request => (self.settings.max_dynamic_names, of_requests),
        };
        if count < limit {
            return Ok(());
        }
        let of_kind = entries.iter().filter(|(_, entry)| entry.origin() == origin);
        let idle = of_kind.filter(|(_, entry)| !entry.is_watched());
        let mut idle: Vec<_> = idle.map(|(key, entry)| (entry.worth(), key.clone())).collect();
        if idle.is_empty() {
            return Err(ResolveError::TooMany { name: Arc::clone(name), limit });
        }
        let part = (limit / FORGOTTEN_AT_ONCE).clamp(1, idle.len());
        idle.select_nth_unstable_by_key(part - 1, |(worth, _)| *worth);
        for (_, key) in idle.drain(..part) {
            if let Some(entry) = entries.remove(&key) {
                self.removed(&entry);
                entry.close();
            }
        }
        Ok(())
    }

    /// An entry is among the others no longer.
    fn removed(&self, entry: &Entry) {
        if entry.origin() == Origin::Request {
            self.of_requests.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets an entry unless somebody has taken it up again; says whether it did.
    fn forget(&self, entry: &Arc<Entry>, unused_since: Instant) -> bool {
        let mut entries = self.write();
        if entry.is_watched() || entry.last_used() > unused_since {
            return false;
        }
        let key = Key { name: Arc::clone(entry.name()), families: entry.families() };
        if entries.get(&key).is_some_and(|known| Arc::ptr_eq(known, entry)) {
            entries.remove(&key);
            self.removed(entry);
        }
        true
    }
}

/// Whose a name is that nobody in particular asks for.
const ANYBODY: Asker = Asker::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
/// Bytes of the longest name, with a dot at its end.
const MAX_NAME: usize = 254;
/// Of a longer one, so many letters are shown.
const SHOWN_OF_NAME: usize = 32;
/// Of the names that may be, this part is forgotten when one more comes: one in sixteen.
const FORGOTTEN_AT_ONCE: usize = 16;

fn key(name: &str, families: IpFamilies) -> Key {
    let name = name.strip_suffix('.').unwrap_or(name);
    Key { name: name.to_ascii_lowercase().into(), families }
}

/// An address, with or without the brackets of IPv6.
fn literal(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    bare.unwrap_or(name).parse().ok()
}

fn families_shown(families: IpFamilies) -> &'static str {
    match families {
        IpFamilies::V4 => "IPv4",
        IpFamilies::V6 => "IPv6",
        IpFamilies::Dual => "IPv4 or IPv6",
    }
}

#[cfg(test)]
mod tests;
