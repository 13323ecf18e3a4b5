//! Programs that know only names: who answers them, and where their connections end.

mod addresses;
mod by_name;
mod capture;
mod clients;
mod crowd;
mod hostile;
mod outage;
mod resolution;
mod resolv_conf;
mod stub;

use egressd_tests::{Node, WORLD_V4};

/// The server that a node's resolv.conf names, in the world.
pub(crate) const UPSTREAM: &str = WORLD_V4[0];

/// A node whose programs ask [`UPSTREAM`] about names.
fn node() -> Node {
    Node::with_resolv_conf(&format!("nameserver {UPSTREAM}\noptions timeout:2 attempts:3\n"))
}

/// A ServiceEntry for `NAME.test` without an address of its own: HTTP on port 80, at port 9000 of
/// these endpoints; without any, of the host itself.
fn service(name: &str, resolution: &str, endpoints: &[&str]) -> String {
    entry(name, &format!("{name}.test"), "HTTP", 80, resolution, endpoints)
}

/// A ServiceEntry for one host, with `targetPort` 9000.
fn entry(
    name: &str,
    host: &str,
    protocol: &str,
    port: u16,
    resolution: &str,
    endpoints: &[&str],
) -> String {
    let listed: Vec<_> =
        endpoints.iter().map(|address| format!("  - {{address: \"{address}\"}}\n")).collect();
    let listed = if listed.is_empty() { String::new() } else { listed.concat() };
    let key = if listed.is_empty() { "" } else { "  endpoints:\n" };
    // The port of names that requests bring is the one they name.
    let target = if resolution == "DYNAMIC_DNS" { "" } else { ", targetPort: 9000" };
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 hosts: [\"{host}\"]\n\
         \x20 ports: [{{number: {port}, name: main, protocol: {protocol}{target}}}]\n\
         \x20 resolution: {resolution}\n{key}{listed}"
    )
}
