//! How an endpoint is chosen (semantics.md §4, `loadBalancer`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Spanned;
use crate::decode::{names, object};

object! {
    /// How an endpoint is chosen. `simple` excludes `consistentHash`, locality excludes zone aware.
    pub struct LoadBalancer {
        /// A standard algorithm.
        simple: Option<Spanned<SimpleLoadBalancer>> = "simple",
        /// The same key to the same endpoint.
        consistent_hash: Option<Spanned<ConsistentHash>> = "consistentHash",
        /// Priorities and weights by locality; absent: the mesh's.
        locality_lb_setting: Option<Spanned<LocalityLoadBalancer>> = "localityLbSetting",
        /// Own zone first, decided by capacity.
        zone_aware_lb_setting: Option<Spanned<ZoneAwareLoadBalancer>> = "zoneAwareLbSetting",
        /// Deprecated; the successor is `warmup.duration`.
        warmup_duration_secs: Option<Spanned<Duration>> = "warmupDurationSecs",
        /// New endpoints get traffic little by little.
        warmup: Option<Spanned<Warmup>> = "warmup",
    }
}

names! {
    /// A standard algorithm.
    pub enum SimpleLoadBalancer {
        /// Least request.
        #[default]
        Unspecified = "UNSPECIFIED",
        /// Deprecated name of least request.
        LeastConn = "LEAST_CONN",
        /// Any.
        Random = "RANDOM",
        /// The address dialled.
        Passthrough = "PASSTHROUGH",
        /// In turn.
        RoundRobin = "ROUND_ROBIN",
        /// The less loaded of two.
        LeastRequest = "LEAST_REQUEST",
    }
}

object! {
    /// Consistent hashing.
    pub struct ConsistentHash {
        /// Hash a header.
        http_header_name: Spanned<String> = "httpHeaderName",
        /// Hash a cookie.
        http_cookie: Option<Spanned<HttpCookie>> = "httpCookie",
        /// Hash the client's address.
        use_source_ip: Spanned<bool> = "useSourceIp",
        /// Hash a query parameter.
        http_query_parameter_name: Spanned<String> = "httpQueryParameterName",
        /// Ring hash; the default.
        ring_hash: Option<Spanned<RingHash>> = "ringHash",
        /// Maglev.
        maglev: Option<Spanned<Maglev>> = "maglev",
        /// Deprecated; the successor is `ringHash.minimumRingSize`.
        minimum_ring_size: Spanned<u64> = "minimumRingSize",
    }
}

/// What is hashed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HashKey<'a> {
    /// A header's value.
    Header(&'a str),
    /// A cookie's value, issued by the proxy when it has a ttl.
    Cookie(&'a HttpCookie),
    /// The client's address.
    SourceIp,
    /// A query parameter's value.
    QueryParameter(&'a str),
}

/// How hashes are spread over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// A ring with at least this many places.
    Ring(u64),
    /// A Maglev table with this many places, a prime.
    Maglev(u64),
}

impl ConsistentHash {
    /// What is hashed; a valid resource has at most one key.
    pub fn key(&self) -> Option<HashKey<'_>> {
        if !self.http_header_name.is_empty() {
            Some(HashKey::Header(&self.http_header_name))
        } else if let Some(cookie) = &self.http_cookie {
            Some(HashKey::Cookie(cookie))
        } else if self.use_source_ip.value {
            Some(HashKey::SourceIp)
        } else if !self.http_query_parameter_name.is_empty() {
            Some(HashKey::QueryParameter(&self.http_query_parameter_name))
        } else {
            None
        }
    }

    /// How hashes are spread: ring hash with at least 1024 places unless the rule says otherwise.
    pub fn algorithm(&self) -> HashAlgorithm {
        if let Some(maglev) = &self.maglev {
            return HashAlgorithm::Maglev(
                maglev.table_size.as_deref().copied().unwrap_or(DEFAULT_TABLE_SIZE),
            );
        }
        let modern = self.ring_hash.as_ref().map_or(0, |ring| ring.minimum_ring_size.value);
        let size = [modern, self.minimum_ring_size.value].into_iter().find(|size| *size != 0);
        HashAlgorithm::Ring(size.unwrap_or(DEFAULT_RING_SIZE))
    }
}

object! {
    /// The cookie that is hashed.
    pub struct HttpCookie {
        /// Its name; required.
        name: Spanned<String> = "name" required,
        /// Its path.
        path: Spanned<String> = "path",
        /// Life of a cookie issued by the proxy; zero: a session cookie; absent: the proxy issues none.
        ttl: Option<Spanned<Duration>> = "ttl",
        /// Further attributes, names unique.
        attributes: Vec<Spanned<HttpCookieAttribute>> = "attributes",
    }
}

object! {
    /// One attribute of a cookie.
    pub struct HttpCookieAttribute {
        /// Its name.
        name: Spanned<String> = "name" required,
        /// Its value; may be absent.
        value: Spanned<String> = "value",
    }
}

object! {
    /// Ring hash.
    pub struct RingHash {
        /// Default 1024.
        minimum_ring_size: Spanned<u64> = "minimumRingSize",
    }
}

object! {
    /// Maglev.
    pub struct Maglev {
        /// A prime below 5000011; default 65537.
        table_size: Option<Spanned<u64>> = "tableSize",
    }
}

object! {
    /// Priorities and weights by locality.
    pub struct LocalityLoadBalancer {
        /// Weights; excludes the failover fields.
        distribute: Vec<Spanned<LocalityDistribute>> = "distribute",
        /// Region to region when all is down.
        failover: Vec<Spanned<LocalityFailover>> = "failover",
        /// Labels that rank endpoints.
        failover_priority: Vec<Spanned<String>> = "failoverPriority",
        /// Default true.
        enabled: Option<Spanned<bool>> = "enabled",
    }
}

object! {
    /// Weights for clients of one locality.
    pub struct LocalityDistribute {
        /// Locality of the client, `*` allowed as last level.
        from: Spanned<String> = "from",
        /// Locality to weight; sums to 100.
        to: BTreeMap<String, Spanned<u32>> = "to",
    }
}

object! {
    /// Region to region.
    pub struct LocalityFailover {
        /// Region of the client.
        from: Spanned<String> = "from",
        /// Region to go to.
        to: Spanned<String> = "to",
    }
}

object! {
    /// Own zone first, decided by capacity.
    pub struct ZoneAwareLoadBalancer {
        /// Default: as the mesh has it.
        enabled: Option<Spanned<bool>> = "enabled",
        /// Region to region when all is down.
        failover: Vec<Spanned<LocalityFailover>> = "failover",
        /// Labels that rank endpoints; no topology labels.
        failover_priority: Vec<Spanned<String>> = "failoverPriority",
        /// Endpoints below which zones are ignored.
        min_cluster_size: Option<Spanned<u64>> = "minClusterSize",
    }
}

object! {
    /// New endpoints get traffic little by little.
    pub struct Warmup {
        /// How long; required.
        duration: Option<Spanned<Duration>> = "duration" required,
        /// Share at the beginning in percent; default 10.
        minimum_percent: Option<Spanned<f64>> = "minimumPercent",
        /// Shape of the curve; default 1.
        aggression: Option<Spanned<f64>> = "aggression",
    }
}

/// Places of a hash ring unless the rule says otherwise.
const DEFAULT_RING_SIZE: u64 = 1024;
/// Places of a Maglev table unless the rule says otherwise.
const DEFAULT_TABLE_SIZE: u64 = 65_537;
