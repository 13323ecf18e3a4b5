//! Why the kernel side cannot work here. Every message names what is wrong and what to do.

use std::{io, net::SocketAddr, path::PathBuf};

/// A reason not to start, or not to go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A capability is missing.
    #[error("{missing} is missing: run egressd as root, or grant it that capability")]
    Capability {
        /// The capabilities that are not effective, joined for people.
        missing: String,
    },
    /// The kernel is older than the floor.
    #[error("Linux {release} has no {feature}: egressd needs Linux {floor} or newer")]
    KernelTooOld {
        /// What `uname -r` says.
        release: String,
        /// The first feature that is not there.
        feature: &'static str,
        /// The oldest supported version.
        floor: &'static str,
    },
    /// No cgroup2 hierarchy is mounted.
    #[error(
        "no cgroup2 file system is mounted here: mount one (`mount -t cgroup2 none /sys/fs/cgroup`)"
    )]
    NoCgroup2,
    /// A configured cgroup is not a cgroup2 directory.
    #[error(
        "{path} is not a directory of the cgroup2 file system at {root}: check capture.cgroups"
    )]
    NotACgroup {
        /// The configured path.
        path: PathBuf,
        /// Where cgroup2 is mounted.
        root: PathBuf,
    },
    /// Another egressd captures the cgroup.
    #[error("another egressd captures {path} already: stop it, or configure another cgroup")]
    AlreadyCaptured {
        /// The cgroup.
        path: PathBuf,
    },
    /// Another egressd has the directory of pins.
    #[error("another egressd keeps its programs in {path}: stop it, or set capture.pinDirectory")]
    PinsInUse {
        /// The directory.
        path: PathBuf,
    },
    /// A program of somebody else keeps ours out.
    #[error(
        "{hook} of {path} is held by a program attached exclusively: find it with `bpftool cgroup \
         show {path}` and attach it with BPF_F_ALLOW_MULTI, or detach it"
    )]
    Exclusive {
        /// The hook.
        hook: &'static str,
        /// The cgroup.
        path: PathBuf,
    },
    /// The proxy's port is in use.
    #[error("{address} is in use: set capture.port to {count} consecutive free ports")]
    PortTaken {
        /// The address that could not be bound.
        address: SocketAddr,
        /// How many consecutive ports are needed.
        count: u32,
    },
    /// The DNS server's port is in use.
    #[error(
        "{address}, where DNS queries are turned to, is in use: end what has it (`ss -lntup 'sport = \
         :{port}'` shows it), set another capture.port, which this port follows, or dns.capture to \
         none", port = address.port()
    )]
    DnsPortTaken {
        /// The address that could not be bound.
        address: SocketAddr,
    },
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// What was attempted, and on what.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The object or one of its maps is not as expected.
    #[error("{what}")]
    Bpf {
        /// What was attempted, and on what.
        what: String,
        /// What aya or the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A table is full.
    #[error("the kernel's {table} table holds at most {limit} rows, and {wanted} are wanted")]
    TableFull {
        /// Which table.
        table: &'static str,
        /// Its size.
        limit: u32,
        /// How many rows the configuration needs.
        wanted: usize,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub(crate) fn bpf<E>(what: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let what = what.into();
        move |source| Self::Bpf { what, source: Box::new(source) }
    }

    pub(crate) fn missing(what: &str) -> Self {
        let source = io::Error::from(io::ErrorKind::NotFound).into();
        Self::Bpf { what: format!("finding {what} in the eBPF object"), source }
    }
}
