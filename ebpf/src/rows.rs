//! Looking a destination up in the generation in force.
//!
//! The order is exact, network with port, network, port; the first hit wins.
#![expect(unsafe_code, reason = "map values may be replaced while they are read")]

use aya_ebpf::btf_maps::{HashMap, lpm_trie::Key};
use egressd_abi::{Generation, Matched, NO_SERVICE, Row, RowKey};

use crate::direct::random_below;
use crate::maps::{
    ACTIVE, DIRECTS_0, DIRECTS_1, EXACT_0, EXACT_1, EXCLUDE_0, EXCLUDE_1, GENERATIONS,
    HOST_ADDRS_0, HOST_ADDRS_1, OWN, OwnAddress, PORT_0, PORT_1, PREFIX_0, PREFIX_1,
};

/// All bits of a key count: the longest match wins.
const ALL_BITS: u32 = 8 * size_of::<RowKey>() as u32;

/// No cluster's slot.
pub(crate) const NO_CLUSTER: u32 = u32::MAX;

/// One generation, chosen once for a connect() so that it never sees two.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot {
    second: bool,
    pub(crate) head: Generation,
}

impl Snapshot {
    /// The generation in force.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let index = ACTIVE.get(0).copied().unwrap_or(0) & 1;
        let head = GENERATIONS.get(index).copied().unwrap_or_default();
        Self { second: index == 1, head }
    }

    /// The row for a destination, and the table that had it.
    #[inline(always)]
    pub(crate) fn row(&self, to: &RowKey) -> (Matched, Row) {
        let row = get(self.pick(&EXACT_0, &EXACT_1), to);
        if !row.is_none() {
            return (Matched::Exact, row);
        }
        if self.head.has_prefixes() {
            let table = self.pick(&PREFIX_0, &PREFIX_1);
            if let Some(row) = table.get(&Key::new(ALL_BITS, *to)) {
                return (Matched::Prefix, *row);
            }
            if let Some(row) = table.get(&Key::new(ALL_BITS, to.without_port())) {
                return (Matched::Prefix, *row);
            }
        }
        if self.head.has_ports() && !to.is_udp() {
            let row = get(self.pick(&PORT_0, &PORT_1), &to.port_bytes());
            if !row.is_none() {
                return (Matched::Port, row);
            }
        }
        (Matched::Nothing, Row::NONE)
    }

    /// Whether the configuration excludes the destination.
    #[inline(always)]
    pub(crate) fn excludes(&self, to: &RowKey) -> bool {
        if !self.head.has_excludes() {
            return false;
        }
        let table = self.pick(&EXCLUDE_0, &EXCLUDE_1);
        table.get(&Key::new(ALL_BITS, *to)).is_some()
            || table.get(&Key::new(ALL_BITS, to.without_port())).is_some()
    }

    /// The cluster a direct row leads to: one of its route's, by their weights. [`NO_CLUSTER`] if the
    /// route has none.
    #[inline(always)]
    pub(crate) fn cluster(&self, row: &Row) -> u32 {
        let Some(route) = self.pick(&DIRECTS_0, &DIRECTS_1).get(row.direct()) else {
            return NO_CLUSTER;
        };
        match route.count {
            0 => NO_CLUSTER,
            1 => route.targets[0].cluster,
            _ => route.cluster(random_below(route.total)),
        }
    }

    /// The service that a destination's address stands for, whatever the port; [`NO_SERVICE`] if
    /// there is none or several.
    #[inline(always)]
    pub(crate) fn service_at(&self, to: &RowKey) -> u32 {
        // SAFETY: the value is copied at once; see `get`.
        match unsafe { self.pick(&HOST_ADDRS_0, &HOST_ADDRS_1).get(to.without_port()) } {
            Some(address) => address.only(),
            None => NO_SERVICE,
        }
    }

    #[inline(always)]
    fn pick<T>(&self, first: &'static T, second: &'static T) -> &'static T {
        if self.second { second } else { first }
    }
}

/// Whether `to` is an address of the network namespace.
#[inline(always)]
pub(crate) fn is_own_address(netns: u64, to: &RowKey) -> bool {
    let key = OwnAddress { netns, address: to.without_port(), reserved: 0 };
    OWN.get_ptr(key).is_some()
}

#[inline(always)]
fn get<K, const N: usize, const F: usize>(table: &'static HashMap<K, Row, N, F>, key: &K) -> Row {
    // SAFETY: the value is copied at once. A spare table is only rewritten after every program that
    // could still read it has ended (the daemon waits for an RCU grace period after a flip).
    match unsafe { table.get(key) } {
        Some(row) => *row,
        None => Row::NONE,
    }
}
