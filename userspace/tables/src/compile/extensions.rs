//! `healthCheck`, an extension of ours (seeds.md case 27).

use std::sync::Arc;
use std::time::Duration;

use egressd_model::resource::{HealthCheck as Settings, HealthCheckHeader};

use crate::cluster::{HealthCheck, Probe};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_UNHEALTHY: u32 = 3;
const DEFAULT_HEALTHY: u32 = 2;

/// Probes as the rule wants them, on a port of the TLS family or another.
pub(crate) fn health_check(settings: &Settings, tls: bool) -> HealthCheck {
    let path = settings.path.as_str();
    let headers = settings.headers.0.iter();
    HealthCheck {
        interval: settings.interval.as_deref().copied().unwrap_or(DEFAULT_INTERVAL),
        timeout: settings.timeout.as_deref().copied().unwrap_or(DEFAULT_TIMEOUT),
        unhealthy_threshold: settings
            .unhealthy_threshold
            .as_deref()
            .copied()
            .unwrap_or(DEFAULT_UNHEALTHY),
        healthy_threshold: settings
            .healthy_threshold
            .as_deref()
            .copied()
            .unwrap_or(DEFAULT_HEALTHY),
        probe: if path.is_empty() {
            Probe::Tcp
        } else {
            Probe::Http {
                path: Arc::from(path),
                headers: headers
                    .map(|header| {
                        let HealthCheckHeader { name, value } = &header.value;
                        (Arc::from(name.as_str()), Arc::from(value.as_str()))
                    })
                    .collect(),
            }
        },
        tls,
    }
}
