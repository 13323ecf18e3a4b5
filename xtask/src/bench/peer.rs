//! A proxy that is measured beside others.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use egressd_tests::{Cgroup, Netns, Running, Spawn};
use tempfile::TempDir;

use super::{place::PROXY_CPU, usage};
use crate::cmd;

/// A proxy that runs, and where its clients go.
pub(super) struct Peer<K> {
    pub(super) kind: K,
    pub(super) netns: Netns,
    /// Where its clients are to be, if it matters.
    pub(super) cgroup: Option<Cgroup>,
    pub(super) folder: TempDir,
    /// Nothing: there is no proxy.
    pub(super) process: Option<Running>,
}

impl<K> Peer<K> {
    /// One that does not run yet; clients of a `captured` one are in a cgroup of their own.
    pub(super) fn new(kind: K, netns: Netns, captured: bool) -> Result<Self> {
        let folder = TempDir::with_prefix("egressd-bench-").context("a temporary folder")?;
        Ok(Self { kind, netns, cgroup: captured.then(Cgroup::new), folder, process: None })
    }

    /// Processor time of its processes so far.
    pub(super) fn processor_time(&self) -> Duration {
        self.family().into_iter().map(usage::processor_time).sum()
    }

    /// Resident memory of its processes in bytes.
    pub(super) fn resident(&self) -> f64 {
        self.family().into_iter().map(usage::resident).sum()
    }

    /// The process, and what it has started.
    pub(super) fn family(&self) -> Vec<u32> {
        self.process.as_ref().map(|process| usage::family(process.pid())).unwrap_or_default()
    }

    /// Writes a file into its folder, and gives its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Whether something in its namespace listens on a port.
    pub(super) fn listens(&self, port: u16) -> bool {
        listens(&self.netns, port)
    }

    /// Starts an egressd with these resources on the proxies' processor, and waits until it is ready.
    /// `log` is the access log's path, none if empty.
    pub(super) fn egressd(
        &self,
        program: &Path,
        log: &str,
        resources: &[(&str, String)],
    ) -> Result<Running> {
        let folder = self.folder.path();
        fs::create_dir_all(folder.join("resources")).context("cannot make a folder")?;
        self.write("egressd.yaml", &format!("accessLog: {{path: '{log}'}}\n"))?;
        for (name, text) in resources {
            self.write(&format!("resources/{name}.yaml"), text)?;
        }
        let cgroup = self.cgroup.as_ref().context("egressd has a cgroup")?;
        let daemon = Spawn::new(["taskset", "--cpu-list", PROXY_CPU]).arg(program).arg("run");
        let daemon = daemon.arg("--config").arg(folder).arg("--state").arg(folder.join("state"));
        let daemon = daemon.arg("--admin").arg(folder.join("admin.sock"));
        let daemon = daemon.arg("--cgroup").arg(cgroup.path()).netns(&self.netns);
        let mut daemon = daemon.env("RUST_LOG", "info").start();
        daemon.wait_stderr("that it is ready", |line| line.contains("ready"));
        Ok(daemon)
    }
}

/// Whether something in a namespace listens on a port.
pub(super) fn listens(netns: &Netns, port: u16) -> bool {
    let table = netns.run(|| fs::read_to_string("/proc/thread-self/net/tcp"));
    let end = format!(":{port:04X} 00000000:0000 0A");
    table.is_ok_and(|table| table.lines().any(|line| line.contains(&end)))
}

/// Where Envoy is: `ENVOY`, else in `PATH`; where it is not, that is said.
pub(super) fn envoy() -> Option<String> {
    let named = std::env::var("ENVOY").ok();
    let envoy = named.or_else(|| Some(cmd::find("envoy")?.to_string_lossy().into_owned()));
    if envoy.is_none() {
        cmd::say("Envoy is not here and left out: `ENVOY` names its program");
    }
    envoy
}
