//! When an answer ends and when the next one is fetched. Pure.

use std::time::Duration;

use crate::resolver::ResolverSettings;

/// How long an answer is good.
pub(crate) fn lifetime(ttl: Duration, settings: &ResolverSettings) -> Duration {
    ttl.max(settings.min_ttl).min(settings.max_ttl)
}

/// How long it is believed that there are no addresses.
pub(crate) fn negative_lifetime(ttl: Option<Duration>, settings: &ResolverSettings) -> Duration {
    ttl.unwrap_or(NEGATIVE_TTL).min(settings.max_negative_ttl).max(settings.min_ttl)
}

/// When to fetch the next answer of a name in use: before this one ends. After answers that nobody
/// has used, later and later: names with a TTL of 0 would be asked for every second. `chance`, from 0
/// to 1, spreads names that were asked for together.
pub(crate) fn refresh(lifetime: Duration, unused: u32, chance: f64) -> Duration {
    let part = EARLIEST + (LATEST - EARLIEST) * chance.clamp(0.0, 1.0);
    lifetime.mul_f64(part).saturating_mul(1 << unused.min(MAX_DOUBLINGS))
}

/// When to try again after a number of failures in a row.
pub(crate) fn retry(failures: u32, chance: f64, settings: &ResolverSettings) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let limited = doubled.min(settings.failure_refresh).max(FIRST_RETRY);
    limited + JITTER.mul_f64(chance.clamp(0.0, 1.0))
}

/// The next answer is fetched somewhere between these parts of the last one's time.
const EARLIEST: f64 = 0.80;
const LATEST: f64 = 0.95;
/// How often the time between answers that nobody uses doubles.
const MAX_DOUBLINGS: u32 = 16;
/// For a negative answer that does not say how long it is good. Unit: time.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// The first attempt after a failure; it doubles from there. Also how long a failure is held
/// against a name that somebody asks for.
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The most that an attempt is late at random (semantics.md §1.2).
const JITTER: Duration = Duration::from_millis(100);
/// How long a look-up waits for an answer that is being fetched when the last one has ended, before
/// it takes that one all the same (RFC 8767 §5, in the spirit of its client response timer).
pub(crate) const STALE_WAIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_and_ceilings() {
        let settings = ResolverSettings::default();
        let seconds = Duration::from_secs;
        for (ttl, expected) in [(0, 1), (30, 30), (1_000_000, 3600)] {
            assert_eq!(lifetime(seconds(ttl), &settings), seconds(expected));
        }
        for (ttl, expected) in [(Some(0), 1), (None, 5), (Some(3600), 60)] {
            assert_eq!(negative_lifetime(ttl.map(seconds), &settings), seconds(expected));
        }
    }

    #[test]
    fn ahead_of_expiry() {
        let lifetime = Duration::from_secs(100);
        assert_eq!(refresh(lifetime, 0, 0.0).as_secs(), 80);
        assert_eq!(refresh(lifetime, 0, 1.0).as_secs(), 95);
        // Nobody uses it.
        assert_eq!(refresh(lifetime, 3, 0.0).as_secs(), 640);
        assert_eq!(refresh(lifetime, u32::MAX, 0.0), refresh(lifetime, 16, 0.0));
    }

    #[test]
    fn further_and_further_apart() {
        let settings = ResolverSettings::default();
        let waits: Vec<_> =
            (1..9).map(|failures| retry(failures, 0.0, &settings).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry(u32::MAX, 1.0, &settings), Duration::from_millis(60_100));
    }
}
