//! The name table: which names DNS answers itself, and with which addresses (semantics.md §2).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::host_map::HostMap;
use crate::service::ServiceId;

/// Addresses by name. A name that is not here is asked upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameTable {
    pub(crate) hosts: HostMap<Arc<NameEntry>>,
    pub(crate) entries: Vec<Arc<NameEntry>>,
}

/// The addresses of one host. A family without any is answered with no records, never NXDOMAIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The host or wildcard as written.
    pub host: Arc<str>,
    /// The service it belongs to.
    pub service: ServiceId,
    /// For A.
    pub v4: Vec<Ipv4Addr>,
    /// For AAAA.
    pub v6: Vec<Ipv6Addr>,
}

impl NameTable {
    /// The entry for a name: itself, else the longest wildcard above it. Letters of either case are
    /// alike; a final dot is ignored.
    pub fn lookup(&self, name: &str) -> Option<&Arc<NameEntry>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.hosts.find(name).or_else(|| {
            // The name of the wildcard itself: what a search domain makes of it comes back so.
            name.starts_with('*').then(|| self.hosts.get(name)).flatten()
        })
    }

    /// Every entry, by host.
    pub fn entries(&self) -> &[Arc<NameEntry>] {
        &self.entries
    }
}
