//! egressd, behind its own programs in the kernel.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use egressd_tests::{Running, Spawn};

use super::{Peer, SNI, SNI_VIP, VIP};
use crate::bench::tcp::place::{BACKEND, PORTS, PROXY_CPU};

/// Starts it; `log` is the access log's path, none if empty.
pub(super) fn start(peer: &Peer, program: &Path, log: &str) -> Result<Running> {
    let folder = peer.folder.path();
    fs::create_dir_all(folder.join("resources")).context("cannot make a folder")?;
    peer.write("egressd.yaml", &format!("accessLog: {{path: '{log}'}}\n"))?;
    peer.write("resources/tcp.yaml", &service("tcp.example.test", VIP, "TCP", PORTS[0]))?;
    // Two names in the same network: it is the SNI that decides.
    for (host, target) in [(SNI, PORTS[1]), ("other.example.test", PORTS[0])] {
        let (ip, port) = SNI_VIP;
        let service = service(host, (&format!("{ip}/31"), port), "TLS", target);
        peer.write(&format!("resources/{host}.yaml"), &service)?;
    }
    let cgroup = peer.cgroup.as_ref().context("egressd has a cgroup")?;
    let daemon = Spawn::new(["taskset", "--cpu-list", PROXY_CPU]).arg(program).arg("run");
    let daemon = daemon.arg("--config").arg(folder).arg("--state").arg(folder.join("state"));
    let daemon = daemon.arg("--admin").arg(folder.join("admin.sock"));
    let daemon = daemon.arg("--cgroup").arg(cgroup.path()).netns(&peer.netns);
    let mut daemon = daemon.env("RUST_LOG", "info").start();
    daemon.wait_stderr("that it is ready", |line| line.contains("ready"));
    Ok(daemon)
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
