//! One question to whoever knows: the DNS, or a test.

use std::{future::Future, net::IpAddr, pin::Pin, time::Duration};

use egressd_tables::IpFamilies;
use tokio::time::timeout;

/// Finds the addresses of one family.
pub(crate) trait Backend: Send + Sync {
    /// Asks. Takes as long as it takes, and no longer than its own limits.
    fn ask(&self, name: &str, family: Family) -> Asking;
}

pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<Records, Failure>> + Send>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Addresses, at least one, and for how long they are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ttl: Duration,
}

/// Why there are no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such name.
    NoSuchName {
        /// For how long that is good, if the answer said.
        ttl: Option<Duration>,
    },
    /// There is, without addresses of this family.
    NoAddresses {
        /// For how long that is good, if the answer said.
        ttl: Option<Duration>,
    },
    /// Nobody answered.
    Unavailable {
        /// What went wrong.
        reason: String,
    },
    /// Nobody was asked, or not to the end: too many names of requests are being resolved.
    Busy,
}

/// Asks for the families, all at once. If addresses of one family are there and the other keeps us
/// waiting for longer than [`RESOLUTION_DELAY`], `half` gets them meanwhile.
pub(crate) async fn ask(
    backend: &dyn Backend,
    name: &str,
    families: IpFamilies,
    half: impl FnOnce(Family, Records) + Send,
) -> Result<Records, Failure> {
    match (families.v4(), families.v6()) {
        (true, true) => both(backend, name, half).await,
        (_, false) => backend.ask(name, Family::V4).await,
        (false, true) => backend.ask(name, Family::V6).await,
    }
}

async fn both(
    backend: &dyn Backend,
    name: &str,
    half: impl FnOnce(Family, Records) + Send,
) -> Result<Records, Failure> {
    let (mut v4, mut v6) = (backend.ask(name, Family::V4), backend.ask(name, Family::V6));
    let (first, family) = tokio::select! {
        v4 = &mut v4 => (v4, Family::V4),
        v6 = &mut v6 => (v6, Family::V6),
    };
    let mut other = match family {
        Family::V4 => v6,
        Family::V6 => v4,
    };
    let second = match &first {
        Ok(records) => match timeout(RESOLUTION_DELAY, &mut other).await {
            Ok(second) => second,
            Err(_elapsed) => {
                half(family, records.clone());
                other.await
            }
        },
        Err(_) => other.await,
    };
    match family {
        Family::V4 => combine(first, second),
        Family::V6 => combine(second, first),
    }
}

/// How long addresses of one family wait for those of the other (RFC 8305 §3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// What two answers come to: addresses of one family are enough.
fn combine(v4: Result<Records, Failure>, v6: Result<Records, Failure>) -> Result<Records, Failure> {
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.addresses.extend(v6.addresses);
            v4.ttl = v4.ttl.min(v6.ttl);
            Ok(v4)
        }
        (Ok(records), Err(_)) | (Err(_), Ok(records)) => Ok(records),
        (Err(failure @ Failure::Unavailable { .. }), Err(_))
        | (Err(_), Err(failure @ Failure::Unavailable { .. })) => Err(failure),
        (Err(v4), Err(v6)) => {
            let ttl = [ttl(&v4), ttl(&v6)].into_iter().flatten().min();
            let no_name = [&v4, &v6].iter().any(|f| matches!(f, Failure::NoSuchName { .. }));
            Err(if no_name { Failure::NoSuchName { ttl } } else { Failure::NoAddresses { ttl } })
        }
    }
}

fn ttl(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::NoSuchName { ttl } | Failure::NoAddresses { ttl } => *ttl,
        Failure::Unavailable { .. } | Failure::Busy => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_family_is_enough() {
        let records = |address: &str, ttl| {
            let addresses = vec![address.parse().unwrap()];
            Ok(Records { addresses, ttl: Duration::from_secs(ttl) })
        };
        let nothing = |ttl| Err(Failure::NoAddresses { ttl: Some(Duration::from_secs(ttl)) });
        let down = || Err(Failure::Unavailable { reason: "down".to_owned() });
        let both = combine(records("192.0.2.1", 30), records("2001:db8::1", 10)).unwrap();
        assert_eq!((both.addresses.len(), both.ttl.as_secs()), (2, 10));
        assert_eq!(combine(nothing(5), records("::1", 10)), records("::1", 10));
        assert_eq!(combine(records("192.0.2.1", 9), down()), records("192.0.2.1", 9));
        assert_eq!(combine(nothing(5), down()), down());
        assert_eq!(combine(nothing(5), nothing(3)), nothing(3));
        let no_name = Err(Failure::NoSuchName { ttl: None });
        let ttl = Some(Duration::from_secs(5));
        assert_eq!(combine(nothing(5), no_name), Err(Failure::NoSuchName { ttl }));
    }
}
