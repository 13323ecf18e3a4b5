//! A service at one address, and a daemon that takes this path or that.

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4};

use crate::{clients::storm, services::rule};

pub(super) const VIP: &str = "192.0.2.10";
pub(super) const VIP_V6: &str = "2001:db8::10";
pub(super) const PORT: u16 = 9000;
pub(super) const CLUSTER: &str = "outbound|9000||one.example";

/// The port that servers listen on at an address of the world.
pub(super) fn at(index: usize) -> String {
    format!("{}:{PORT}", WORLD_V4[index])
}

/// Servers at the world's three addresses, that say where they are.
pub(super) fn servers(node: &Node) -> Servers {
    Servers::tcp(&node.world, (0..3).map(|index| (at(index), Behaviour::named(at(index)))))
}

/// A STATIC service; each endpoint with what is written behind its address.
pub(super) fn service(endpoints: &[(usize, &str)]) -> String {
    let lines = endpoints.iter().map(|(index, more)| {
        let comma = if more.is_empty() { "" } else { ", " };
        format!("  - {{address: {}{comma}{more}}}\n", WORLD_V4[*index])
    });
    let lines: String = lines.collect();
    let endpoints = if lines.is_empty() { String::new() } else { format!("  endpoints:\n{lines}") };
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: one}}\n\
         spec:\n\
         \x20 hosts: [one.example]\n\
         \x20 addresses: [{VIP}, \"{VIP_V6}\"]\n\
         \x20 ports: [{{number: {PORT}, name: tcp, protocol: TCP}}]\n\
         \x20 resolution: STATIC\n{endpoints}"
    )
}

pub(super) const ALL: [(usize, &str); 3] = [(0, ""), (1, ""), (2, "")];

/// A daemon on this path, with a policy for the service.
pub(super) fn start(node: &Node, path: &str, service: &str, policy: &str) -> Daemon {
    let daemon = node.daemon().config(&format!("path: {path}")).resource(service);
    if policy.is_empty() { daemon.start() } else { daemon.resource(rule("one", policy)).start() }
}

/// How many of `count` connections, made one after the other, each of the servers gets.
#[track_caller]
pub(super) fn shares(node: &Node, daemon: &Daemon, count: usize) -> [u64; 3] {
    let before = daemon.records().len();
    storm(node, 1, count, &[(format!("{VIP}:{PORT}"), "any".to_owned())]).run().expect_code(0);
    let records = daemon.wait_records(before + count);
    let new = &records[before..];
    assert!(new.iter().all(|record| record.flags == "-"), "{new:#?}");
    [0, 1, 2]
        .map(|index| new.iter().filter(|record| record.upstream_host == at(index)).count() as u64)
}

/// Connections that the proxy has carried.
#[track_caller]
pub(super) fn proxied(daemon: &Daemon) -> u64 {
    daemon.number("/connections/opened")
}
