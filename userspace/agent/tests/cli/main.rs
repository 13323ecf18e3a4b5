//! The commands that need no daemon, as they are typed.

#![expect(clippy::unwrap_used, reason = "a test whose surroundings are not as expected must fail")]

mod check;
mod config;
mod configuration;
mod explain;
#[path = "../../../../tests/conformance/folder.rs"]
mod folder;
mod seeds;
mod support;
