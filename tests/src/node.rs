//! The place a test happens in: a node with applications, and a world with servers.

use std::{ffi::OsStr, fs, path::PathBuf};

use tempfile::TempDir;

use crate::{cgroup::Cgroup, daemon::DaemonBuilder, netns::Netns, process::Spawn};

/// The node's own address on the link to the world.
pub const NODE_V4: &str = "10.77.0.1";
/// The node's own IPv6 address on the link to the world.
pub const NODE_V6: &str = "fd77::1";
/// The first three addresses of the world; servers listen on them.
pub const WORLD_V4: [&str; 3] = ["10.77.0.2", "10.77.0.3", "10.77.0.4"];
/// The first two IPv6 addresses of the world.
pub const WORLD_V6: [&str; 2] = ["fd77::2", "fd77::3"];

/// Two linked namespaces, neither with a default route, and a cgroup with one child for
/// applications and one for the daemon.
///
/// Addresses outside 10.77.0.0/24 and fd77::/64 are unreachable unless captured.
#[derive(Debug)]
pub struct Node {
    /// Child of [`Node::cgroup`] for what is captured.
    pub apps: Cgroup,
    /// Child of [`Node::cgroup`] for the daemon.
    pub agent: Cgroup,
    /// Where the daemon attaches, unless told otherwise.
    pub cgroup: Cgroup,
    /// Where applications and the daemon live.
    pub netns: Netns,
    /// Where servers live.
    pub world: Netns,
    /// Files that applications and the daemon see in the place of the machine's.
    files: Option<TempDir>,
}

/// The file that says whom programs ask about names.
const RESOLV_CONF: &str = "/etc/resolv.conf";

impl Node {
    /// Makes one; needs root.
    #[expect(clippy::new_without_default, reason = "making namespaces is no default")]
    pub fn new() -> Self {
        let (netns, world) = (Netns::new(), Netns::new());
        let here = [format!("{NODE_V4}/24"), format!("{NODE_V6}/64")];
        let there = WORLD_V4.map(|address| format!("{address}/24")).into_iter();
        let there: Vec<_> = there.chain(WORLD_V6.map(|address| format!("{address}/64"))).collect();
        netns.link("up0", &refs(&here), &world, "down0", &refs(&there));
        let cgroup = Cgroup::new();
        let (apps, agent) = (cgroup.child("apps"), cgroup.child("agent"));
        Self { apps, agent, cgroup, netns, world, files: None }
    }

    /// One whose applications and daemon have this `/etc/resolv.conf` instead of the machine's.
    pub fn with_resolv_conf(text: &str) -> Self {
        let folder = TempDir::with_prefix("egressd-node-").expect("a temporary folder");
        fs::write(folder.path().join("resolv.conf"), text).expect("a new file");
        Self { files: Some(folder), ..Self::new() }
    }

    /// Where the `/etc/resolv.conf` of [`Node::with_resolv_conf`] really is.
    pub fn resolv_conf(&self) -> Option<PathBuf> {
        self.files.as_ref().map(|folder| folder.path().join("resolv.conf"))
    }

    /// Lets a program see this node's files.
    fn seeing<'a>(&self, spawn: Spawn<'a>) -> Spawn<'a> {
        match self.resolv_conf() {
            Some(path) => spawn.sees(&path, RESOLV_CONF),
            None => spawn,
        }
    }

    /// A program among the applications.
    pub fn app<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Spawn<'_> {
        self.seeing(Spawn::new(words).netns(&self.netns).cgroup(&self.apps))
    }

    /// A Python program among the applications, with arguments to be added.
    pub fn python(&self, script: &str) -> Spawn<'_> {
        self.app(["/usr/bin/python3", "-c", script])
    }

    /// `curl` among the applications: silent but for errors, with a limit of its own.
    pub fn curl(&self, url: &str) -> Spawn<'_> {
        self.app(["curl", "--silent", "--show-error", "--max-time", "15", "--noproxy", "*", url])
    }

    /// A daemon on this node, attached to [`Node::cgroup`].
    pub fn daemon(&self) -> DaemonBuilder<'_> {
        let builder = DaemonBuilder::new(&self.netns).inside(&self.agent).attach(&self.cgroup);
        match self.resolv_conf() {
            Some(path) => builder.sees(&path, RESOLV_CONF),
            None => builder,
        }
    }

    /// A program in the world.
    pub fn server<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Spawn<'_> {
        Spawn::new(words).netns(&self.world)
    }
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
