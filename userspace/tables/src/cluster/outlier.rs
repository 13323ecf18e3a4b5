//! Taking endpoints out for misbehaving (semantics.md §4, outlierDetection).

use std::time::Duration;

/// The rules of ejection. An absent rule never ejects.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// 5xx answers and failures to connect in a row. Default 5 once the block is present; an explicit
    /// 0 switches the rule off.
    pub consecutive_5xx: Option<u32>,
    /// 502, 503 and 504 in a row. Default off.
    pub consecutive_gateway_errors: Option<u32>,
    /// Failures of our own making (connect, timeout) in a row, counted apart from answers. Default
    /// off; 5 once `splitExternalLocalOriginErrors` is on.
    pub consecutive_local_failures: Option<u32>,
    /// Whether local failures are counted apart.
    pub split_local_errors: bool,
    /// Between two sweeps that bring endpoints back. Default 10 s.
    pub interval: Duration,
    /// How long an ejection lasts, times the number of ejections. Default 30 s.
    pub base_ejection_time: Duration,
    /// Limit for one ejection: 300 s, or the base time if that is longer.
    pub max_ejection_time: Duration,
    /// Share of the endpoints that may be out at once, in percent. Default 10.
    pub max_ejection_percent: u32,
    /// Status codes that count as failures instead of 5xx.
    pub error_codes: Vec<u16>,
}
