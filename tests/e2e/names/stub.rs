//! A resolver on the node itself: programs ask it, and it asks the world.

use std::fs;

use egressd_tests::{Daemon, Dnsmasq, Node, Unbound, until};
use tempfile::TempDir;

use super::{UPSTREAM, service};

/// Where systemd-resolved listens, and so its like.
const STUB: &str = "127.0.0.53";

/// A node whose resolv.conf names a stub.
fn node() -> Node {
    Node::with_resolv_conf(&format!("nameserver {STUB}\noptions timeout:2 attempts:3\n"))
}

/// dnsmasq among the applications of the node.
fn stub(node: &Node, options: &[&str]) -> Dnsmasq {
    let program = node.app(["/usr/sbin/dnsmasq"]);
    Dnsmasq::launch(program, &node.netns, STUB, "", options)
}

/// A file system below `/run` that says whom the stub asks, as systemd-resolved leaves it there.
fn run_folder() -> TempDir {
    let folder = TempDir::with_prefix("egressd-run-").unwrap();
    fs::create_dir_all(folder.path().join("systemd/resolve")).unwrap();
    let file = folder.path().join("systemd/resolve/resolv.conf");
    fs::write(file, format!("nameserver {UPSTREAM}\n")).unwrap();
    folder
}

fn dig(node: &Node, words: &[&str]) -> String {
    let dig = node.app(["dig", "+noall", "+answer", "+comments", "+tries=1", "+time=5"]);
    words.iter().fold(dig, |dig, word| dig.arg(word)).run().text()
}

#[track_caller]
fn assert_a(text: &str, address: &str) {
    let found = text.lines().any(|line| line.ends_with(&format!("A\t{address}")));
    assert!(found, "no {address} in:\n{text}");
}

#[test]
fn the_servers_behind_a_stub_are_asked_instead_of_it() {
    let node = node();
    let unbound = Unbound::start(&node.world, UPSTREAM, &["elsewhere.test. 5 A 192.0.2.7"]);
    let stub = stub(&node, &["--server=10.77.0.2"]);
    let run = run_folder();
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let daemon = node.daemon().sees(run.path(), "/run").resource(one).start();
    assert_a(&dig(&node, &["one.test"]), "240.240.0.1");
    assert_a(&dig(&node, &["elsewhere.test"]), "192.0.2.7");
    assert_a(&dig(&node, &["elsewhere.test", "+tcp"]), "192.0.2.7");
    assert_eq!(unbound.queries("elsewhere.test", "A"), 2);
    assert_eq!(stub.queries("elsewhere.test", "A") + stub.queries("one.test", "A"), 0);
    daemon.stop();
}

#[test]
fn who_speaks_to_the_stub_in_another_way_is_met_behind_it() {
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["elsewhere.test. 5 A 192.0.2.7"]);
    // Another port stands for D-Bus and varlink, by which nss-resolve asks systemd-resolved.
    let stub = stub(&node, &["--server=10.77.0.2"]);
    let aside = node.app(["/usr/sbin/dnsmasq"]);
    let aside = aside.arg("--keep-in-foreground").arg("--conf-file=/dev/null").arg("--no-hosts");
    let aside = aside.arg("--no-resolv").arg("--bind-interfaces").arg("--pid-file=");
    let aside = aside.arg("--user=root").arg("--group=root").arg("--cache-size=0");
    let aside = aside.arg("--listen-address=127.0.0.53").arg("--port=5353");
    let _aside = aside.arg("--server=10.77.0.2").start();
    let run = run_folder();
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let daemon = node.daemon().sees(run.path(), "/run").resource(one).start();
    let ask = |name: &str| {
        let dig = node.app(["dig", "+short", "+tries=1", "+time=5", "-p", "5353", name]);
        dig.run().stdout.trim().to_owned()
    };
    until("the stub's answer", || (ask("one.test") == "240.240.0.1").then_some(()));
    assert_eq!(ask("elsewhere.test"), "192.0.2.7");
    assert_eq!(stub.queries("one.test", "A"), 0);
    daemon.stop();
}

/// Waits for the line that says so.
fn wait_noticed(daemon: &mut Daemon) {
    daemon.wait_log("that the stub leads back", |line| {
        line.contains("leads back") && line.contains(STUB)
    });
}

#[test]
fn a_stub_that_asks_us_in_turn_is_noticed() {
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["elsewhere.test. 5 A 192.0.2.7"]);
    // Nothing says whom it asks, so it is asked itself; and what it asks is captured.
    let stub = stub(&node, &["--server=10.77.0.2"]);
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let empty = TempDir::new().unwrap();
    let daemon = node.daemon().sees(empty.path(), "/run").config("dns: {capture: all}");
    let mut daemon = daemon.resource(one).start();
    wait_noticed(&mut daemon);
    let text = dig(&node, &["elsewhere.test"]);
    assert!(text.contains("status: SERVFAIL"), "{text}");
    let text = dig(&node, &["elsewhere.test", "+tcp"]);
    assert!(text.contains("status: SERVFAIL"), "{text}");
    assert_a(&dig(&node, &["one.test"]), "240.240.0.1");
    assert_eq!(stub.queries("elsewhere.test", "A"), 0);
    assert_eq!(daemon.number("/dns/upstream_loops"), 2);
    daemon.stop();
}

#[test]
fn a_stub_whose_servers_nobody_knows_is_asked_itself() {
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["elsewhere.test. 5 A 192.0.2.7"]);
    let stub = stub(&node, &["--server=10.77.0.2"]);
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let empty = TempDir::new().unwrap();
    let daemon = node.daemon().sees(empty.path(), "/run").resource(one).start();
    assert_a(&dig(&node, &["one.test"]), "240.240.0.1");
    // What the stub asks is not captured: only queries to the stub are.
    assert_a(&dig(&node, &["elsewhere.test"]), "192.0.2.7");
    assert_eq!(stub.queries("elsewhere.test", "A"), 1);
    daemon.stop();
}
