//! Endpoints that fail, come back, come and go.

use egressd_tests::{Behaviour, Bind, Node, Servers, until};

use super::world::{ALL, PORT, VIP, at, proxied, servers, service, shares, start};
use crate::clients::{dial, said};

/// What the server says, or the error.
fn first(node: &Node) -> String {
    let printed = dial(node, VIP, PORT, &[]).run().text();
    match said(&printed, "error") {
        "-" => said(&printed, "first").to_owned(),
        error => error.to_owned(),
    }
}

#[test]
fn an_endpoint_that_refuses_is_out_for_a_while() {
    let node = Node::new();
    let list = [0, 1].map(|index| (at(index), Behaviour::named(at(index))));
    let _servers = Servers::tcp(&node.world, list);
    let policy = "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 2, \
                  interval: 1s, baseEjectionTime: 3s, maxEjectionPercent: 50}";
    let daemon = start(&node, "direct", &service(&ALL), policy);
    let outcomes: Vec<_> = (0..9).map(|_| first(&node)).collect();
    let refused = outcomes.iter().filter(|outcome| *outcome == "ECONNREFUSED").count();
    assert_eq!(refused, 2, "{outcomes:?}");
    assert!(daemon.log().contains("an endpoint is taken out"));
    for _ in 0..6 {
        assert_ne!(first(&node), "ECONNREFUSED");
    }
    // It is tried again without anybody's asking for it.
    let _third = Servers::one(&node.world, &at(2), Behaviour::named(at(2)));
    until("it to be back", || (first(&node) == at(2)).then_some(()));
    let records = daemon.records();
    let failed: Vec<_> = records.iter().filter(|record| record.flags == "UF,URX").collect();
    assert_eq!(failed.len(), 2, "{records:#?}");
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
}

/// Says something, and does not mind what becomes of it.
const TALK: &str = "
import socket
try:
    with socket.create_connection(('192.0.2.10', 9000), timeout=15) as sock:
        sock.sendall(b'ping')
        sock.recv(100)
except OSError:
    pass
";

#[test]
fn an_endpoint_that_resets_is_out_too() {
    let node = Node::new();
    let list = [(at(0), Behaviour::named(at(0))), (at(1), Behaviour::Reset)];
    let _servers = Servers::tcp(&node.world, list);
    let policy = "loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 3, \
                  baseEjectionTime: 100s, maxEjectionPercent: 50}";
    for path in ["proxy", "direct"] {
        let daemon = start(&node, path, &service(&ALL[..2]), policy);
        until("it to be out", || {
            node.python(TALK).run();
            daemon.log().contains("an endpoint is taken out").then_some(())
        });
        for _ in 0..6 {
            assert_eq!(first(&node), at(0), "{path}");
        }
        daemon.stop();
    }
}

#[test]
fn without_endpoints_connect_fails_at_once() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = start(&node, "direct", &service(&[]), "");
    let outcome = first(&node);
    assert!(outcome.starts_with('E'), "{outcome}");
    let record = daemon.wait_record();
    assert_eq!((&*record.flags, &*record.upstream_host), ("UH", "-"), "{}", record.line);
    // Endpoints that come are used by the very next connection.
    daemon.put(0, &service(&ALL[1..2]));
    daemon.wait_number("/generation", 2);
    assert_eq!(first(&node), at(1));
    daemon.wait_records(2);
    daemon.put(0, &service(&ALL[2..]));
    daemon.wait_number("/generation", 3);
    assert_eq!(shares(&node, &daemon, 10), [0, 0, 10]);
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
}

#[test]
fn names_are_resolved_by_the_first_connection_and_followed() {
    let node = Node::with_resolv_conf("nameserver 10.77.0.2\n");
    let _servers = servers(&node);
    let bind = Bind::start(&node.world, "10.77.0.2", "db 1 IN A 10.77.0.3");
    let named = service(&ALL[..1]).replace("STATIC", "DNS").replace("10.77.0.2", "db.test");
    let daemon = start(&node, "direct", &named, "");
    assert_eq!(first(&node), at(1));
    daemon.wait_number("/connections/opened", 1);
    // From the second one on the kernel knows.
    until("the kernel to know", || {
        assert_eq!(first(&node), at(1));
        (daemon.number("/direct/begun") > 0).then_some(())
    });
    bind.update(&["delete db.test A", "add db.test 1 A 10.77.0.4"]);
    until("the new address", || (first(&node) == at(2)).then_some(()));
    let before = proxied(&daemon);
    assert_eq!(first(&node), at(2));
    assert_eq!(proxied(&daemon), before, "the answer is told, not looked for");
    daemon.stop();
}
