//! The servers that are compared, and where each is asked.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use egressd_tests::{Daemon, DaemonBuilder, Node, Running, Spawn, WORLD_V4, await_listener};
use tempfile::TempDir;

pub(super) use super::load::Server as Place;
use super::{
    MANY,
    load::{host, other},
};

/// Where unbound answers out of its cache.
const CACHE: &str = "127.0.0.9";
/// The server that applications ask, and that egressd forwards to.
const UPSTREAM: &str = WORLD_V4[0];
/// Where egressd's own server is reached without capture.
const SERVER: &str = "127.64.53.1";
/// 52 above the default of `capture.port`.
const SERVER_PORT: u16 = 15_053;
/// Hosts of one ServiceEntry.
const HOSTS_OF_ONE: u32 = 200;

/// Everything that runs. Dropped from the top: the daemons before their namespaces.
pub(super) struct Places {
    _daemons: [Daemon; 2],
    _unbounds: [Running; 2],
    large: Node,
    small: Node,
    folder: TempDir,
}

impl Places {
    pub(super) fn start(daemon: &Path, many: u32, few: u32) -> Result<Self> {
        let (large, small) = (Node::new(), Node::new());
        let folder = TempDir::with_prefix("egressd-bench-").context("a temporary folder")?;
        let mut records = String::new();
        for name in (0..MANY).flat_map(|number| [host(number), other(number)]) {
            writeln!(records, "  local-data: \"{name}. 86400 A 192.0.2.7\"")?;
        }
        let upstream = config(UPSTREAM, 1, &format!("  local-zone: \"test.\" static\n{records}"));
        let cache = format!(
            "  local-zone: \"test.\" nodefault\n\
             \x20 msg-cache-size: 64m\n\
             \x20 rrset-cache-size: 128m\n\
             forward-zone:\n\
             \x20 name: \".\"\n\
             \x20 forward-addr: {UPSTREAM}\n"
        );
        let unbound = |name: &str, text: &str| -> Result<Spawn<'_>> {
            let path = folder.path().join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Spawn::new(["/usr/sbin/unbound", "-d", "-c"]).arg(path))
        };
        let unbounds = [
            unbound("upstream.conf", &upstream)?.netns(&large.world).start(),
            unbound("cache.conf", &config(CACHE, 2, &cache))?.netns(&large.netns).start(),
        ];
        await_listener(&large.world, UPSTREAM, 53);
        await_listener(&large.netns, CACHE, 53);
        let daemons = [
            with_hosts(names_on(builder(&large, daemon)), many).start(),
            with_hosts(names_on(builder(&small, daemon)), few).start(),
        ];
        Ok(Self { _daemons: daemons, _unbounds: unbounds, large, small, folder })
    }

    /// A folder for files that last as long as this.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// unbound's cache.
    pub(super) fn unbound(&self) -> Place<'_> {
        Place { address: CACHE, port: 53, netns: &self.large.netns, cgroup: None }
    }

    /// egressd, for an application that believes to ask [`UPSTREAM`].
    pub(super) fn captured(&self) -> Place<'_> {
        Place { cgroup: Some(&self.large.apps), ..self.direct() }
    }

    /// egressd's server, not through the kernel's hooks.
    pub(super) fn server(&self) -> Place<'_> {
        Place { address: SERVER, port: SERVER_PORT, netns: &self.large.netns, cgroup: None }
    }

    /// The same of the daemon with few names.
    pub(super) fn small(&self) -> Place<'_> {
        Place { netns: &self.small.netns, ..self.server() }
    }

    /// The upstream itself.
    pub(super) fn direct(&self) -> Place<'_> {
        Place { address: UPSTREAM, port: 53, netns: &self.large.netns, cgroup: None }
    }
}

/// A daemon on a node, without an access log.
pub(super) fn builder<'a>(node: &'a Node, daemon: &Path) -> DaemonBuilder<'a> {
    node.daemon().binary(daemon).attach_only(&node.apps)
}

/// Names are answered, and hosts get addresses.
pub(super) fn names_on(builder: DaemonBuilder<'_>) -> DaemonBuilder<'_> {
    builder.config(&format!("dns: {{capture: [{UPSTREAM}], upstreams: [{UPSTREAM}]}}"))
}

/// Names are nobody's business here.
pub(super) fn names_off(builder: DaemonBuilder<'_>) -> DaemonBuilder<'_> {
    builder.config("dns: {capture: none, allocateVips: false}")
}

/// So many hosts without addresses of their own.
pub(super) fn with_hosts(builder: DaemonBuilder<'_>, count: u32) -> DaemonBuilder<'_> {
    (0..count).step_by(HOSTS_OF_ONE as usize).fold(builder, |builder, first| {
        let hosts = first..count.min(first + HOSTS_OF_ONE);
        let hosts: Vec<_> = hosts.map(|number| format!("  - {}\n", host(number))).collect();
        builder.resource(format!(
            "apiVersion: networking.istio.io/v1\n\
             kind: ServiceEntry\n\
             metadata: {{name: entry-{first}}}\n\
             spec:\n\
             \x20 hosts:\n{}\
             \x20 ports: [{{number: 443, name: tls, protocol: TLS}}]\n\
             \x20 resolution: DNS\n",
            hosts.concat()
        ))
    })
}

/// unbound's configuration: one address, without a log, and without DNSSEC, which nobody signs here.
fn config(address: &str, threads: u32, more: &str) -> String {
    format!(
        "server:\n\
         \x20 interface: {address}\n\
         \x20 access-control: 0.0.0.0/0 allow\n\
         \x20 do-daemonize: no\n\
         \x20 use-syslog: no\n\
         \x20 username: \"\"\n\
         \x20 chroot: \"\"\n\
         \x20 pidfile: \"\"\n\
         \x20 module-config: \"iterator\"\n\
         \x20 num-threads: {threads}\n\
         \x20 so-reuseport: yes\n\
         {more}"
    )
}
