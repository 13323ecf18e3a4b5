//! Putting a generation's rows into the kernel.
//!
//! Each table has two maps. The spare ones are brought from what they hold to what is wanted, then
//! one word, read once by every connect(), is flipped. Before spare maps are touched again every
//! program that could still read them must have ended: `membarrier(2)` waits for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
};
use egressd_abi::{Generation, MAX_DIRECT_ROUTES, Row, RowKey, lpm_bits};

use crate::{
    bytes::{self, GenerationBytes, KeyBytes, RouteBytes, RowBytes},
    direct::{DirectClusters, DirectRoute},
    error::Error,
    hosts::{HostMaps, HostTable, KnownHosts},
    sync::{Change, sync},
};

/// The rows of one generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelTable {
    /// `{address, port}`; a row for UDP has the key that `RowKey::udp` gives.
    pub exact: BTreeMap<RowKey, Row>,
    /// Networks: their length in bits and their first address, with a port or with port 0 for any.
    pub prefixes: BTreeMap<(u8, RowKey), Row>,
    /// Ports of any address, in host order.
    pub ports: BTreeMap<u16, Row>,
    /// Excluded networks with a port, or with port 0 for any.
    pub excludes: BTreeSet<(u8, RowKey)>,
    /// The policy is REGISTRY_ONLY.
    pub deny_unknown: bool,
    /// Hosts and their addresses.
    pub hosts: HostTable,
    /// The routes that direct rows name by their index; at most 16,384.
    pub directs: Vec<DirectRoute>,
}

impl KernelTable {
    /// Whether there are rows for UDP.
    pub(crate) fn has_datagrams(&self) -> bool {
        self.exact.keys().any(RowKey::is_udp) || self.prefixes.keys().any(|(_, key)| key.is_udp())
    }

    /// Adds a network whose destinations are left alone.
    pub fn exclude_network(&mut self, address: IpAddr, bits: u8) {
        self.excludes.insert((bits, RowKey::new(address, 0)));
    }

    /// Adds a port that is left alone, whatever the address.
    pub fn exclude_port(&mut self, port: u16) {
        for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            self.excludes.insert((0, RowKey::new(any, port)));
        }
    }
}

/// The two generations in the kernel.
pub(crate) struct Generations {
    active: Array<MapData, u32>,
    heads: Array<MapData, GenerationBytes>,
    slots: [Slot; 2],
    direct: DirectClusters,
    numbers: [u32; 2],
    current: usize,
}

impl Generations {
    pub(crate) fn take(bpf: &mut Ebpf, direct: DirectClusters) -> Result<Self, Error> {
        Ok(Self {
            active: take(bpf, "ACTIVE")?,
            heads: take(bpf, "GENERATIONS")?,
            slots: [Slot::take(bpf, 0)?, Slot::take(bpf, 1)?],
            direct,
            numbers: [0; 2],
            current: 0,
        })
    }

    /// Fills the spare maps. What is in force stays as it is.
    pub(crate) fn prepare(&mut self, number: u32, wanted: &KernelTable) -> Result<(), Error> {
        wait_for_readers();
        let spare = 1 - self.current;
        let Some(slot) = self.slots.get_mut(spare) else { return Ok(()) };
        slot.fill(wanted)?;
        slot.fill_routes(&self.direct.routes(spare, &wanted.directs)?)?;
        let head = Generation::new(number).deny_unknown(wanted.deny_unknown).tables(
            !wanted.prefixes.is_empty(),
            !wanted.ports.is_empty(),
            !wanted.excludes.is_empty(),
        );
        let head = head.datagrams(wanted.has_datagrams());
        self.heads
            .set(index(spare), bytes::generation(head), 0)
            .map_err(Error::bpf("writing the head of a generation"))?;
        if let Some(held) = self.numbers.get_mut(spare) {
            *held = number;
        }
        Ok(())
    }

    /// Puts what was prepared in force: one word.
    pub(crate) fn flip(&mut self) -> Result<(), Error> {
        let spare = 1 - self.current;
        self.active.set(0, index(spare), 0).map_err(Error::bpf("flipping the generation"))?;
        self.current = spare;
        Ok(())
    }

    /// Reads the hosts of the generation in force.
    pub(crate) fn hosts(&self) -> Result<KnownHosts, Error> {
        match (self.slots.get(self.current), self.numbers.get(self.current)) {
            (Some(slot), Some(number)) => slot.hosts.read(*number),
            (Some(_) | None, _) => Ok(KnownHosts::default()),
        }
    }
}

fn index(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(0)
}

/// The maps of one generation, and what they hold.
struct Slot {
    exact: HashMap<MapData, KeyBytes, RowBytes>,
    prefixes: LpmTrie<MapData, KeyBytes, RowBytes>,
    ports: HashMap<MapData, [u8; 2], RowBytes>,
    excludes: LpmTrie<MapData, KeyBytes, u32>,
    hosts: HostMaps,
    routes: Array<MapData, RouteBytes>,
    held: KernelTable,
    held_routes: Vec<egressd_abi::DirectRoute>,
}

impl Slot {
    fn take(bpf: &mut Ebpf, index: u8) -> Result<Self, Error> {
        Ok(Self {
            exact: take(bpf, &format!("EXACT_{index}"))?,
            prefixes: take(bpf, &format!("PREFIX_{index}"))?,
            ports: take(bpf, &format!("PORT_{index}"))?,
            excludes: take(bpf, &format!("EXCLUDE_{index}"))?,
            hosts: HostMaps::take(bpf, index)?,
            routes: take(bpf, &format!("DIRECTS_{index}"))?,
            held: KernelTable::default(),
            held_routes: Vec::new(),
        })
    }

    fn fill(&mut self, wanted: &KernelTable) -> Result<(), Error> {
        check_sizes(wanted)?;
        wanted.hosts.check_sizes()?;
        let Self { exact, prefixes, ports, excludes, hosts, held, .. } = self;
        sync(&mut held.exact, &wanted.exact, |change| match change {
            Change::Put(key, row) => exact.insert(bytes::key(*key), bytes::row(*row), 0),
            Change::Remove(key) => exact.remove(&bytes::key(*key)),
        })
        .map_err(Error::bpf("writing exact rows"))?;
        sync(&mut held.prefixes, &wanted.prefixes, |change| match change {
            Change::Put(key, row) => prefixes.insert(&lpm_key(key), bytes::row(*row), 0),
            Change::Remove(key) => prefixes.remove(&lpm_key(key)),
        })
        .map_err(Error::bpf("writing network rows"))?;
        sync(&mut held.ports, &wanted.ports, |change| match change {
            Change::Put(port, row) => ports.insert(port.to_be_bytes(), bytes::row(*row), 0),
            Change::Remove(port) => ports.remove(&port.to_be_bytes()),
        })
        .map_err(Error::bpf("writing port rows"))?;
        let mut was = held.excludes.iter().map(|key| (*key, ())).collect();
        let want = wanted.excludes.iter().map(|key| (*key, ())).collect();
        let result = sync(&mut was, &want, |change| match change {
            Change::Put(key, ()) => excludes.insert(&lpm_key(key), 1, 0),
            Change::Remove(key) => excludes.remove(&lpm_key(key)),
        });
        held.excludes = was.into_keys().collect();
        result.map_err(Error::bpf("writing excluded networks"))?;
        held.deny_unknown = wanted.deny_unknown;
        hosts.fill(&wanted.hosts)
    }

    /// Writes the routes that have changed. Those beyond stay: no row names them.
    fn fill_routes(&mut self, wanted: &[egressd_abi::DirectRoute]) -> Result<(), Error> {
        for (at, route) in wanted.iter().enumerate() {
            if self.held_routes.get(at) == Some(route) {
                continue;
            }
            self.routes
                .set(index(at), bytes::route(*route), 0)
                .map_err(Error::bpf("writing direct routes"))?;
            match self.held_routes.get_mut(at) {
                Some(held) => *held = *route,
                None => self.held_routes.push(*route),
            }
        }
        Ok(())
    }
}

/// The limits of the tables, as the eBPF maps are declared.
fn check_sizes(wanted: &KernelTable) -> Result<(), Error> {
    let tables = [
        ("address and port", 131_072, wanted.exact.len()),
        ("network", 131_072, wanted.prefixes.len()),
        ("excluded network", 4096, wanted.excludes.len()),
        ("direct route", MAX_DIRECT_ROUTES, wanted.directs.len()),
    ];
    for (table, limit, wanted) in tables {
        if wanted > limit as usize {
            return Err(Error::TableFull { table, limit, wanted });
        }
    }
    Ok(())
}

fn lpm_key((bits, key): &(u8, RowKey)) -> Key<KeyBytes> {
    Key::new(lpm_bits(*bits), bytes::key(*key))
}

/// A map by its name, as the type it must have; a wrong size of key or value is an error here.
pub(crate) fn take<M>(bpf: &mut Ebpf, name: &str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = bpf.take_map(name).ok_or_else(|| Error::missing(name))?;
    map.try_into().map_err(Error::bpf(format!("opening the map {name}")))
}

/// Waits until every program that began before now has ended.
pub(crate) fn wait_for_readers() {
    // MEMBARRIER_CMD_GLOBAL is synchronize_rcu() (kernel/sched/membarrier.c), and programs run
    // inside an RCU read section. With one CPU it does nothing.
    let several = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    if !several || !membarrier() {
        // Far longer than a program can take.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[expect(unsafe_code, reason = "membarrier has no safe wrapper")]
fn membarrier() -> bool {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oversize_is_named() {
        let row = Row::new(egressd_abi::RowVerdict::Proxy, 0);
        let mut table = KernelTable::default();
        for i in 0..=131_072_u32 {
            let ip = Ipv4Addr::from(i);
            table.exact.insert(RowKey::new(ip.into(), 1), row);
        }
        let text = check_sizes(&table).unwrap_err().to_string();
        assert!(text.contains("at most 131072 rows, and 131073 are wanted"), "{text}");
    }
}
