//! Active health checks: our extension `trafficPolicy.healthCheck` (seeds.md case 27).

use std::sync::Arc;
use std::time::Duration;

/// Probes that take endpoints out and bring them back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Between two probes of one endpoint.
    pub interval: Duration,
    /// Limit for one probe.
    pub timeout: Duration,
    /// Failures in a row that take an endpoint out.
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back.
    pub healthy_threshold: u32,
    /// What a probe is.
    pub probe: Probe,
    /// The port is one of the TLS family, on which applications speak TLS themselves: so do probes
    /// that ask for something.
    pub tls: bool,
}

/// What a probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A connection that opens.
    Tcp,
    /// A GET that is answered with 200.
    Http {
        /// The path asked for.
        path: Arc<str>,
        /// Headers sent along: name and value.
        headers: Vec<(Arc<str>, Arc<str>)>,
    },
}
