//! Destinations that no service has, or that are nobody else's business.

use std::time::{Duration, Instant};

use egressd_tests::{
    Behaviour, Daemon, DaemonBuilder, NODE_V4, NODE_V6, Netns, Node, Servers, Spawn, WORLD_V4,
    until,
};

use crate::{
    clients::{dial, said},
    services,
};

const REGISTRY_ONLY: &str = "meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
const VIP: &str = "192.0.2.10";
const PORT: u16 = 9100;

/// Servers named after their addresses: in the world, and on the node itself.
fn servers(node: &Node) -> [Servers; 2] {
    let named = |address: &str| (format!("{address}:{PORT}"), Behaviour::named(address));
    let world = Servers::tcp(&node.world, [named(WORLD_V4[0]), named(WORLD_V4[1])]);
    let own = ["127.0.0.1", "[::1]", NODE_V4, &format!("[{NODE_V6}]")].map(named);
    [world, Servers::tcp(&node.netns, own)]
}

/// Who answers at an address and [`PORT`], or the error's name.
#[track_caller]
fn answer(node: &Node, address: &str) -> String {
    let printed = dial(node, address, PORT, &[]).run().text();
    let (name, error) = (said(&printed, "first"), said(&printed, "error"));
    (if name == "-" { error } else { name }).to_owned()
}

/// Local destinations are reached as if there were no daemon.
#[track_caller]
fn check_local(node: &Node, daemon: &Daemon) {
    for address in ["127.0.0.1", NODE_V4] {
        assert_eq!(answer(node, address), address, "{}", daemon.log());
    }
    assert_eq!(answer(node, "::1"), "[::1]");
    assert_eq!(answer(node, NODE_V6), format!("[{NODE_V6}]"));
    assert_eq!(answer(node, "::ffff:127.0.0.1"), "127.0.0.1");
    assert_eq!(daemon.records(), [], "{}", daemon.log());
}

#[test]
fn allow_any_leaves_the_unknown_in_the_kernel() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().start();
    assert_eq!(answer(&node, WORLD_V4[0]), WORLD_V4[0]);
    assert_eq!(daemon.number("/counters/unknown"), 1);
    assert_eq!(daemon.records(), []);
    check_local(&node, &daemon);
}

#[test]
fn registry_only_refuses_the_unknown_at_once() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().config(REGISTRY_ONLY).start();
    let start = Instant::now();
    assert_eq!(answer(&node, WORLD_V4[0]), "ECONNREFUSED", "{}", daemon.log());
    assert!(start.elapsed() < Duration::from_secs(5), "refused after {:?}", start.elapsed());
    let record = daemon.wait_record();
    assert_eq!(record.decision(), ("UH", "BlackHoleCluster", "10.77.0.2:9100"));
    assert_eq!(record.upstream_host, "-");
    assert_eq!(daemon.number("/counters/denied"), 1);
}

#[test]
fn a_policy_that_needs_the_proxy_leaves_local_destinations_alone() {
    let node = Node::new();
    let _servers = servers(&node);
    let policy = "meshConfig: {outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}}";
    let daemon = node.daemon().config(policy).start();
    check_local(&node, &daemon);
    // Everything else is the proxy's.
    assert_eq!(answer(&node, WORLD_V4[0]), WORLD_V4[0], "{}", daemon.log());
    assert_eq!(daemon.wait_record().upstream_cluster, "PassthroughCluster");
    daemon.stop();
}

#[test]
fn registry_only_leaves_local_destinations_alone() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().config(REGISTRY_ONLY).start();
    check_local(&node, &daemon);
}

#[test]
fn registry_only_reaches_services() {
    let node = Node::new();
    let servers = servers(&node);
    let service = services::tcp("known", &[VIP], PORT, &[&format!("{}:{PORT}", WORLD_V4[0])]);
    let daemon = node.daemon().config(REGISTRY_ONLY).resource(service).start();
    assert_eq!(answer(&node, VIP), WORLD_V4[0]);
    assert_eq!(daemon.wait_record().upstream_cluster, "outbound|9100||known.example");
    assert_eq!(servers[0].accepted(), 1);
}

/// A service without addresses takes every connection to its port.
fn port_only_service() -> String {
    services::tcp("everywhere", &[], PORT, &[&format!("{}:{PORT}", WORLD_V4[0])])
}

/// Without allocated addresses, which would take the service off its bare port.
fn with_port_only_service<'a>(node: &'a Node, config: &str) -> DaemonBuilder<'a> {
    let daemon = node.daemon().config("dns: {allocateVips: false}").config(config);
    daemon.resource(port_only_service())
}

#[test]
fn a_row_for_a_port_leaves_local_destinations_alone() {
    for config in ["", REGISTRY_ONLY] {
        let node = Node::new();
        let _servers = servers(&node);
        let daemon = with_port_only_service(&node, config).start();
        check_local(&node, &daemon);
        // Anything else on that port goes to the service, whoever is there.
        assert_eq!(answer(&node, WORLD_V4[1]), WORLD_V4[0]);
        assert_eq!(answer(&node, "198.51.100.7"), WORLD_V4[0]);
        let records = daemon.wait_records(2);
        assert_eq!(records[1].downstream_local, "198.51.100.7:9100");
    }
}

#[test]
fn a_loopback_address_that_a_service_names_is_captured() {
    let node = Node::new();
    let _servers = servers(&node);
    let endpoint = format!("{}:{PORT}", WORLD_V4[0]);
    let service = services::tcp("loop", &["127.5.5.5"], PORT, &[&endpoint]);
    let daemon = node.daemon().resource(service).start();
    assert_eq!(answer(&node, "127.5.5.5"), WORLD_V4[0]);
    assert_eq!(daemon.wait_record().downstream_local, "127.5.5.5:9100");
}

#[test]
fn the_longest_network_wins_and_an_address_before_it() {
    let node = Node::new();
    let names = ["exact", "long", "short"];
    let list = (0..)
        .zip(names)
        .map(|(index, name)| (format!("{}:{}", WORLD_V4[0], 9200 + index), Behaviour::named(name)));
    let _servers = Servers::tcp(&node.world, list);
    let networks = ["203.0.113.7", "203.0.113.0/28", "203.0.113.0/24"];
    let mut daemon = node.daemon();
    for (index, (name, network)) in (0..).zip(names.into_iter().zip(networks)) {
        let endpoint = format!("{}:{}", WORLD_V4[0], 9200 + index);
        daemon = daemon.resource(services::tcp(name, &[network], PORT, &[&endpoint]));
    }
    let daemon = daemon.start();
    assert_eq!(answer(&node, "203.0.113.7"), "exact", "{}", daemon.log());
    assert_eq!(answer(&node, "203.0.113.8"), "long");
    assert_eq!(answer(&node, "203.0.113.77"), "short");
    assert_eq!(answer(&node, "203.0.114.1"), "ENETUNREACH");
    daemon.wait_records(3);
}

#[test]
fn excluded_networks_and_ports_are_left_alone() {
    let node = Node::new();
    let endpoint = format!("{}:{PORT}", WORLD_V4[0]);
    let _servers = servers(&node);
    let service = services::tcp("net", &["203.0.113.0/24"], PORT, &[&endpoint]);
    let config = "capture: {excludeCidrs: [203.0.113.128/25], excludePorts: [9101]}";
    let daemon = node.daemon().config(config).config(REGISTRY_ONLY).resource(service).start();
    assert_eq!(answer(&node, "203.0.113.1"), WORLD_V4[0], "{}", daemon.log());
    assert_eq!(answer(&node, "203.0.113.200"), "ENETUNREACH");
    let printed = dial(&node, "203.0.113.1", 9101, &[]).run().text();
    assert_eq!(said(&printed, "error"), "ENETUNREACH");
    daemon.wait_records(1);
}

#[test]
fn the_proxy_is_not_dialled_by_hand() {
    let node = Node::new();
    let daemon = node.daemon().start();
    for (address, port) in [("127.64.0.1", 15001), ("127.100.0.1", 80), ("::1", 15001)] {
        let printed = dial(&node, address, port, &[]).run().text();
        assert_eq!(said(&printed, "error"), "ECONNREFUSED", "{address}\n{}", daemon.log());
    }
    assert_eq!(daemon.number("/counters/direct_dial"), 3);
}

#[test]
fn a_stranger_in_the_daemons_cgroup_is_refused() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().start();
    let words = ["bash", "-c", "exec 3<>/dev/tcp/10.77.0.2/9100"];
    let done = Spawn::new(words).netns(&node.netns).cgroup(&node.agent).run();
    assert!(done.stderr.contains("refused"), "{}\n{}", done.stderr, daemon.log());
    assert_eq!(daemon.number("/counters/unmarked"), 1);
}

/// What an application in a captured cgroup meets in a network namespace without our listener.
#[track_caller]
fn elsewhere(config: &str, annotation: &str) -> String {
    let node = Node::new();
    let other = Netns::new();
    let endpoint = format!("{}:{PORT}", WORLD_V4[0]);
    let service = services::tcp("known", &[VIP], PORT, &[&endpoint]);
    let metadata = format!("metadata: {{name: known{annotation}}}");
    let service = service.replace("metadata: {name: known}", &metadata);
    let _daemon = node.daemon().config(config).resource(service).start();
    let script = "import errno, socket\n\
                  code = socket.socket().connect_ex(('192.0.2.10', 9100))\n\
                  print(errno.errorcode[code])";
    let spawn = Spawn::new(["/usr/bin/python3", "-c", script]);
    spawn.netns(&other).cgroup(&node.apps).run().text()
}

#[test]
fn without_a_listener_in_the_namespace_the_policy_answers() {
    let reject = "capture: {onProxyDown: reject}";
    // Passed through, it finds no route.
    assert_eq!(elsewhere("", ""), "ENETUNREACH");
    assert_eq!(elsewhere(reject, ""), "ECONNREFUSED");
    let annotation = |value| format!(", annotations: {{egressd.io/on-proxy-down: {value}}}");
    assert_eq!(elsewhere("", &annotation("reject")), "ECONNREFUSED");
    assert_eq!(elsewhere(reject, &annotation("passthrough")), "ENETUNREACH");
}

#[test]
fn binding_a_device_is_no_way_around_the_policy() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = with_port_only_service(&node, REGISTRY_ONLY).start();
    let device = ["--device", "up0"];
    let printed = dial(&node, WORLD_V4[0], PORT, &device).run().text();
    assert_eq!(said(&printed, "error"), "EHOSTUNREACH", "{printed}");
    daemon.stop();
}

#[test]
fn a_bound_device_cannot_reach_an_allocated_address() {
    let node = Node::new();
    let _servers = servers(&node);
    let service = "apiVersion: networking.istio.io/v1\n\
                   kind: ServiceEntry\n\
                   metadata: {name: one}\n\
                   spec:\n\
                   \x20 hosts: [one.test]\n\
                   \x20 ports: [{number: 9100, name: tcp, protocol: TCP}]\n\
                   \x20 resolution: STATIC\n\
                   \x20 endpoints: [{address: 10.77.0.2}]\n";
    let daemon = node.daemon().config("dns: {capture: all}").resource(service).start();
    assert_eq!(answer(&node, "240.240.0.1"), WORLD_V4[0]);
    let printed = dial(&node, "240.240.0.1", PORT, &["--device", "up0"]).run().text();
    assert_eq!(said(&printed, "error"), "EHOSTUNREACH", "{printed}");
    daemon.stop();
}

#[test]
fn the_programs_say_why_they_deny() {
    let node = Node::new();
    let mut daemon = node.daemon().config(REGISTRY_ONLY).start();
    assert_eq!(answer(&node, "198.51.100.1"), "ECONNREFUSED");
    daemon.wait_log("the kernel's line", |line| line.contains("connect denied, reason 1"));
    daemon.stop();
}

#[test]
fn other_namespaces_are_captured_on_request() {
    let node = Node::new();
    let other = Netns::new();
    let _servers = servers(&node);
    let service = services::tcp("known", &[VIP], PORT, &[&format!("{}:{PORT}", WORLD_V4[0])]);
    let config = "capture: {namespaces: all, onProxyDown: reject}";
    let daemon = node.daemon().config(config).resource(service).start();
    let script = "import errno, socket\n\
                  sock = socket.socket()\n\
                  code = sock.connect_ex(('192.0.2.10', 9100))\n\
                  print(sock.makefile().readline() if code == 0 else errno.errorcode[code])";
    let ask = || {
        let spawn = Spawn::new(["/usr/bin/python3", "-c", script]);
        spawn.netns(&other).cgroup(&node.apps).run().text().trim().to_owned()
    };
    // The first connection tells the daemon of the namespace; from the next one on it is there.
    assert_eq!(ask(), "ECONNREFUSED");
    until("the namespace to be captured", || (ask() == WORLD_V4[0]).then_some(()));
    daemon.stop();
}
