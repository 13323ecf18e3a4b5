//! What one has to know to run egressd, and why it is as it is.
//!
//! - [`failure`]: what breaks, what the traffic does then, how it shows, how to undo it.
//! - [`direct`]: connections that nothing stands between, what differs for them, and how to measure.
//! - [`kernel`]: which kernel features are used and from which version on.
//! - [`decisions`]: choices, their context and consequences, and where answers differ from Istio's.

pub(crate) mod decisions;
pub(crate) mod direct;
pub(crate) mod failure;
pub(crate) mod kernel;
