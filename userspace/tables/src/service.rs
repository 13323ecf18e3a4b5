//! Services: what resources say about one host, as the tables see it.

use std::net::IpAddr;
use std::sync::Arc;

use egressd_abi::OnDown;
use egressd_model::resource::{Key, Location, PathMode, Resolution};
use egressd_model::value::{IpRange, Protocol};

use crate::vip::Vip;

/// The place of a service in [`crate::Tables::services`]: the order of hosts and namespaces. Kernel
/// rows carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// One host of one or more ServiceEntries of a namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The host as written.
    pub host: Arc<str>,
    /// The namespace of its ServiceEntries.
    pub namespace: Arc<str>,
    /// Its ServiceEntries, oldest first.
    pub entries: Vec<Key>,
    /// Whether it is part of the mesh: what its oldest entry says.
    pub location: Location,
    /// How endpoints are found: what its oldest entry says.
    pub resolution: Resolution,
    /// Its ports, each number once.
    pub ports: Vec<Port>,
    /// Its own addresses and blocks, masked, each once.
    pub addresses: Vec<IpRange>,
    /// The addresses allocated to it, one pair for each entry that qualifies.
    pub vips: Vec<Vip>,
    /// What happens to its connections when the proxy is down: the annotation
    /// `egressd.io/on-proxy-down`.
    pub on_down: OnDown,
    /// How its connections reach endpoints: the annotation `egressd.io/path`, and the entry that has
    /// it. Nothing: as the node says. Of several entries, one that says `proxy` goes first, then the
    /// oldest.
    pub path: Option<(PathMode, Key)>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The number clients dial.
    pub number: u16,
    /// Its name.
    pub name: Arc<str>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The endpoints' port; 0: the same.
    pub target: u16,
    /// The entry that declares it.
    pub entry: Key,
}

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The single addresses that stand for it, written or allocated.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let written = self.addresses.iter().filter(|range| range.is_single());
        let vips = self.vips.iter().flat_map(|vip| vip.addresses());
        written.map(|range| range.address()).chain(vips)
    }
}
