//! Somebody is gone: the daemon, or the servers it asks.

use egressd_tests::{Node, Signal, Unbound, until};

use super::{UPSTREAM, node, service};

/// What `dig` says a name is; empty without an answer.
fn short(node: &Node, name: &str) -> String {
    let dig = node.app(["dig", "+short", "+tries=1", "+time=1", name]).run();
    dig.stdout.lines().find(|line| !line.starts_with(';')).unwrap_or_default().to_owned()
}

#[test]
fn a_daemon_that_hangs_leaves_names_to_the_upstream() {
    let node = node();
    let unbound = Unbound::start(&node.world, UPSTREAM, &["one.test. 5 A 192.0.2.9"]);
    let daemon = node.daemon().resource(service("one", "STATIC", &["192.0.2.1"])).start();
    assert_eq!(short(&node, "one.test"), "240.240.0.1");
    assert_eq!(unbound.queries("one.test", "A"), 0);
    daemon.signal(Signal::SIGSTOP);
    until("an answer without the daemon", || {
        (short(&node, "one.test") == "192.0.2.9").then_some(())
    });
    // From then on nobody waits for it.
    let plain = node.app(["dig", "+tcp", "+short", "+tries=1", "+time=1", "one.test"]);
    assert_eq!(plain.run().text(), "192.0.2.9");
    daemon.signal(Signal::SIGCONT);
    until("the daemon's answer again", || {
        (short(&node, "one.test") == "240.240.0.1").then_some(())
    });
    daemon.stop();
}

#[test]
fn a_daemon_that_is_gone_leaves_names_to_the_upstream() {
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["one.test. 5 A 192.0.2.9"]);
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let daemon = node.daemon().resource(one.as_str()).start();
    assert_eq!(short(&node, "one.test"), "240.240.0.1");
    daemon.signal(Signal::SIGKILL);
    daemon.wait().expect_code(137);
    assert_eq!(short(&node, "one.test"), "192.0.2.9");
    let daemon = node.daemon().resource(one).start();
    assert_eq!(short(&node, "one.test"), "240.240.0.1");
    daemon.stop();
    assert_eq!(short(&node, "one.test"), "192.0.2.9");
}
