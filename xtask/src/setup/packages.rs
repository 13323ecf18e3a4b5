//! Debian packages that the tests, the demo and the kernels need.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{cmd, setup::bring};

/// Package and what it is for.
const PACKAGES: [(&str, &str); 32] = [
    ("bind9", "an authoritative DNS server"),
    ("bind9-dnsutils", "dig and nsupdate"),
    ("busybox-static", "userland of the kernels' guest"),
    ("chromium", "the browser"),
    ("curl", "the client that everybody has"),
    ("default-jdk-headless", "java, whose resolver is its own"),
    ("dnsmasq-base", "the DNS stub of many a node"),
    ("dnsperf", "DNS queries as fast as they go"),
    ("g++", "compiles libFuzzer"),
    ("gcc", "the linker of host programs"),
    ("golang-go", "go, whose resolver is its own"),
    ("haproxy", "a proxy to measure against"),
    ("iproute2", "namespaces, addresses, links"),
    ("libnginx-mod-stream", "makes nginx a proxy to measure against"),
    ("mariadb-client", "mariadb"),
    ("mariadb-server", "a database that speaks first"),
    ("musl-tools", "programs with musl's resolver"),
    ("nftables", "turns connections to the proxies measured against"),
    ("nghttp2-client", "h2load, which speaks HTTP/2"),
    ("nginx", "an HTTP server as people run it"),
    ("nodejs", "node, which resolves in two ways"),
    ("openssl", "s_client, s_server, certificates"),
    ("postgresql", "a database as people run it, with psql"),
    ("python3", "clients of unusual socket calls"),
    ("python3-venv", "an environment for what PyPI has"),
    ("qemu-system-x86", "boots the other kernels"),
    ("redis-server", "Redis"),
    ("redis-tools", "redis-cli"),
    ("tinyproxy-bin", "a forward proxy that takes CONNECT"),
    ("unbound", "a DNS server as people run it"),
    ("util-linux", "nsenter, unshare"),
    ("wrk", "HTTP as fast as it goes"),
];

/// Installs the missing ones; no prompt, and no service is started.
pub(crate) fn bring_missing() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root()? {
        bail!(
            "these Debian packages are missing: {0}; run `sudo apt-get install {0}`",
            missing.join(" ")
        );
    }
    bring("apt's package lists", &mut apt(&["update"]))?;
    let _no_services = NoServices::new()?;
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    bring(&missing.join(" "), install.args(&missing))
}

/// Whether this process may install packages and make namespaces.
pub(crate) fn is_root() -> Result<bool> {
    Ok(cmd::stdout(Command::new("id").arg("-u"))?.trim() == "0")
}

fn missing() -> Result<Vec<&'static str>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(PACKAGES.map(|(name, _)| name))
        .output()
        .context("cannot start `dpkg-query`: the tests need Debian or one of its children")?;
    let status = String::from_utf8_lossy(&output.stdout);
    let installed = |name: &str| status.lines().any(|line| line == format!("{name} installed"));
    Ok(PACKAGES.into_iter().map(|(name, _)| name).filter(|name| !installed(name)).collect())
}

fn apt(arguments: &[&str]) -> Command {
    let mut apt = cmd::command("apt-get");
    apt.args(["--quiet", "--option", "Dpkg::Options::=--force-confold"]);
    apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// While it lives, Debian's own switch keeps packages from starting their services.
struct NoServices {
    /// Whether the file is ours to remove.
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        // 101 is "action forbidden by policy".
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {POLICY}"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(POLICY).is_err() {
            cmd::say(&format!("setup: {POLICY} could not be removed; it stops services"));
        }
    }
}
