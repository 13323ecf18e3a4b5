//! Support for the end-to-end tests and the demo: network namespaces, cgroups, the daemon, real
//! servers and clients.
//!
//! A test builds a [`Node`]: a namespace with no default route, so that a connection that is not
//! captured cannot succeed by accident, beside a namespace for the servers, and a cgroup of its own.
//! Everything is a guard: processes are killed by pid, cgroups removed and namespaces closed when it
//! is dropped, also by a panic. Nothing here sleeps to let something happen; what must come about is
//! waited for, with a limit.
//!
//! This crate knows the daemon by its command line and its logs only.
//!
//! Failures panic: whoever calls is a test.

mod access;
mod bpf;
mod cgroup;
mod daemon;
mod mounts;
mod netns;
mod node;
mod pki;
mod process;
mod python;
mod server;
mod wait;

pub use access::AccessLine;
pub use bpf::{attach_exclusive, attached_programs};
pub use cgroup::Cgroup;
pub use daemon::{Daemon, DaemonBuilder, egressd};
pub use mounts::cgroup2_root;
pub use netns::Netns;
pub use nix::sys::signal::Signal;
pub use node::{NODE_V4, NODE_V6, Node, WORLD_V4, WORLD_V6};
pub use pki::{Authority, Issued};
pub use process::{Finished, Running, Spawn};
pub use python::PYTHON;
pub use server::{
    Behaviour, Bind, Database, Dnsmasq, HttpServer, Httpbin, Nginx, Servers, TlsServer, Unbound,
    await_listener,
};
pub use wait::{WAIT, until};
