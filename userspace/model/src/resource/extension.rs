//! egressd's own additions to DestinationRule, taken from published texts (seeds.md 22 and 27).
//!
//! | written | becomes |
//! |---|---|
//! | `trafficPolicy.healthCheck` | [`HealthCheck`]: active probes, which the API does not have |
//! | `trafficPolicy.circuitBreaker` | `outlierDetection`, field by field |
//! | `connectionPool.tcp.keepAlive` | `tcpKeepalive`, field by field |
//!
//! Each is accepted with a warning that names the standard field where there is one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Spanned;
use crate::decode::{At, Cx, Decode, object};
use crate::resource::traffic_policy::{
    OutlierDetection, PortTrafficPolicy, TcpConnectionPool, TrafficPolicy,
};

object! {
    /// Active probes of every endpoint.
    pub struct HealthCheck {
        /// Pause between probes; default 30 s.
        interval: Option<Spanned<Duration>> = "interval",
        /// Limit on one probe; default 5 s.
        timeout: Option<Spanned<Duration>> = "timeout",
        /// Failures in a row that take an endpoint out; default 3.
        unhealthy_threshold: Option<Spanned<u32>> = "unhealthyThreshold",
        /// Successes in a row that bring it back; default 2.
        healthy_threshold: Option<Spanned<u32>> = "healthyThreshold",
        /// Path of an HTTP probe; empty: a mere connect.
        path: Spanned<String> = "path",
        /// Headers of an HTTP probe: a list of names and values, or a map.
        headers: HealthCheckHeaders = "headers",
    }
}

/// Headers of a probe.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthCheckHeaders(pub Vec<Spanned<HealthCheckHeader>>);

impl Decode for HealthCheckHeaders {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        if at.node().is_none_or(|node| node.entries().is_empty()) {
            return Self(Decode::decode(at, cx));
        }
        let map: BTreeMap<String, Spanned<String>> = Decode::decode(at, cx);
        let header = |(name, value): (String, Spanned<String>)| {
            let span = value.span;
            Spanned::new(HealthCheckHeader { name: Spanned::new(name, span), value }, span)
        };
        Self(map.into_iter().map(header).collect())
    }
}

object! {
    /// One header of a probe.
    pub struct HealthCheckHeader {
        /// Its name.
        name: Spanned<String> = "name" required,
        /// Its value.
        value: Spanned<String> = "value",
    }
}

/// Code of the warning about every field that is not the API's.
const CODE: &str = "extension";

/// Fields of `trafficPolicy` outside the API.
pub(super) fn of_policy(policy: &mut TrafficPolicy, key: &str, at: &At<'_>, cx: &mut Cx) -> bool {
    match key {
        "healthCheck" => policy.health_check = Some(health_check(at, cx)),
        "circuitBreaker" => circuit_breaker(&mut policy.outlier_detection, at, cx),
        _ => return false,
    }
    true
}

/// Fields of one entry of `portLevelSettings` outside the API.
pub(super) fn of_port_policy(
    policy: &mut PortTrafficPolicy,
    key: &str,
    at: &At<'_>,
    cx: &mut Cx,
) -> bool {
    match key {
        "healthCheck" => policy.health_check = Some(health_check(at, cx)),
        "circuitBreaker" => circuit_breaker(&mut policy.outlier_detection, at, cx),
        _ => return false,
    }
    true
}

/// Fields of `connectionPool.tcp` outside the API.
pub(super) fn of_tcp_pool(
    pool: &mut TcpConnectionPool,
    key: &str,
    at: &At<'_>,
    cx: &mut Cx,
) -> bool {
    if key != "keepAlive" {
        return false;
    }
    cx.warning(at, CODE, "`keepAlive` is not a field of the API").help("write `tcpKeepalive`");
    let alias = Decode::decode(at, cx);
    fill(&mut pool.tcp_keepalive, alias, "tcpKeepalive", at, cx);
    true
}

fn health_check(at: &At<'_>, cx: &mut Cx) -> Spanned<HealthCheck> {
    cx.warning(at, CODE, "`healthCheck` is not a field of the API, but an extension of egressd")
        .help("the API has no active probes; the nearest standard field is `outlierDetection`");
    Decode::decode(at, cx)
}

fn circuit_breaker(outlier: &mut Option<Spanned<OutlierDetection>>, at: &At<'_>, cx: &mut Cx) {
    cx.warning(at, CODE, "`circuitBreaker` is not a field of the API")
        .help("write `outlierDetection`");
    let alias = Decode::decode(at, cx);
    fill(outlier, alias, "outlierDetection", at, cx);
}

/// Takes an alias in place of the standard field, unless that one is written too.
fn fill<T>(
    field: &mut Option<Spanned<T>>,
    alias: Spanned<T>,
    name: &str,
    at: &At<'_>,
    cx: &mut Cx,
) {
    let standard = at.parent().and_then(At::node).and_then(|map| map.get(name));
    if standard.is_some() {
        cx.error(at, "conflicting-fields", format!("`{name}` says the same and is set too"));
    } else {
        *field = Some(alias);
    }
}
