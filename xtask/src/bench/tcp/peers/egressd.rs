//! egressd, behind its own programs in the kernel.

use std::path::Path;

use anyhow::Result;
use egressd_tests::Running;

use super::{Peer, SNI, SNI_VIP, VIP};
use crate::bench::place::{BACKEND, PORTS};

/// Starts it; `log` is the access log's path, none if empty.
pub(super) fn start(peer: &Peer, program: &Path, log: &str) -> Result<Running> {
    let mut resources = vec![("tcp", service("tcp.example.test", VIP, "TCP", PORTS[0]))];
    // Two names in the same network: it is the SNI that decides.
    for (host, target) in [(SNI, PORTS[1]), ("other.example.test", PORTS[0])] {
        let (ip, port) = SNI_VIP;
        resources.push((host, service(host, (&format!("{ip}/31"), port), "TLS", target)));
    }
    peer.egressd(program, log, &resources)
}

fn service(host: &str, (vip, port): (&str, u16), protocol: &str, target: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {host}}}\n\
         spec:\n\
         \x20 hosts: [{host}]\n\
         \x20 addresses: [{vip}]\n\
         \x20 ports: [{{number: {port}, name: main, protocol: {protocol}, targetPort: {target}}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {BACKEND}}}]\n"
    )
}
