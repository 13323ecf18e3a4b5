//! Failures injected on purpose (semantics.md §3, fault). The delay comes before the abort.

use std::time::Duration;

/// What may be injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A wait; flag `DI`.
    pub delay: Option<Delay>,
    /// An answer; flag `FI`.
    pub abort: Option<Abort>,
}

/// An injected wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How many requests of a million; 0 if no percentage is written.
    pub per_million: u32,
    /// How long.
    pub wait: Duration,
}

/// An injected answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// How many requests of a million; 0 if no percentage is written.
    pub per_million: u32,
    /// The answer.
    pub status: AbortStatus,
}

/// The answer of an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// An HTTP status, 200 to 599.
    Http(u16),
    /// A gRPC status, 0 to 16.
    Grpc(u32),
}
