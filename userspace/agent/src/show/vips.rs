//! Addresses that stand for hosts.

use std::sync::Arc;

use egressd_tables::{Service, Tables};
use serde_json::{Value, json};

use super::{Filter, Table};

/// Host, namespace, what was written and what was allocated, and who declares it.
pub(super) fn table(tables: &Tables, filter: &Filter) -> Table {
    let mut table =
        Table::new(&["SERVICE FQDN", "NAMESPACE", "ADDRESSES", "ALLOCATED", "SERVICE ENTRY"]);
    for service in chosen(tables, filter) {
        let or_dash = |items: Vec<String>| match items.is_empty() {
            true => "-".to_owned(),
            false => items.join(","),
        };
        table.add([
            service.host.to_string(),
            service.namespace.to_string(),
            or_dash(written(service)),
            or_dash(allocated(service)),
            service.entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        ]);
    }
    table
}

/// The same as JSON.
pub(super) fn json(tables: &Tables, filter: &Filter) -> Value {
    let one = |service: &Arc<Service>| {
        json!({
            "host": *service.host,
            "namespace": *service.namespace,
            "addresses": written(service),
            "allocated": allocated(service),
            "serviceEntries": service.entries.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    chosen(tables, filter).map(one).collect()
}

fn chosen<'a>(tables: &'a Tables, filter: &'a Filter) -> impl Iterator<Item = &'a Arc<Service>> {
    tables.services().iter().filter(|service| {
        let ports = filter.port.is_none_or(|port| service.port(port).is_some());
        let addresses = written(service).into_iter().chain(allocated(service));
        filter.name(&service.host)
            && filter.hosts([&*service.host])
            && ports
            && filter.addresses(addresses)
    })
}

fn written(service: &Service) -> Vec<String> {
    service.addresses.iter().map(ToString::to_string).collect()
}

fn allocated(service: &Service) -> Vec<String> {
    let vips = service.vips.iter().flat_map(|vip| vip.addresses());
    vips.map(|address| address.to_string()).collect()
}
