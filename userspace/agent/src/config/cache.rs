//! `dns.cache:`: for how long an answer about a name of a cluster is good. What programs ask for
//! themselves is not cached.

use std::time::Duration;

use egressd_dns::ResolverSettings;
use serde::Deserialize;

use super::{duration, fault::Faults};

/// `dns.cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DnsCache {
    /// An answer lasts at least this long, whatever its TTL. Default 1 s, which is the least.
    min_ttl: Duration,
    /// An answer lasts at most this long, whatever its TTL. Default 1 h.
    max_ttl: Duration,
    /// That there is no such name is believed for at most this long. Default 60 s.
    max_negative_ttl: Duration,
    /// How long an answer goes on serving past its time while no server answers. Default 24 h; `0`:
    /// not at all.
    max_stale: Duration,
    /// A name that nobody has used for this long is not kept fresh. Default 5 min.
    idle: Duration,
}

/// The key, as it is written.
#[derive(Debug, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CacheFile {
    min_ttl: Option<String>,
    max_ttl: Option<String>,
    max_negative_ttl: Option<String>,
    max_stale: Option<String>,
    idle: Option<String>,
}

impl Default for DnsCache {
    fn default() -> Self {
        let settings = ResolverSettings::default();
        Self {
            min_ttl: settings.min_ttl,
            max_ttl: settings.max_ttl,
            max_negative_ttl: settings.max_negative_ttl,
            max_stale: settings.max_stale,
            idle: settings.idle,
        }
    }
}

impl DnsCache {
    /// The settings of a resolver, with these times put in.
    pub(crate) fn put_into(&self, settings: ResolverSettings) -> ResolverSettings {
        let Self { min_ttl, max_ttl, max_negative_ttl, max_stale, idle } = *self;
        ResolverSettings { min_ttl, max_ttl, max_negative_ttl, max_stale, idle, ..settings }
    }
}

impl CacheFile {
    /// Its settings; what is wrong goes to `faults`.
    pub(super) fn finish(self, faults: &mut Faults<'_>) -> DnsCache {
        let mut read = |key: &str, text: Option<String>, default: Duration| {
            let Some(text) = text else { return default };
            duration::parse(&text).unwrap_or_else(|| {
                let what = format!("`{text}` is not a duration like 30s or 1m30s");
                faults.add(&format!("dns.cache.{key}"), what);
                default
            })
        };
        let default = DnsCache::default();
        let cache = DnsCache {
            min_ttl: read("minTtl", self.min_ttl, default.min_ttl),
            max_ttl: read("maxTtl", self.max_ttl, default.max_ttl),
            max_negative_ttl: read(
                "maxNegativeTtl",
                self.max_negative_ttl,
                default.max_negative_ttl,
            ),
            max_stale: read("maxStale", self.max_stale, default.max_stale),
            idle: read("idle", self.idle, default.idle),
        };
        let DnsCache { min_ttl, max_ttl, .. } = &cache;
        if *min_ttl < LEAST_TTL {
            let why = format!("{min_ttl:?} is less than {LEAST_TTL:?}: servers would never rest");
            faults.add("dns.cache.minTtl", why);
        }
        if max_ttl < min_ttl {
            let why = format!("{max_ttl:?} is less than minTtl, {min_ttl:?}");
            faults.add("dns.cache.maxTtl", why);
        }
        cache
    }
}

/// The least that an answer lasts.
const LEAST_TTL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The settings, or everything that is wrong.
    fn read(yaml: &str) -> Result<DnsCache, String> {
        let text = format!("dns: {{cache: {yaml}}}\n");
        let mut faults = Faults::new(Path::new("egressd.yaml"), &text);
        let cache = serde_yaml::from_str::<CacheFile>(yaml).unwrap().finish(&mut faults);
        faults.finish().map(|()| cache).map_err(|error| error.to_string())
    }

    #[test]
    fn the_cache_is_the_resolvers() {
        let settings = ResolverSettings::default();
        assert_eq!(read("{}").unwrap().put_into(settings.clone()), settings);
        let written = read("{minTtl: 5s, maxTtl: 5s, maxStale: 0, idle: 1m}").unwrap();
        let settings = written.put_into(settings);
        assert_eq!((settings.min_ttl, settings.max_ttl), (LEAST_TTL * 5, LEAST_TTL * 5));
        assert_eq!((settings.max_stale, settings.idle.as_secs()), (Duration::ZERO, 60));
    }

    #[test]
    fn values_that_make_no_sense() {
        let said = |yaml| read(yaml).unwrap_err();
        assert!(said("{minTtl: 10ms}").contains("dns.cache.minTtl: 10ms is less than 1s"));
        let said_of_both = said("{minTtl: 1m, maxTtl: 30s, idle: soon}");
        assert!(said_of_both.contains("dns.cache.maxTtl: 30s is less than minTtl, 60s"));
        assert!(said_of_both.contains("dns.cache.idle: `soon` is not a duration"));
    }
}
