//! End-to-end tests of the daemon: real binary, real clients, a namespace and a cgroup each.
//!
//! They need root and fail without it. Run them with `cargo xtask test e2e [FILTER]`, which builds
//! the daemon first.
#![expect(clippy::unwrap_used, reason = "helpers outside #[test] functions fail the test as well")]

mod access;
mod clients;
mod direct;
mod doors;
mod families;
mod hosts;
mod http;
mod lifecycle;
mod metrics;
mod names;
mod policy;
mod pressure;
mod programs;
mod refusals;
mod relay;
mod reload;
mod services;
mod soak;
mod sockets;
mod strict;
mod surroundings;
mod tcp;
mod tls;
