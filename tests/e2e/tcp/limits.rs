//! connectionPool.tcp at run time (semantics.md §4; seeds.md 22).

use std::time::Duration;

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4, until};

use crate::{
    clients::{dial, said},
    services::{rule, tcp},
};

const VIP: &str = "192.0.2.10";
const PORT: u16 = 5432;
const CLUSTER: &str = "outbound|5432||one.example";

fn start(node: &Node, policy: &str, endpoints: &[&str]) -> Daemon {
    let service = tcp("one", &[VIP], PORT, endpoints);
    node.daemon().resource(service).resource(rule("one", policy)).start()
}

fn at(index: usize) -> String {
    format!("{}:9000", WORLD_V4[index])
}

/// Opens connections until one is not answered; says how many were, and how the last one ended.
const UNTIL_ONE_FAILS: &str = "
import socket
held = []

def answered():
    try:
        sock = socket.create_connection(('192.0.2.10', 5432), timeout=15)
        if sock.recv(100):
            held.append(sock)
            return True
    except ConnectionResetError:
        pass

while answered():
    pass
print('no room after', len(held))
held.pop().close()
while not answered():
    pass
print('room again')
";

#[test]
fn one_connection_too_many_is_closed() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(0), Behaviour::named("db"));
    // As the seeds write it: `keepAlive` is an alias.
    let policy = "connectionPool: {tcp: {maxConnections: 10, connectTimeout: 30s, \
                  keepAlive: {time: 600s, interval: 60s}}}";
    let daemon = start(&node, policy, &[&at(0)]);
    let printed = node.python(UNTIL_ONE_FAILS).run().text();
    assert_eq!(printed, "no room after 10\nroom again");
    let records = until("the records of all", || {
        Some(daemon.records()).filter(|records| records.len() >= 12)
    });
    let over: Vec<_> = records.iter().filter(|record| record.flags == "UO").collect();
    assert!(!over.is_empty(), "{records:#?}");
    assert!(over.iter().all(|record| record.upstream_cluster == CLUSTER), "{over:#?}");
    assert!(records.iter().all(|record| ["-", "UO"].contains(&record.flags.as_str())));
}

#[test]
fn keepalive_probes_are_on_the_socket() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(0), Behaviour::named("db"));
    let policy = "connectionPool: {tcp: {tcpKeepalive: {time: 600s, interval: 60s, probes: 4}}}";
    let _daemon = start(&node, policy, &[&at(0)]);
    let script = "import socket, time\n\
                  sock = socket.create_connection(('192.0.2.10', 5432), timeout=15)\n\
                  print(sock.recv(100).decode().strip(), flush=True)\n\
                  time.sleep(600)";
    let mut client = node.python(script).start();
    client.wait_stdout("the server's name", |line| line.trim() == "db");
    let sockets = || {
        let words = ["ss", "--no-header", "--tcp", "--numeric", "--options", "dst", WORLD_V4[0]];
        egressd_tests::Spawn::new(words).netns(&node.netns).run().text()
    };
    let seen = until("a keepalive timer", || {
        Some(sockets()).filter(|sockets| sockets.contains("timer:(keepalive,"))
    });
    let timer = seen.split("timer:(keepalive,").nth(1).unwrap();
    assert!(timer.starts_with("9min") || timer.starts_with("10min"), "{seen}");
}

#[test]
fn a_connection_ends_after_its_longest_duration_however_busy() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(0), Behaviour::Echo);
    let policy = "connectionPool: {tcp: {maxConnectionDuration: 1s}}";
    let daemon = start(&node, policy, &[&at(0)]);
    let script = "import socket, time\n\
                  sock = socket.create_connection(('192.0.2.10', 5432), timeout=15)\n\
                  start = time.monotonic()\n\
                  try:\n    while sock.send(b'x') and sock.recv(10):\n        time.sleep(0.01)\n\
                  except OSError:\n    pass\n\
                  print(time.monotonic() - start)";
    let lasted: f64 = node.python(script).run().text().parse().unwrap();
    assert!((0.9..4.0).contains(&lasted), "{lasted}");
    let record = daemon.wait_record();
    assert_eq!(record.decision(), ("DT", CLUSTER, "192.0.2.10:5432"), "{}", record.line);
    assert_eq!(record.termination, "max_connection_duration_reached");
    assert!(record.bytes_sent > 0);
}

#[test]
fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(0), Behaviour::Echo);
    let policy = "connectionPool: {tcp: {idleTimeout: 1s}}";
    let daemon = start(&node, policy, &[&at(0)]);
    // Busy for two seconds, then silent.
    let script = "import socket, time\n\
                  sock = socket.create_connection(('192.0.2.10', 5432), timeout=15)\n\
                  for _ in range(10):\n    sock.sendall(b'x'); sock.recv(1); time.sleep(0.2)\n\
                  start = time.monotonic()\n\
                  try:\n    sock.recv(1)\n\
                  except OSError:\n    pass\n\
                  print(time.monotonic() - start)";
    let waited: f64 = node.python(script).run().text().parse().unwrap();
    assert!((0.5..4.0).contains(&waited), "{waited}");
    let record = daemon.wait_record();
    assert_eq!((record.bytes_received, record.bytes_sent), (10, 10));
    assert_eq!(record.termination, "tcp_session_idle_timeout", "{}", record.line);
}

#[test]
fn an_idle_timeout_of_zero_is_none() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(0), Behaviour::Echo);
    // The mesh's own would end it after a second.
    let mesh = "meshConfig: {defaultTrafficPolicy: {connectionPool: {tcp: {idleTimeout: 1s}}}}";
    let service = tcp("one", &[VIP], PORT, &[&at(0)]);
    let never = rule("one", "connectionPool: {tcp: {idleTimeout: 0s}}");
    let daemon = node.daemon().config(mesh).resource(service).resource(never).start();
    let script = "import socket, time\n\
                  sock = socket.create_connection(('192.0.2.10', 5432), timeout=15)\n\
                  time.sleep(3)\n\
                  sock.sendall(b'still')\n\
                  print(sock.recv(5).decode())";
    assert_eq!(node.python(script).run().text(), "still");
    assert_eq!(daemon.wait_record().termination, "-");
}

#[test]
fn other_endpoints_are_tried_when_one_refuses_and_no_more_than_three() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(2), Behaviour::named("alive"));
    let endpoints = [at(0), at(1), at(2)];
    let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let daemon = start(&node, "loadBalancer: {simple: ROUND_ROBIN}", &endpoints);
    for _ in 0..6 {
        assert_eq!(said(&dial(&node, VIP, PORT, &[]).run().text(), "first"), "alive");
    }
    assert!(daemon.wait_records(6).iter().all(|record| record.upstream_host == at(2)));
    daemon.stop();
    // Four that refuse: three are tried.
    let ports: Vec<_> = (1..=4).map(|port| format!("{}:{port}", WORLD_V4[0])).collect();
    let endpoints: Vec<_> = ports.iter().map(String::as_str).collect();
    let daemon = start(&node, "loadBalancer: {simple: ROUND_ROBIN}", &endpoints);
    dial(&node, VIP, PORT, &[]).run();
    let record = daemon.wait_record();
    assert_eq!(record.flags, "UF,URX", "{}", record.line);
    assert_eq!(record.failure, "delayed_connect_error:_Connection_refused", "{}", record.line);
    let tried = daemon.log().matches("no connection").count();
    assert_eq!(tried, 3, "{}", daemon.log());
}

#[test]
fn an_endpoint_that_does_not_answer_is_given_up_after_the_time_for_connecting() {
    let node = Node::new();
    // Nobody has this address, and the link does not say so at once.
    node.netns.ip("neighbour add 10.77.0.99 lladdr 02:00:00:00:00:99 dev up0");
    let policy = "connectionPool: {tcp: {connectTimeout: 1s}}";
    let daemon = start(&node, policy, &["10.77.0.99:9000"]);
    dial(&node, VIP, PORT, &[]).run();
    let record = daemon.wait_record();
    assert_eq!(record.decision(), ("UF,URX", CLUSTER, "192.0.2.10:5432"), "{}", record.line);
    assert_eq!(record.failure, "connection_timeout", "{}", record.line);
    let took = Duration::from_millis(record.duration);
    assert!((1000..4000).contains(&took.as_millis()), "{took:?}");
}
