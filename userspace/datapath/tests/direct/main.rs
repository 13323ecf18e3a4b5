//! The direct path in the running kernel. Needs root; every test works in a network namespace and a
//! cgroup of its own.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod choice;
mod lab;
mod pins;
mod programs;
mod sweep;
mod tcp;
mod udp;
