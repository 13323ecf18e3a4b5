//! What tables do with resources, beyond what the conformance data asks.

#![expect(clippy::unwrap_used, reason = "a test whose resources do not parse must fail")]

mod explain;
mod gateways;
mod generations;
mod paths;
mod properties;
mod rows;
mod strict;
mod virtual_addresses;
mod visibility;
mod world;
