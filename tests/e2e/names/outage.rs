//! Somebody is gone: the daemon, or the servers it asks.

use egressd_tests::{Bind, Node, Signal, Unbound, until};

use super::{
    UPSTREAM, node,
    resolution::{reached, servers, tcp, world},
    service,
};

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

#[test]
fn known_names_keep_working_while_no_upstream_answers() {
    // One attempt lasts a second.
    let servers_ = format!("nameserver {UPSTREAM}\noptions timeout:1 attempts:1\n");
    let node = Node::with_resolv_conf(&servers_);
    let _servers = world(&node);
    let zone = "db 1 IN A 10.77.0.2";
    let bind = Bind::start(&node.world, UPSTREAM, zone);
    // Attempts are a second apart, however many have failed.
    let mut daemon = node
        .daemon()
        .config("meshConfig: {dnsRefreshRate: 1s}")
        .resource(tcp("db", "DNS", &[]))
        .start();
    assert_eq!(reached(&node, "db.test", 5432, 1), servers(&[0]));
    drop(bind);
    daemon.wait_log("that names cannot be resolved", |line| {
        line.contains("WARN") && line.contains("db.test") && line.contains("go on serving")
    });
    // Many times longer than the answer is good. Doubling would need a minute for as many failures.
    until("six failures", || {
        assert_eq!(reached(&node, "db.test", 5432, 2), servers(&[0]));
        (daemon.number("/dns/resolution_failures") >= 6).then_some(())
    });
    assert_eq!(daemon.number("/dns/failing_names"), 1);
    assert!(daemon.number("/dns/stale_answers") > 0);
    // The name itself is ours; others are nobody's now.
    assert_eq!(short(&node, "db.test"), "240.240.0.1");
    let text = node.app(["dig", "+tries=1", "+time=15", "elsewhere.test"]).run().text();
    assert!(text.contains("status: SERVFAIL"), "{text}");
    assert!(daemon.number("/dns/upstream_failures") > 0);
    let bind = Bind::start(&node.world, UPSTREAM, "db 1 IN A 10.77.0.3");
    daemon.wait_log("that names are resolved again", |line| line.contains("an answer again"));
    until("the new address", || {
        (reached(&node, "db.test", 5432, 1) == servers(&[1])).then_some(())
    });
    assert_eq!(daemon.number("/dns/failing_names"), 0);
    assert!(bind.queries("db.test", "A") > 0);
    daemon.stop();
}

#[test]
fn known_names_do_not_serve_for_ever() {
    let node = node();
    let _servers = world(&node);
    let bind = Bind::start(&node.world, UPSTREAM, "db 1 IN A 10.77.0.2");
    let daemon = node
        .daemon()
        .config("dns: {cache: {maxStale: 3s}}")
        .resource(tcp("db", "DNS", &[]))
        .start();
    assert_eq!(reached(&node, "db.test", 5432, 1), servers(&[0]));
    drop(bind);
    until("a stale answer", || {
        assert_eq!(reached(&node, "db.test", 5432, 1), servers(&[0]));
        (daemon.number("/dns/stale_answers") > 0).then_some(())
    });
    until("the end of it", || (reached(&node, "db.test", 5432, 1) != servers(&[0])).then_some(()));
    until("its record", || daemon.records().pop().filter(|last| last.flags == "UH"));
    daemon.stop();
}
