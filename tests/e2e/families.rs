//! Address families: each reaches the endpoint, sees what it dialled, and leaves one record.

use egressd_tests::{Behaviour, Daemon, NODE_V4, Node, Servers, WORLD_V4, WORLD_V6};

use crate::{
    clients::{dial, said},
    services,
};

const VIP_V4: &str = "192.0.2.10";
const VIP_V6: &str = "2001:db8::10";
const PORT: u16 = 27018;

/// A node where one service with an address of each family has one endpoint, named `one`.
fn node_with_service(endpoint: &str) -> (Node, Servers, Daemon) {
    let node = Node::new();
    let servers = Servers::one(&node.world, endpoint, Behaviour::named("one"));
    let service = services::tcp("one", &[VIP_V4, VIP_V6], PORT, &[endpoint]);
    let daemon = node.daemon().resource(service).start();
    (node, servers, daemon)
}

/// Dials an address and checks answer, peer address and record.
#[track_caller]
fn check(endpoint: &str, address: &str, options: &[&str], original: &str) {
    let (node, _servers, daemon) = node_with_service(endpoint);
    let printed = dial(&node, address, PORT, options).run().text();
    assert_eq!(said(&printed, "first"), "one", "{printed}\n{}", daemon.log());
    assert_eq!(said(&printed, "echo"), "ping");
    assert_eq!(said(&printed, "peer"), format!("{address} {PORT}"));
    let record = daemon.wait_record();
    assert_eq!(record.decision(), ("-", "outbound|27018||one.example", original));
    assert_eq!(record.upstream_host, endpoint);
    // "ping" there and back, after the name.
    assert_eq!((record.bytes_received, record.bytes_sent), (5, 9));
}

fn endpoint_v4() -> String {
    format!("{}:9000", WORLD_V4[0])
}

#[test]
fn v4() {
    check(&endpoint_v4(), VIP_V4, &[], "192.0.2.10:27018");
}

#[test]
fn v6() {
    check(&endpoint_v4(), VIP_V6, &[], "[2001:db8::10]:27018");
}

#[test]
fn v6_only_socket() {
    check(&endpoint_v4(), VIP_V6, &["--v6-only"], "[2001:db8::10]:27018");
}

#[test]
fn v4_mapped() {
    check(&endpoint_v4(), "::ffff:192.0.2.10", &[], "192.0.2.10:27018");
}

#[test]
fn v4_to_an_endpoint_of_v6() {
    check(&format!("[{}]:9000", WORLD_V6[0]), VIP_V4, &[], "192.0.2.10:27018");
}

#[test]
fn the_record_names_both_ends_of_both_connections() {
    let (node, _servers, daemon) = node_with_service(&endpoint_v4());
    let printed = dial(&node, VIP_V4, PORT, &[]).run().text();
    let record = daemon.wait_record();
    let client = said(&printed, "local").replace(' ', ":");
    assert_eq!(record.downstream_remote, client, "{}", record.line);
    let (address, _) = record.upstream_local.rsplit_once(':').unwrap();
    assert_eq!(address, NODE_V4, "{}", record.line);
}
