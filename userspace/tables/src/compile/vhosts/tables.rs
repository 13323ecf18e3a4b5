//! Route tables made of others: that of one service, and that of the explicit proxy.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::host_map::HostMap;
use crate::route::{Domains, PortRule, RouteTable, VhostOrigin, VirtualHost};
use crate::service::Service;

/// The name of the explicit proxy's table.
pub(crate) const PROXY: &str = "http_proxy";

/// The table of one sniffed service at an address of its own: it answers to every host. `own` is the
/// virtual host that it has on its port.
pub(crate) fn private_table(
    own: Option<&Arc<VirtualHost>>,
    service: &Service,
    port: u16,
    strict: bool,
) -> RouteTable {
    let any = |own| VirtualHost { domains: vec![Arc::from("*")], ..VirtualHost::clone(own) };
    let virtual_hosts: Vec<_> = own.map(|own| Arc::new(any(own))).into_iter().collect();
    let mut domains = HostMap::default();
    for vhost in &virtual_hosts {
        domains.insert("*", Arc::clone(vhost));
    }
    let expected = own.filter(|_| strict).map(|own| {
        let mut expected = HostMap::default();
        for domain in domains_of(service) {
            expected.insert(&domain, Arc::clone(own));
        }
        Arc::new(Domains(expected))
    });
    let name = Arc::from(format!("{}:{port}", service.host));
    RouteTable { name, virtual_hosts, domains: PortRule::Ignored(Domains(domains)), expected }
}

/// The table of an explicit proxy, where the authority says which port is meant.
pub(crate) fn proxy_table(
    ports: BTreeMap<u16, Arc<RouteTable>>,
    catch_all: &Arc<VirtualHost>,
) -> RouteTable {
    let own = |vhost: &&Arc<VirtualHost>| vhost.origin != VhostOrigin::CatchAll;
    let all = ports.values().flat_map(|table| table.virtual_hosts.iter().filter(own)).cloned();
    RouteTable {
        name: Arc::from(PROXY),
        virtual_hosts: all.chain([Arc::clone(catch_all)]).collect(),
        domains: PortRule::Chooses { ports, otherwise: Arc::clone(catch_all) },
        expected: None,
    }
}

/// The Host headers of a service: its name, the same with a final dot, and its addresses.
pub(crate) fn domains_of(service: &Service) -> Vec<String> {
    let names = [service.host.to_string(), format!("{}.", service.host)];
    let addresses = service.ips().map(|ip| match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    });
    names.into_iter().chain(addresses).collect()
}
