//! `loadBalancer` (semantics.md §4).

use std::sync::Arc;

use egressd_model::resource::{
    HashAlgorithm, HashKey as ModelKey, HttpCookieAttribute, LoadBalancer as Settings,
    SimpleLoadBalancer,
};

use crate::cluster::{HashKey, HashPolicy, LbPolicy, LoadBalancer, Warmup};

/// What a new endpoint starts with, in percent, unless the rule says otherwise.
const DEFAULT_MINIMUM: f64 = 10.0;

/// The choice among endpoints; least request unless the rule says otherwise.
pub(crate) fn build(settings: Option<&Settings>) -> LoadBalancer {
    let hashes = settings.and_then(|settings| settings.consistent_hash.as_ref());
    let policy = match hashes.map(|hashes| hashes.algorithm()) {
        Some(HashAlgorithm::Ring(minimum_size)) => LbPolicy::RingHash { minimum_size },
        Some(HashAlgorithm::Maglev(table_size)) => LbPolicy::Maglev { table_size },
        None => settings.map_or(LbPolicy::LeastRequest, simple),
    };
    let warms_up = matches!(policy, LbPolicy::LeastRequest | LbPolicy::RoundRobin);
    LoadBalancer {
        policy,
        locality_weighted: false,
        warmup: settings.filter(|_| warms_up).and_then(warmup),
        panic_threshold: 0.0,
        hash: settings.and_then(hash),
    }
}

/// What a consistent hash is taken of, if the rule has one.
pub(crate) fn hash(settings: &Settings) -> Option<HashPolicy> {
    let key = match settings.consistent_hash.as_ref()?.key()? {
        ModelKey::Header(name) => HashKey::Header(Arc::from(name.to_ascii_lowercase())),
        ModelKey::SourceIp => HashKey::SourceIp,
        ModelKey::QueryParameter(name) => HashKey::QueryParameter(Arc::from(name)),
        ModelKey::Cookie(cookie) => HashKey::Cookie {
            name: Arc::from(cookie.name.as_str()),
            path: Some(cookie.path.as_str()).filter(|path| !path.is_empty()).map(Arc::from),
            ttl: cookie.ttl.as_deref().copied(),
            attributes: cookie
                .attributes
                .iter()
                .map(|attribute| {
                    let HttpCookieAttribute { name, value } = &attribute.value;
                    (Arc::from(name.as_str()), Arc::from(value.as_str()))
                })
                .collect(),
        },
    };
    Some(HashPolicy { key })
}

fn simple(settings: &Settings) -> LbPolicy {
    match settings.simple.as_deref().copied().unwrap_or_default() {
        SimpleLoadBalancer::Unspecified
        | SimpleLoadBalancer::LeastConn
        | SimpleLoadBalancer::LeastRequest => LbPolicy::LeastRequest,
        SimpleLoadBalancer::Random => LbPolicy::Random,
        SimpleLoadBalancer::RoundRobin => LbPolicy::RoundRobin,
        SimpleLoadBalancer::Passthrough => LbPolicy::ClusterProvided,
    }
}

fn warmup(settings: &Settings) -> Option<Warmup> {
    match (&settings.warmup, &settings.warmup_duration_secs) {
        (Some(warmup), _) => Some(Warmup {
            duration: warmup.duration.as_deref().copied()?,
            minimum_percent: warmup.minimum_percent.as_deref().copied().unwrap_or(DEFAULT_MINIMUM),
            aggression: warmup.aggression.as_deref().copied().unwrap_or(1.0),
        }),
        (None, Some(duration)) => Some(Warmup {
            duration: duration.value,
            minimum_percent: DEFAULT_MINIMUM,
            aggression: 1.0,
        }),
        (None, None) => None,
    }
}
