//! egressd's own additions to DestinationRule, taken from published texts (seeds.md 22 and 27).
//!
//! | written | becomes |
//! |---|---|
//! | `trafficPolicy.healthCheck` | [`HealthCheck`]: active probes, which the API does not have |
//! | `trafficPolicy.circuitBreaker` | `outlierDetection`, field by field |
//! | `connectionPool.tcp.keepAlive` | `tcpKeepalive`, field by field |
//!
//! Each is accepted with a warning that names the standard field where there is one.

use std::time::Duration;

use crate::Spanned;
use crate::decode::object;

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
        /// Headers of an HTTP probe.
        headers: Vec<Spanned<HealthCheckHeader>> = "headers",
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
