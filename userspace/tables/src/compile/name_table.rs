//! The name table: every host the node sees that has addresses (semantics.md §2).

use std::net::IpAddr;
use std::sync::Arc;

use crate::compile::services::Directory;
use crate::names::{NameEntry, NameTable};

/// Builds the table. Blocks are no answers; a host without single addresses is asked upstream.
pub(crate) fn build(services: &Directory) -> NameTable {
    let mut table = NameTable::default();
    for (id, service) in services.iter() {
        if services.owner(&service.host) != Some(id) {
            continue;
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for ip in service.ips() {
            match ip.to_canonical() {
                IpAddr::V4(ip) if !v4.contains(&ip) => v4.push(ip),
                IpAddr::V6(ip) if !v6.contains(&ip) => v6.push(ip),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
        if v4.is_empty() && v6.is_empty() {
            continue;
        }
        let entry = Arc::new(NameEntry { host: Arc::clone(&service.host), service: id, v4, v6 });
        if table.hosts.insert_shared(&service.host, Arc::clone(&entry)) {
            table.entries.push(entry);
        }
    }
    table
}
