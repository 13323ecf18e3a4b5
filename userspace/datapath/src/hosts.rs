//! The table of hosts and its reverse: which addresses stand for a name, and for whom an address
//! stands.
//!
//! Written and flipped with the rows of the same generation. The programs read the reverse, to say in
//! their events whom a connection was meant for; people read both.

use std::{net::IpAddr, sync::Arc};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError},
};
use egressd_abi::{Host, HostAddress, LONG_NAME, RowKey, SHORT_NAME, name_key, name_of};

use crate::{
    bytes::{self, HostAddressBytes, HostBytes, KeyBytes},
    error::Error,
    rows::take,
    sync::{Change, sync_sorted},
};

/// Hosts with names of up to 96 bytes.
const SHORT_LIMIT: u32 = 65_536;
/// Hosts with longer names.
const LONG_LIMIT: u32 = 4096;
/// Addresses that stand for hosts: two for each of as many hosts as get allocated ones.
const ADDRESS_LIMIT: u32 = 131_072;

/// The hosts of one generation that have addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTable {
    /// By name.
    names: Vec<(Arc<str>, Host)>,
    /// By address, with port 0.
    addresses: Vec<(RowKey, HostAddress)>,
}

/// What the kernel knows of hosts: one generation's tables, read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownHosts {
    /// The generation in force, as the daemon counts them.
    pub generation: u32,
    /// By name.
    pub names: Vec<(String, Host)>,
    /// By address.
    pub addresses: Vec<(IpAddr, HostAddress)>,
}

impl HostTable {
    /// A table of hosts, and of the addresses of every service with the service's index. Names are
    /// taken in lower case, and the first of several that are equal stays.
    pub fn new(
        hosts: impl IntoIterator<Item = (Arc<str>, Host)>,
        addresses: impl IntoIterator<Item = (IpAddr, u32)>,
    ) -> Self {
        let lower = |(name, host): (Arc<str>, Host)| match name.to_ascii_lowercase() {
            lower if *lower == *name => (name, host),
            lower => (lower.into(), host),
        };
        let mut names: Vec<_> = hosts.into_iter().map(lower).collect();
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        names.dedup_by(|(later, _), (first, _)| later == first);
        let mut all: Vec<_> =
            addresses.into_iter().map(|(ip, service)| (RowKey::new(ip, 0), service)).collect();
        all.sort_unstable();
        // A service may have an address twice: written, and allocated.
        all.dedup();
        let mut addresses: Vec<(RowKey, HostAddress)> = Vec::with_capacity(all.len());
        for (key, service) in all {
            match addresses.last_mut() {
                Some((last, address)) if *last == key => *address = address.shared(),
                Some(_) | None => addresses.push((key, HostAddress::new(service))),
            }
        }
        Self { names, addresses }
    }

    /// Refuses more than the maps hold, before any of them is touched.
    pub(crate) fn check_sizes(&self) -> Result<(), Error> {
        let long = self.names.iter().filter(|(name, _)| name.len() > SHORT_NAME).count();
        for (table, limit, wanted) in [
            ("host", SHORT_LIMIT, self.names.len() - long),
            ("long host name", LONG_LIMIT, long),
            ("host address", ADDRESS_LIMIT, self.addresses.len()),
        ] {
            if wanted > limit as usize {
                return Err(Error::TableFull { table, limit, wanted });
            }
        }
        Ok(())
    }
}

/// The maps of one generation, and what they hold.
#[derive(Debug)]
pub(crate) struct HostMaps {
    short: HashMap<MapData, [u8; SHORT_NAME], HostBytes>,
    long: HashMap<MapData, [u8; LONG_NAME], HostBytes>,
    addresses: HashMap<MapData, KeyBytes, HostAddressBytes>,
    held: HostTable,
}

impl HostMaps {
    pub(crate) fn take(bpf: &mut Ebpf, index: u8) -> Result<Self, Error> {
        Ok(Self {
            short: take(bpf, &format!("HOSTS_{index}"))?,
            long: take(bpf, &format!("HOSTS_LONG_{index}"))?,
            addresses: take(bpf, &format!("HOST_ADDRS_{index}"))?,
            held: HostTable::default(),
        })
    }

    /// Brings the maps to what is wanted.
    pub(crate) fn fill(&mut self, wanted: &HostTable) -> Result<(), Error> {
        let Self { short, long, addresses, held } = self;
        sync_sorted(&mut held.names, &wanted.names, |change| match change {
            Change::Put(name, host) => match (name_key(name), name_key(name)) {
                (Some(key), _) => short.insert(key, bytes::host(*host), 0),
                (None, Some(key)) => long.insert(key, bytes::host(*host), 0),
                // No name of DNS is this long; nobody can ask for it.
                (None, None) => Ok(()),
            },
            Change::Remove(name) => match (name_key(name), name_key(name)) {
                (Some(key), _) => short.remove(&key),
                (None, Some(key)) => long.remove(&key),
                (None, None) => Ok(()),
            },
        })
        .map_err(Error::bpf("writing hosts"))?;
        sync_sorted(&mut held.addresses, &wanted.addresses, |change| match change {
            Change::Put(key, host) => {
                addresses.insert(bytes::key(*key), bytes::host_address(*host), 0)
            }
            Change::Remove(key) => addresses.remove(&bytes::key(*key)),
        })
        .map_err(Error::bpf("writing addresses of hosts"))
    }

    /// Reads the maps: what the kernel holds, not what it was told.
    pub(crate) fn read(&self, generation: u32) -> Result<KnownHosts, Error> {
        let reading = || Error::bpf::<MapError>("reading the hosts in the kernel");
        let mut known = KnownHosts { generation, ..KnownHosts::default() };
        for entry in self.short.iter() {
            let (key, value) = entry.map_err(reading())?;
            known.add(&key, value);
        }
        for entry in self.long.iter() {
            let (key, value) = entry.map_err(reading())?;
            known.add(&key, value);
        }
        for entry in self.addresses.iter() {
            let (key, value) = entry.map_err(reading())?;
            let address = bytes::read_host_address(value);
            known.addresses.push((bytes::read_key(key).ip(), address));
        }
        known.names.sort_unstable();
        known.addresses.sort_unstable();
        Ok(known)
    }
}

impl KnownHosts {
    fn add(&mut self, key: &[u8], value: HostBytes) {
        if let Some(name) = name_of(key) {
            self.names.push((name.to_owned(), bytes::read_host(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(service: u32) -> Host {
        Host::new(Some([240, 240, 0, 1].into()), None, service)
    }

    #[test]
    fn names_are_in_lower_case_and_the_first_stays() {
        let names = [("b.Test", 1), ("a.test", 0), ("B.test", 2)];
        let table = HostTable::new(names.map(|(name, id)| (Arc::from(name), host(id))), []);
        let expected = [("a.test", 0), ("b.test", 1)];
        assert_eq!(table.names, expected.map(|(name, id)| (Arc::from(name), host(id))));
    }

    #[test]
    fn an_address_knows_how_many_share_it() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let table = HostTable::new([], [(ip(1), 5), (ip(2), 3), (ip(1), 4), (ip(2), 3)]);
        let key = |last| RowKey::new(ip(last), 0);
        let shared = HostAddress::new(4).shared();
        assert_eq!(table.addresses, [(key(1), shared), (key(2), HostAddress::new(3))]);
    }

    #[test]
    fn too_many_are_refused_by_name() {
        let long = |i: u32| (Arc::from(format!("{i:0>97}")), host(i));
        let table = HostTable::new((0..=LONG_LIMIT).map(long), []);
        let text = table.check_sizes().unwrap_err().to_string();
        assert!(text.contains("long host name table holds at most 4096 rows, and 4097"), "{text}");
        let some = HostTable::new((0..LONG_LIMIT).map(long), []);
        assert!(some.check_sizes().is_ok());
        let addresses = (0..=ADDRESS_LIMIT).map(|i| (IpAddr::from(i.to_be_bytes()), i));
        let text = HostTable::new([], addresses).check_sizes().unwrap_err().to_string();
        assert!(text.contains("host address table"), "{text}");
    }
}
