//! The rows of one generation for the kernel, and what changes between two.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use egressd_abi::{Matched, Row, RowKey};

use crate::chain::mask;

/// Every row of a generation, in the order of the kernel's lookups (design.md, "The kernel side").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelRows {
    /// By address and port.
    pub exact: BTreeMap<RowKey, Row>,
    /// By block; the key is the prefix length and the masked address. Port 0 stands for any port.
    pub prefixes: BTreeMap<(u8, RowKey), Row>,
    /// By port alone.
    pub ports: BTreeMap<u16, Row>,
    /// A destination without a row is refused: REGISTRY_ONLY.
    pub deny_unknown: bool,
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
    /// The new policy, if it changes.
    pub deny_unknown: Option<bool>,
}

impl KernelRows {
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
            deny_unknown: (self.deny_unknown != new.deny_unknown).then_some(new.deny_unknown),
        }
    }

    /// Makes the changes.
    pub fn apply(&mut self, diff: &RowsDiff) {
        apply(&mut self.exact, &diff.exact);
        apply(&mut self.prefixes, &diff.prefixes);
        apply(&mut self.ports, &diff.ports);
        self.deny_unknown = diff.deny_unknown.unwrap_or(self.deny_unknown);
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
