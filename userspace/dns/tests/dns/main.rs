//! The server over real sockets on loopback, with upstreams of the tests' own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod conformance;
mod crowd;
#[path = "../../../../tests/conformance/folder.rs"]
mod folder;
mod forwarding;
mod hostile;
mod names;
mod resolving;
mod running;
mod serving;
mod tls;
mod upstream;
