//! A name table for tests.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use egressd_dns::{Found, Names};

/// Addresses by host or wildcard.
#[derive(Default)]
pub(crate) struct Table(HashMap<String, Entry>);

struct Entry {
    host: String,
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

impl Table {
    pub(crate) fn with(mut self, host: &str, addresses: &[IpAddr]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(address) => v4.push(*address),
                IpAddr::V6(address) => v6.push(*address),
            }
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.insert(host.clone(), Entry { host, v4, v6 });
        self
    }
}

impl Names for Table {
    fn find(&self, name: &str) -> Option<Found<'_>> {
        let parents = name.match_indices('.').map(|(dot, _)| format!("*{}", &name[dot..]));
        let keys = std::iter::once(name.to_owned()).chain(parents);
        let entry = keys.into_iter().find_map(|key| self.0.get(&key))?;
        Some(Found { host: &entry.host, v4: &entry.v4, v6: &entry.v6 })
    }
}
