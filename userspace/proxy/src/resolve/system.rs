//! The system's resolver (getaddrinfo) with a short memory.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use egressd_tables::IpFamilies;
use tokio::{net::lookup_host, sync::OnceCell, time::Instant};

use super::{Addresses, ResolveError, Resolver, Resolving, is_of};

/// Asks the system, on a thread of the runtime's blocking pool, and remembers an answer for 5 s and a
/// failure for 1 s: the system does not tell how long they may be kept. One lookup of a name is under
/// way at a time, whoever asks.
///
/// Its sockets are the C library's and carry no mark.
#[derive(Debug, Default)]
pub struct SystemResolver {
    known: Mutex<HashMap<(Arc<str>, IpFamilies), Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    since: Instant,
    answer: Arc<OnceCell<Result<Addresses, ResolveError>>>,
}

impl SystemResolver {
    /// A resolver that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lookup of a name: one that is fresh enough, else a new one that starts from the last
    /// answer.
    fn lookup(&self, name: &str, families: IpFamilies) -> (Lookup, Option<Addresses>) {
        let key = (Arc::from(name), families);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.len() >= NAMES_MOST {
            known.retain(|_, known| known.since + KEEP > now);
        }
        let last = known.get(&key);
        if let Some(known) = last
            && known.is_fresh(now)
        {
            return (Arc::clone(&known.answer), None);
        }
        let before = last.and_then(|known| known.answer.get()?.as_ref().ok().cloned());
        let answer = Lookup::default();
        known.insert(key, Known { since: now, answer: Arc::clone(&answer) });
        (answer, before)
    }
}

type Lookup = Arc<OnceCell<Result<Addresses, ResolveError>>>;

impl Resolver for SystemResolver {
    fn cached(&self, name: &str, families: IpFamilies) -> Option<Addresses> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // A tuple of borrowed parts is no key, so the name is copied; it is short.
        let known = known.get(&(Arc::from(name), families))?;
        let answer = known.answer.get()?.as_ref().ok()?;
        known.is_fresh(Instant::now()).then(|| Arc::clone(answer))
    }

    fn resolve<'a>(&'a self, name: &'a str, families: IpFamilies) -> Resolving<'a> {
        Box::pin(async move {
            let (lookup, before) = self.lookup(name, families);
            let ask = async || match (ask(name, families).await, before) {
                // The order of the system's answers means nothing, and often changes.
                (Ok(new), Some(old)) if same_addresses(&new, &old) => Ok(old),
                (answer, _) => answer,
            };
            lookup.get_or_init(ask).await.clone()
        })
    }
}

impl Known {
    fn is_fresh(&self, now: Instant) -> bool {
        let keep = match self.answer.get() {
            Some(Ok(_)) => KEEP,
            Some(Err(_)) => KEEP_FAILURE,
            // Still being asked.
            None => return true,
        };
        self.since + keep > now
    }
}

async fn ask(name: &str, families: IpFamilies) -> Result<Addresses, ResolveError> {
    let failed = |reason: &str| ResolveError { name: name.into(), reason: reason.into() };
    let answer = lookup_host((name, 0)).await.map_err(|error| failed(&error.to_string()))?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in answer.map(|addr| addr.ip()).filter(|ip| is_of(families, ip)) {
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    if addresses.is_empty() {
        return Err(failed("it has no address of a family that is used here"));
    }
    Ok(addresses.into())
}

fn same_addresses(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.len() == other.len() && one.iter().all(|ip| other.contains(ip))
}

/// How long an answer is used. Short: its owner's wish is unknown.
const KEEP: Duration = Duration::from_secs(5);
/// How long a failure is.
const KEEP_FAILURE: Duration = Duration::from_secs(1);
/// Names kept before old ones are forgotten.
const NAMES_MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_known_name_is_asked_once() {
        let resolver = SystemResolver::new();
        assert_eq!(resolver.cached("localhost", IpFamilies::V4), None);
        let first = resolver.resolve("localhost", IpFamilies::V4).await.unwrap();
        assert_eq!(&*first, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let again = resolver.cached("localhost", IpFamilies::V4).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }

    #[tokio::test]
    async fn a_name_that_is_none() {
        let resolver = SystemResolver::new();
        let error = resolver.resolve("no such name", IpFamilies::V4).await.unwrap_err();
        assert_eq!(&*error.name, "no such name");
        assert_eq!(resolver.cached("no such name", IpFamilies::V4), None);
    }
}
