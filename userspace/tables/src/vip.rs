//! Virtual addresses: one pair for each host that needs one, kept for good (semantics.md §2).
//!
//! Allocation is a pure function from the state before and the ServiceEntries to the state after.
//! The caller keeps the state on disk and hands the same one to [`crate::Tables::compile`].

mod allocate;
mod hashed;
mod request;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use egressd_model::resource::Key;
use egressd_model::value::IpRange;

pub use hashed::hashed_vips;
pub use request::{ALLOCATE_LABEL, VipRequest, requests};

use crate::options::IpFamilies;

/// The pair of addresses that stand for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// For clients that ask for A records.
    pub v4: Option<Ipv4Addr>,
    /// For clients that ask for AAAA records.
    pub v6: Option<Ipv6Addr>,
}

impl Vip {
    /// Both addresses, IPv4 first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// The addresses that a node of these families uses.
    #[must_use]
    pub fn of(self, families: IpFamilies) -> Self {
        Self { v4: self.v4.filter(|_| families.v4()), v6: self.v6.filter(|_| families.v6()) }
    }
}

/// Which addresses are given to whom, and which are next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipAllocation {
    /// Where IPv4 addresses come from. Default 240.240.0.0/16.
    pub range_v4: IpRange,
    /// Where IPv6 addresses come from. Default 2001:2::/48.
    pub range_v6: IpRange,
    /// The offset in the ranges that is tried next, from 1. It only grows, so that the address of a
    /// host that is gone is not given to another one as long as there are fresh ones.
    pub next: u32,
    /// The addresses given, by ServiceEntry and host.
    pub given: BTreeMap<Key, BTreeMap<Arc<str>, Vip>>,
}

/// A host that no address is left for. It resolves upstream; nothing else changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no virtual address is left in {range} for {host} of ServiceEntry {entry}")]
pub struct VipExhausted {
    /// The host.
    pub host: Arc<str>,
    /// Its ServiceEntry.
    pub entry: Key,
    /// The range.
    pub range: IpRange,
}

impl Default for VipAllocation {
    fn default() -> Self {
        Self::new(DEFAULT_V4, DEFAULT_V6).unwrap_or_else(|| Self {
            range_v4: IpRange::default(),
            range_v6: IpRange::default(),
            next: 1,
            given: BTreeMap::new(),
        })
    }
}

impl VipAllocation {
    /// An empty allocation from these ranges; nothing if one is not a block of its family.
    pub fn new(range_v4: &str, range_v6: &str) -> Option<Self> {
        let range_v4 = IpRange::parse(range_v4).ok()?.masked();
        let range_v6 = IpRange::parse(range_v6).ok()?.masked();
        let fits = range_v4.address().is_ipv4() && range_v6.address().is_ipv6();
        fits.then(|| Self { range_v4, range_v6, next: 1, given: BTreeMap::new() })
    }

    /// The pair given to a host of a ServiceEntry.
    pub fn get(&self, entry: &Key, host: &str) -> Option<Vip> {
        self.given.get(entry)?.get(host).copied()
    }
}

/// Where IPv4 addresses come from unless the caller says otherwise.
pub const DEFAULT_V4: &str = "240.240.0.0/16";
/// Where IPv6 addresses come from unless the caller says otherwise.
pub const DEFAULT_V6: &str = "2001:2::/48";
