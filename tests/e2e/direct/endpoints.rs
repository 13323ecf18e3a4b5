//! Connections reach endpoints with nothing in between, and nobody notices.

use egressd_tests::{Behaviour, Node, Servers, WORLD_V4, WORLD_V6};

use super::world::{ALL, CLUSTER, PORT, VIP, VIP_V6, at, proxied, servers, service, start};
use crate::{
    clients::{dial, said},
    services::tcp,
};

#[test]
fn the_application_sees_what_it_dialled() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = start(&node, "direct", &service(&ALL[..1]), "");
    for (target, options, peer) in [
        (VIP, &[][..], VIP),
        ("::ffff:192.0.2.10", &[], "::ffff:192.0.2.10"),
        (VIP, &["--non-blocking"], VIP),
        (VIP, &["--bind", "10.77.0.1,0"], VIP),
    ] {
        let printed = dial(&node, target, PORT, options).run().text();
        assert_eq!(said(&printed, "first"), at(0), "{target}: {printed}");
        assert_eq!(said(&printed, "echo"), "ping");
        assert_eq!(said(&printed, "peer"), format!("{peer} {PORT}"), "{printed}");
    }
    let records = daemon.wait_records(4);
    for record in &records {
        assert_eq!(record.decision(), ("-", CLUSTER, "192.0.2.10:9000"), "{}", record.line);
        assert_eq!(record.upstream_host, at(0));
        assert!(record.upstream_local.starts_with("10.77.0.1:"), "{}", record.line);
        assert_eq!((record.bytes_received, record.bytes_sent), (5, 20), "{}", record.line);
    }
    assert_eq!((proxied(&daemon), daemon.number("/direct/begun")), (0, 4));
    daemon.wait_number("/direct/active", 0);
    daemon.stop();
}

#[test]
fn each_family_where_it_can_be_reached() {
    let node = Node::new();
    let six = format!("[{}]:{PORT}", WORLD_V6[0]);
    let list = [(at(0), Behaviour::named("four")), (six.clone(), Behaviour::named("six"))];
    let _servers = Servers::tcp(&node.world, list);
    let both = tcp("one", &[VIP, VIP_V6], PORT, &[&at(0), &six]);
    let daemon = start(&node, "direct", &both, "");
    for _ in 0..10 {
        // A socket of IPv4 cannot reach the other one.
        assert_eq!(said(&dial(&node, VIP, PORT, &[]).run().text(), "first"), "four");
        let printed = dial(&node, VIP_V6, PORT, &["--v6-only"]).run().text();
        assert_eq!(said(&printed, "first"), "six");
        assert_eq!(said(&printed, "peer"), format!("{VIP_V6} {PORT}"));
    }
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
    // Where no endpoint can be reached, the proxy can.
    let daemon = start(&node, "direct", &tcp("one", &[VIP], PORT, &[&six]), "");
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!((said(&printed, "first"), said(&printed, "peer")), ("six", "192.0.2.10 9000"));
    daemon.wait_number("/connections/opened", 1);
    daemon.stop();
}

#[test]
fn another_port_of_the_destination() {
    let node = Node::new();
    let _servers = servers(&node);
    let service = "apiVersion: networking.istio.io/v1\n\
                   kind: ServiceEntry\n\
                   metadata: {name: one}\n\
                   spec:\n\
                   \x20 hosts: [one.example]\n\
                   \x20 addresses: [10.77.0.0/24]\n\
                   \x20 ports: [{number: 5000, name: tcp, protocol: TCP, targetPort: 9000}]\n\
                   \x20 resolution: NONE\n";
    let daemon = start(&node, "direct", service, "");
    for (index, address) in WORLD_V4.iter().enumerate() {
        let printed = dial(&node, address, 5000, &[]).run().text();
        assert_eq!(said(&printed, "first"), at(index), "{printed}");
        assert_eq!(said(&printed, "peer"), format!("{address} 5000"));
    }
    let records = daemon.wait_records(3);
    assert!(records.iter().all(|record| record.upstream_cluster == "outbound|5000||one.example"));
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
}

#[test]
fn weights_of_a_route() {
    let node = Node::new();
    let _servers = servers(&node);
    let routes = "apiVersion: networking.istio.io/v1\n\
                  kind: VirtualService\n\
                  metadata: {name: one}\n\
                  spec:\n\
                  \x20 hosts: [one.example]\n\
                  \x20 tcp:\n\
                  \x20 - route:\n\
                  \x20   - {destination: {host: one.example, subset: v1}, weight: 25}\n\
                  \x20   - {destination: {host: one.example, subset: v2}, weight: 75}\n";
    let subsets = "apiVersion: networking.istio.io/v1\n\
                   kind: DestinationRule\n\
                   metadata: {name: one}\n\
                   spec:\n\
                   \x20 host: one.example\n\
                   \x20 subsets:\n\
                   \x20 - {name: v1, labels: {version: v1}}\n\
                   \x20 - {name: v2, labels: {version: v2}}\n";
    let service = service(&[(0, "labels: {version: v1}"), (1, "labels: {version: v2}")]);
    let daemon = node.daemon().config("path: direct").resource(service).resource(subsets);
    let daemon = daemon.resource(routes).start();
    let [first, second, _] = super::world::shares(&node, &daemon, 400);
    // 100 expected; nearly five standard deviations.
    assert!((58..=142).contains(&first), "{first} {second}");
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
}

#[test]
fn the_annotation_and_the_configuration_switch_by_a_reload() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = start(&node, "proxy", &service(&ALL[..1]), "");
    let connect = || assert_eq!(said(&dial(&node, VIP, PORT, &[]).run().text(), "first"), at(0));
    connect();
    daemon.wait_number("/connections/opened", 1);
    let annotated = service(&ALL[..1])
        .replace("{name: one}", "{name: one, annotations: {egressd.io/path: direct}}");
    daemon.put(0, &annotated);
    daemon.wait_number("/generation", 2);
    connect();
    assert_eq!((proxied(&daemon), daemon.number("/direct/begun")), (1, 1));
    daemon.put(0, &service(&ALL[..1]));
    daemon.wait_number("/generation", 3);
    connect();
    daemon.wait_number("/connections/opened", 2);
    // The key of the daemon's own file is followed like resources.
    let file = daemon.folder().join("egressd.yaml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("path: proxy", "path: direct")).unwrap();
    daemon.wait_number("/generation", 4);
    connect();
    assert_eq!((proxied(&daemon), daemon.number("/direct/begun")), (2, 2));
    // What cannot be is refused, and everything stays as it was.
    daemon.put(0, &annotated.replace("TCP", "HTTP"));
    let mut daemon = daemon;
    daemon.wait_log("that it cannot be", |line| line.contains("path-not-direct"));
    connect();
    assert_eq!((proxied(&daemon), daemon.number("/direct/begun")), (2, 3));
    daemon.stop();
}
