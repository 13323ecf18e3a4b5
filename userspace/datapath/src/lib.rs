//! Loads, attaches and feeds the eBPF programs. The only user of aya.
//!
//! What the rest of egressd knows of the kernel goes through here: [`Datapath`] owns programs, links
//! and maps; [`Listeners`] are the sockets captured connections arrive at; [`Originals`] reads what
//! an application dialled from an accepted socket; [`Watch`] delivers the rare events.
//!
//! Without [`Settings::pins`] nothing is pinned: when the process goes, however it goes, the kernel
//! detaches everything and the node is as it was before. With it, programs stay attached when the process
//! is killed, and the next one takes over what they have.

mod addresses;
mod bpf;
mod bytes;
mod cgroup;
mod datapath;
mod diag;
mod direct;
mod dns;
mod error;
mod events;
mod hosts;
mod leaks;
mod links;
mod listeners;
mod load;
mod locks;
mod netns;
mod originals;
mod owners;
mod pins;
mod preflight;
mod programs;
mod rows;
mod shared;
mod sync;

pub use addresses::has_global_v6;
pub use cgroup::cgroup2_root;
pub use datapath::{Counters, Datapath, DnsSettings, Settings};
pub use direct::{
    DirectBalance, DirectClusters, DirectCounts, DirectEnd, DirectEndpoint, DirectKeepalive,
    DirectLevel, DirectLimits, DirectProtocol, DirectRecord, DirectRoute, DirectTarget, DirectView,
    Swept,
};
pub use dns::{DnsServers, DnsSockets, Heartbeat};
pub use egressd_abi::{Host, HostAddress};
pub use error::Error;
pub use events::{Denied, Notice, Watch};
pub use hosts::{HostTable, KnownHosts};
pub use listeners::{Listeners, MARK};
pub use netns::{NetnsCookie, in_netns_of};
pub use originals::{Originals, Socket};
pub use owners::{Protocol, SocketOwner, SocketOwners};
pub use pins::cleanup;
pub use programs::{ProgramStats, measure_programs};
pub use rows::KernelTable;
