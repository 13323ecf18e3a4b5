//! The rows of one generation for the kernel, and what changes between two.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use egressd_abi::{Matched, Row, RowKey};
use egressd_model::value::IpRange;

use crate::chain::mask;
use crate::path::DirectRoute;

/// Every row of a generation, in the order of the kernel's lookups (design.md, "The kernel side").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelRows {
    /// By address and port.
    pub exact: BTreeMap<RowKey, Row>,
    /// By block; the key is the prefix length and the masked address. Port 0 stands for any port.
    pub prefixes: BTreeMap<(u8, RowKey), Row>,
    /// By port alone.
    pub ports: BTreeMap<u16, Row>,
    /// Datagrams, which have rows of their own: an address and port may be both.
    pub udp: UdpRows,
    /// Where direct rows lead: each of them has a place in this list.
    pub direct: Vec<DirectRoute>,
    /// A destination without a row is refused: REGISTRY_ONLY.
    pub deny_unknown: bool,
}

/// Rows for datagrams to services' addresses; all of them are direct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpRows {
    /// By address and port.
    pub exact: BTreeMap<RowKey, Row>,
    /// By block and port.
    pub prefixes: BTreeMap<(u8, RowKey), Row>,
}

/// What turns one set of rows into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowsDiff {
    /// New and changed rows; `None` for rows that are gone.
    pub exact: BTreeMap<RowKey, Option<Row>>,
    /// The same by block.
    pub prefixes: BTreeMap<(u8, RowKey), Option<Row>>,
    /// The same by port.
    pub ports: BTreeMap<u16, Option<Row>>,
    /// The same for datagrams, by address and port.
    pub udp_exact: BTreeMap<RowKey, Option<Row>>,
    /// The same for datagrams, by block.
    pub udp_prefixes: BTreeMap<(u8, RowKey), Option<Row>>,
    /// The new list of direct routes, if it changes.
    pub direct: Option<Vec<DirectRoute>>,
    /// The new policy, if it changes.
    pub deny_unknown: Option<bool>,
}

impl KernelRows {
    /// Where a direct row leads.
    pub fn route(&self, row: &Row) -> Option<&DirectRoute> {
        let direct = row.verdict() == Some(egressd_abi::RowVerdict::Direct);
        self.direct.get(usize::try_from(row.direct()).ok()?).filter(|_| direct)
    }

    /// The row that the kernel finds for a destination, and in which table: the address and port,
    /// the longest block with the port, the longest block, the port, nothing.
    pub fn find(&self, destination: SocketAddr) -> (Matched, Row) {
        let (ip, port) = (destination.ip().to_canonical(), destination.port());
        if let Some(row) = self.exact.get(&RowKey::new(ip, port)) {
            return (Matched::Exact, *row);
        }
        let block = self.find_block(ip, port).or_else(|| self.find_block(ip, 0));
        match (block, self.ports.get(&port)) {
            (Some(row), _) => (Matched::Prefix, row),
            (None, Some(row)) => (Matched::Port, *row),
            (None, None) => (Matched::Nothing, Row::NONE),
        }
    }

    fn find_block(&self, ip: IpAddr, port: u16) -> Option<Row> {
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let row = |bits| self.prefixes.get(&(bits, RowKey::new(mask(ip, bits), port)));
        (0..=whole).rev().find_map(row).copied()
    }

    /// What turns `self` into `new`.
    pub fn diff(&self, new: &Self) -> RowsDiff {
        if std::ptr::eq(self, new) {
            return RowsDiff::default();
        }
        RowsDiff {
            exact: diff(&self.exact, &new.exact),
            prefixes: diff(&self.prefixes, &new.prefixes),
            ports: diff(&self.ports, &new.ports),
            udp_exact: diff(&self.udp.exact, &new.udp.exact),
            udp_prefixes: diff(&self.udp.prefixes, &new.udp.prefixes),
            direct: (self.direct != new.direct).then(|| new.direct.clone()),
            deny_unknown: (self.deny_unknown != new.deny_unknown).then_some(new.deny_unknown),
        }
    }

    /// Makes the changes.
    pub fn apply(&mut self, diff: &RowsDiff) {
        apply(&mut self.exact, &diff.exact);
        apply(&mut self.prefixes, &diff.prefixes);
        apply(&mut self.ports, &diff.ports);
        apply(&mut self.udp.exact, &diff.udp_exact);
        apply(&mut self.udp.prefixes, &diff.udp_prefixes);
        if let Some(direct) = &diff.direct {
            self.direct.clone_from(direct);
        }
        self.deny_unknown = diff.deny_unknown.unwrap_or(self.deny_unknown);
    }
}

impl UdpRows {
    /// The row for a destination, if there is one.
    pub fn find(&self, destination: SocketAddr) -> Option<Row> {
        let (ip, port) = (destination.ip().to_canonical(), destination.port());
        if let Some(row) = self.exact.get(&RowKey::new(ip, port)) {
            return Some(*row);
        }
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let row = |bits| self.prefixes.get(&(bits, RowKey::new(mask(ip, bits), port)));
        (0..=whole).rev().find_map(row).copied()
    }

    /// Adds a row, unless an earlier service has the place.
    pub(crate) fn add(&mut self, block: IpRange, port: u16, row: Row) {
        let key = RowKey::new(block.address(), port);
        if block.is_single() {
            self.exact.entry(key).or_insert(row);
        } else {
            self.prefixes.entry((block.prefix(), key)).or_insert(row);
        }
    }
}

impl RowsDiff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn diff<K: Ord + Copy>(old: &BTreeMap<K, Row>, new: &BTreeMap<K, Row>) -> BTreeMap<K, Option<Row>> {
    let mut changes = BTreeMap::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        match (gone, come) {
            (Some((key, _)), None) => changes.insert(*key, None),
            (gone, Some((key, row))) if gone.map(|(_, row)| row) != Some(row) => {
                changes.insert(*key, Some(*row))
            }
            (None | Some(_), Some(_)) | (None, None) => None,
        };
    }
}

fn apply<K: Ord + Copy>(rows: &mut BTreeMap<K, Row>, diff: &BTreeMap<K, Option<Row>>) {
    for (key, row) in diff {
        match row {
            Some(row) => rows.insert(*key, *row),
            None => rows.remove(key),
        };
    }
}
