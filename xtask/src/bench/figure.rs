//! What is known of a proxy after rounds of load.

use std::collections::BTreeMap;

use super::stats::Rounds;

/// What is known of one proxy by case of the benchmark, each value once a round.
pub(super) type Found<C> = BTreeMap<(C, Figure), Rounds>;

/// What one measurement gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// The middle of the times, in microseconds.
    Median,
    /// The time that one in a hundred exceeds.
    Slow,
    /// Requests, connections or bits a second.
    Rate,
    /// Processor time of the proxy, in milliseconds: of 10,000 requests or connections, or of 10^9
    /// bytes.
    Cpu,
}

/// The middle of the rounds; no number if there was none.
pub(super) fn median<C: Ord>(found: &Found<C>, case: C, figure: Figure) -> f64 {
    found.get(&(case, figure)).map_or(f64::NAN, Rounds::median)
}
