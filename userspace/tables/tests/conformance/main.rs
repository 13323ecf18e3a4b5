//! Istio's own answers (`conformance/`, see its README) against ours.
//!
//! The data is looked for in `EGRESSD_CONFORMANCE`, else in `../shared/conformance` beside the
//! workspace. Without it the tests say so and pass; with `EGRESSD_REQUIRE_CONFORMANCE=1` they fail.

#![expect(clippy::unwrap_used, reason = "a test whose data is not as expected must fail")]
#![expect(clippy::print_stdout, reason = "a test says what it compared, or that it was skipped")]

mod calls;
mod clusters;
mod data;
mod routes;
mod routing;
mod simulation;
mod vips;
