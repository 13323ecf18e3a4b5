//! The kernel's rows (design.md, "The kernel side").
//!
//! Whatever address [`crate::Tables::decide`] would give to a service has a row. The rows:
//!
//! * `{address, port}` for every port of every address that stands for a service;
//! * `{block, port}` for services with blocks, where the rest of the port is left alone;
//! * the port alone, where its listener takes connections to any destination;
//! * `{VIP, any port}` for allocated addresses: they lead nowhere, so that other ports are resolved
//!   and forwarded, or refused;
//! * the VIP ranges: an address of theirs is never passed through, whoever has it or had it. Ports
//!   that some listener takes anywhere stay with the proxy, the others are refused;
//! * everything, where the policy needs the proxy for unknown destinations.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use egressd_abi::{NO_SERVICE, OnDown, Row, RowKey, RowVerdict};
use egressd_model::resource::Resolution;
use egressd_model::value::{IpRange, Protocol};

use crate::compile::policy::Policy;
use crate::compile::services::{Directory, strictest};
use crate::fast::FastMap;
use crate::listener::{Bind, Listener};
use crate::rows::KernelRows;
use crate::service::{Service, ServiceId};

/// Builds the rows.
pub(crate) fn build(
    services: &Directory,
    listeners: &[Listener],
    vip_ranges: &[IpRange],
    policy: &Policy,
) -> KernelRows {
    let mut rows = Rows {
        services,
        exact: FastMap::default(),
        prefixes: FastMap::default(),
        ports: BTreeMap::new(),
    };
    rows.exact.reserve(services.all.len());
    rows.prefixes.reserve(services.all.len());
    for (id, service) in services.iter() {
        rows.addresses(id, service);
        rows.undeclared(id, service, policy);
    }
    for listener in listeners {
        rows.listener(listener);
    }
    rows.ranges(vip_ranges);
    if policy.needs_proxy() {
        for everything in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let wanted = Wanted::of(None, OnDown::Default);
            rows.prefix(0, everything, 0, Wanted { policy: true, ..wanted });
        }
    }
    rows.finish(policy)
}

/// Rows under construction.
struct Rows<'a> {
    services: &'a Directory,
    exact: FastMap<RowKey, Wanted>,
    prefixes: FastMap<(u8, RowKey), Wanted>,
    ports: BTreeMap<u16, Wanted>,
}

/// What one row says, while several services may still share it.
#[derive(Clone, Copy)]
struct Wanted {
    service: Option<ServiceId>,
    verdict: RowVerdict,
    on_down: OnDown,
    allocated: bool,
    policy: bool,
}

impl Wanted {
    fn of(service: Option<ServiceId>, on_down: OnDown) -> Self {
        Self { service, verdict: RowVerdict::Proxy, on_down, allocated: false, policy: false }
    }

    /// The first service stays; a proxy that is down is answered by the strictest.
    fn join(&mut self, other: Self) {
        self.on_down = strictest(self.on_down, other.on_down);
        self.service = self.service.or(other.service);
        self.allocated |= other.allocated;
        // A service that has every address names those of the node, too.
        self.policy &= other.policy;
    }

    fn row(self) -> Row {
        let service = self.service.map_or(NO_SERVICE, |id| id.0);
        let row = Row::new(self.verdict, service).on_down(self.on_down);
        let row = if self.allocated { row.allocated() } else { row };
        if self.policy { row.policy() } else { row }
    }
}

impl Rows<'_> {
    /// Every port of every single address, and of every block.
    fn addresses(&mut self, id: ServiceId, service: &Service) {
        let wanted = Wanted::of(Some(id), service.on_down);
        for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
            for range in service.addresses.iter().filter(|range| range.is_single()) {
                self.exact(range.address(), port.number, wanted);
            }
            for ip in service.vips.iter().flat_map(|vip| vip.addresses()) {
                self.exact(ip, port.number, Wanted { allocated: true, ..wanted });
            }
        }
    }

    /// Other ports of allocated addresses.
    fn undeclared(&mut self, id: ServiceId, service: &Service, policy: &Policy) {
        let resolves = resolves(service) && !policy.denies();
        let verdict = if resolves { RowVerdict::Proxy } else { RowVerdict::Refuse };
        let wanted = Wanted::of(Some(id), service.on_down);
        for ip in service.vips.iter().flat_map(|vip| vip.addresses()) {
            let bits = IpRange::single(ip).prefix();
            self.prefix(bits, ip, 0, Wanted { verdict, allocated: true, ..wanted });
        }
    }

    fn listener(&mut self, listener: &Listener) {
        let shares = listener.services.iter().filter_map(|id| self.services.get(*id));
        let on_down = shares.map(|service| service.on_down).reduce(strictest).unwrap_or_default();
        let wanted = Wanted::of(listener.services.first().copied(), on_down);
        match listener.bind {
            Bind::Address(ip) => self.exact(ip, listener.port, wanted),
            // The application dials a socket by itself.
            Bind::Socket(_) => {}
            Bind::Wildcard => {
                if listener.acts_on_any_destination() {
                    let row = self.ports.entry(listener.port).or_insert(wanted);
                    row.join(wanted);
                }
                for chain in &listener.chains {
                    let owner = chain.service.and_then(|id| self.services.get(id));
                    let on_down = owner.map_or(on_down, |service| service.on_down);
                    for block in &chain.destinations {
                        let block = block.masked();
                        let wanted = Wanted::of(chain.service, on_down);
                        self.prefix(block.prefix(), block.address(), listener.port, wanted);
                    }
                }
            }
        }
    }

    /// Ports that are taken anywhere are taken in the ranges too; everything else there is refused.
    fn ranges(&mut self, ranges: &[IpRange]) {
        let anywhere: Vec<_> = self.ports.iter().map(|(port, row)| (*port, *row)).collect();
        for range in ranges {
            let (bits, base) = (range.prefix(), range.address());
            for (port, row) in &anywhere {
                self.prefix(bits, base, *port, Wanted { allocated: true, ..*row });
            }
            let refuse = Wanted::of(None, OnDown::Reject);
            let refuse = Wanted { verdict: RowVerdict::Refuse, allocated: true, ..refuse };
            self.prefix(bits, base, 0, refuse);
        }
    }

    fn exact(&mut self, ip: IpAddr, port: u16, wanted: Wanted) {
        self.exact.entry(RowKey::new(ip, port)).or_insert(wanted).join(wanted);
    }

    fn prefix(&mut self, bits: u8, ip: IpAddr, port: u16, wanted: Wanted) {
        self.prefixes.entry((bits, RowKey::new(ip, port))).or_insert(wanted).join(wanted);
    }

    fn finish(self, policy: &Policy) -> KernelRows {
        KernelRows {
            exact: sorted(self.exact, number),
            prefixes: sorted(self.prefixes, |(bits, key)| (*bits, number(key))),
            ports: self.ports.into_iter().map(|(key, wanted)| (key, wanted.row())).collect(),
            deny_unknown: policy.denies(),
            ..KernelRows::default()
        }
    }
}

/// Rows in the order of their keys. Numbers are faster to sort by than keys, in the same order.
fn sorted<K: Ord, N: Ord>(rows: FastMap<K, Wanted>, number: impl Fn(&K) -> N) -> BTreeMap<K, Row> {
    let mut rows: Vec<_> =
        rows.into_iter().map(|(key, wanted)| (number(&key), key, wanted)).collect();
    rows.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    rows.into_iter().map(|(_, key, wanted)| (key, wanted.row())).collect()
}

fn number(key: &RowKey) -> (u16, u8, u128) {
    (key.port(), key.family(), u128::from_be_bytes(*key.addr().bytes()))
}

/// Whether a service's host can be resolved for ports that it does not declare.
pub(crate) fn resolves(service: &Service) -> bool {
    let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    by_name && !service.host.starts_with('*')
}
