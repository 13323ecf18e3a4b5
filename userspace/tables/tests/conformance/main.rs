//! Istio's own answers (`conformance/`, see its README) against ours.

#![expect(clippy::unwrap_used, reason = "a test whose data is not as expected must fail")]

mod calls;
mod clusters;
mod data;
#[path = "../../../../tests/conformance/folder.rs"]
mod folder;
mod primitives;
mod routes;
mod routing;
mod simulation;
mod vips;
