//! `/etc/resolv.conf` changes while the daemon runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use egressd_tests::{Daemon, Node, Unbound, WORLD_V4, until};
use serde_json::json;
use tempfile::TempDir;

use super::service;

/// The folders `/etc` and `/run` as the daemon sees them.
struct Files {
    etc: TempDir,
    run: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = |name: &str| TempDir::with_prefix(format!("egressd-{name}-")).unwrap();
        let files = Self { etc: folder("etc"), run: folder("run") };
        fs::create_dir_all(files.run.path().join("systemd/resolve")).unwrap();
        // Beside resolv.conf, the C library and the TLS stack look into /etc.
        for name in ["hosts", "nsswitch.conf"] {
            fs::copy(Path::new("/etc").join(name), files.etc.path().join(name)).unwrap();
        }
        fs::create_dir_all(files.etc.path().join("ssl/certs")).unwrap();
        let certificates = "ssl/certs/ca-certificates.crt";
        fs::copy(Path::new("/etc").join(certificates), files.etc.path().join(certificates))
            .unwrap();
        files
    }

    fn resolv_conf(&self) -> PathBuf {
        self.etc.path().join("resolv.conf")
    }

    fn behind_stub(&self) -> PathBuf {
        self.run.path().join("systemd/resolve/resolv.conf")
    }

    fn start(&self, node: &Node) -> Daemon {
        let one = service("one", "STATIC", &["192.0.2.1"]);
        let builder = node.daemon().sees(self.etc.path(), "/etc").sees(self.run.path(), "/run");
        builder.resource(one).start()
    }
}

/// Puts a new file in the place of the old one.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[track_caller]
fn wait_servers(daemon: &Daemon, captured: &[&str], upstream: &str) {
    let upstreams = json!([format!("udp://{upstream}:53")]);
    until(&format!("queries to {captured:?} to be captured, and {upstream} asked"), || {
        let dns = daemon.status()["dns"].clone();
        (dns["captured"] == json!(captured) && dns["upstreams"] == upstreams).then_some(())
    });
}

/// The address of a name that one server is asked for; `none` if nobody answers.
fn ask(node: &Node, server: &str, name: &str) -> String {
    let dig = node.app(["dig", "+short", "+tries=1", "+time=2", &format!("@{server}"), name]);
    let printed = dig.run().stdout;
    let last = printed.lines().rfind(|line| line.parse::<std::net::IpAddr>().is_ok());
    last.unwrap_or("none").to_owned()
}

const OLD: &str = WORLD_V4[0];
const NEW: &str = WORLD_V4[1];

#[test]
fn servers_and_upstreams_follow_resolv_conf() {
    let node = Node::new();
    let _old = Unbound::start(&node.world, OLD, &["elsewhere.test. 5 A 192.0.2.7"]);
    let new = Unbound::start(&node.world, NEW, &["elsewhere.test. 5 A 192.0.2.8"]);
    let files = Files::new();
    replace(&files.resolv_conf(), &format!("nameserver {OLD}\n"));
    let mut daemon = files.start(&node);
    wait_servers(&daemon, &[OLD], OLD);
    assert_eq!(ask(&node, OLD, "one.test"), "240.240.0.1");
    assert_eq!(ask(&node, OLD, "elsewhere.test"), "192.0.2.7");
    assert_eq!(ask(&node, NEW, "one.test"), "none", "nobody has named that server yet");

    // A new file in the place of the old one.
    replace(&files.resolv_conf(), &format!("nameserver {NEW}\n"));
    wait_servers(&daemon, &[NEW], NEW);
    assert_eq!(ask(&node, NEW, "one.test"), "240.240.0.1");
    let asked = new.queries("elsewhere.test", "A");
    assert_eq!(ask(&node, NEW, "elsewhere.test"), "192.0.2.8");
    assert_eq!(new.queries("elsewhere.test", "A"), asked + 1);
    assert_eq!(ask(&node, OLD, "one.test"), "none", "that server is nobody's any more");

    // Files that are no good: the last good one holds, and one warning says so.
    for bad in ["", "nameserver\n", "nameserver nowhere\n"] {
        replace(&files.resolv_conf(), bad);
        daemon.wait_log("that servers stay", |line| line.contains("the DNS servers stay"));
        assert_eq!(ask(&node, NEW, "one.test"), "240.240.0.1");
    }
    assert_eq!(daemon.log().matches("the DNS servers stay").count(), 1, "{}", daemon.log());

    // A symbolic link to a stub's file, and the servers behind the stub, which move as well.
    replace(&files.behind_stub(), &format!("nameserver {OLD}\n"));
    let stub = files.run.path().join("systemd/resolve/stub-resolv.conf");
    replace(&stub, "nameserver 127.0.0.53\n");
    fs::remove_file(files.resolv_conf()).unwrap();
    symlink("/run/systemd/resolve/stub-resolv.conf", files.resolv_conf()).unwrap();
    wait_servers(&daemon, &[OLD, "127.0.0.53"], OLD);
    assert_eq!(ask(&node, "127.0.0.53", "one.test"), "240.240.0.1");
    assert_eq!(ask(&node, "127.0.0.53", "elsewhere.test"), "192.0.2.7");
    replace(&files.behind_stub(), &format!("nameserver {NEW}\n"));
    wait_servers(&daemon, &[NEW, "127.0.0.53"], NEW);
    assert_eq!(ask(&node, "127.0.0.53", "elsewhere.test"), "192.0.2.8");
    daemon.stop();
}
