//! When a request is tried again (semantics.md §3, retries).

use std::sync::Arc;
use std::time::Duration;

/// A retry policy. A route without one tries once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first. Default 2.
    pub attempts: u32,
    /// Conditions as Envoy and gRPC name them, comma separated. Default
    /// `connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes`.
    pub retry_on: Arc<str>,
    /// Statuses for `retriable-status-codes`. Default none.
    pub status_codes: Vec<u16>,
    /// Limit on one try. Nothing: the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// Whether endpoints already tried are avoided. Default yes, except with consistent hashing.
    pub avoid_previous_hosts: bool,
    /// How often another endpoint is asked for, for the sake of the former. 5.
    pub host_selection_attempts: u32,
    /// Whether tries may go to the next priority. Default no.
    pub remote_localities: bool,
    /// First pause; doubled each time, jittered, at most ten times itself. Default 25 ms.
    pub backoff: Duration,
}

/// First pause between tries.
pub const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);
/// The conditions that hold where none are written.
pub const DEFAULT_RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 2,
            retry_on: Arc::from(DEFAULT_RETRY_ON),
            status_codes: Vec::new(),
            per_try_timeout: None,
            avoid_previous_hosts: true,
            host_selection_attempts: 5,
            remote_localities: false,
            backoff: DEFAULT_BACKOFF,
        }
    }
}

impl RetryPolicy {
    /// Whether a condition is among those that are tried again.
    pub fn retries_on(&self, condition: &str) -> bool {
        self.retry_on.split(',').any(|known| known == condition)
    }
}
