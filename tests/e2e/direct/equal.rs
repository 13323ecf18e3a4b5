//! The same scenarios on both paths: the same endpoints as often, the same flags, the same fields.

use egressd_tests::{AccessLine, Behaviour, Node, Servers, WORLD_V4};

use super::world::{ALL, PORT, VIP, at, servers, service, start};
use crate::clients::dial;

const PATHS: [&str; 2] = ["proxy", "direct"];
/// Connections a path and scenario.
const MANY: usize = 10_000;
/// Each within the time that a client may take.
const RUNS: usize = 20;
/// Chi-square with two degrees of freedom is above this once in a hundred thousand times.
const CRITICAL: f64 = 23.0;

/// Whether two samples of the same size come from one distribution, by chi-square.
fn distance(one: [u64; 3], other: [u64; 3]) -> f64 {
    let pairs = one.into_iter().zip(other).filter(|(one, other)| one + other > 0);
    pairs.map(|(one, other)| one.abs_diff(other).pow(2) as f64 / (one + other) as f64).sum()
}

const WEIGHTED: [(usize, &str); 3] = [(0, "weight: 5"), (1, "weight: 3"), (2, "weight: 2")];

/// Connections one after the other, each begun when the one before is over for everybody: the proxy
/// hears of an end a moment later than the application.
const ONE_BY_ONE: &str = "
import socket, sys, time
for _ in range(int(sys.argv[1])):
    with socket.create_connection(('192.0.2.10', 9000), timeout=15) as sock:
        sock.recv(100)
    time.sleep(float(sys.argv[2]))
";

#[track_caller]
fn same_shares(policy: &str, endpoints: &[(usize, &str)], pause: &str) {
    let node = Node::new();
    let _servers = servers(&node);
    let [proxied, direct] = PATHS.map(|path| {
        let daemon = start(&node, path, &service(endpoints), policy);
        for _ in 0..RUNS {
            node.python(ONE_BY_ONE).arg((MANY / RUNS).to_string()).arg(pause).run().expect_code(0);
        }
        let records = daemon.wait_records(MANY);
        let shares = [0, 1, 2].map(|index| {
            records.iter().filter(|record| record.upstream_host == at(index)).count() as u64
        });
        let carried = daemon.number("/connections/opened");
        assert_eq!(carried, if path == "proxy" { MANY as u64 } else { 0 });
        daemon.stop();
        shares
    });
    let chi = distance(proxied, direct);
    assert!(chi < CRITICAL, "{policy}: {proxied:?} by the proxy, {direct:?} straight: {chi}");
}

#[test]
fn in_turn() {
    same_shares("loadBalancer: {simple: ROUND_ROBIN}", &ALL, "0");
}

#[test]
fn in_turn_by_weight() {
    same_shares("loadBalancer: {simple: ROUND_ROBIN}", &WEIGHTED, "0");
}

#[test]
fn at_random() {
    same_shares("loadBalancer: {simple: RANDOM}", &ALL, "0");
}

#[test]
fn at_random_by_weight() {
    same_shares("loadBalancer: {simple: RANDOM}", &WEIGHTED, "0");
}

#[test]
fn the_less_busy_of_two() {
    same_shares("", &ALL, "0");
}

#[test]
fn the_less_busy_of_two_by_weight() {
    same_shares("", &WEIGHTED, "0.004");
}

#[test]
fn by_source_address() {
    let node = Node::new();
    let sources: Vec<_> = (0..32).map(|last| format!("10.77.0.{}", 100 + last)).collect();
    for source in &sources {
        node.netns.ip(&format!("address add {source}/24 dev up0"));
    }
    let _servers = servers(&node);
    let policy = "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1021}}}";
    for endpoints in [&ALL, &WEIGHTED] {
        let [proxied, direct] = PATHS.map(|path| {
            let daemon = start(&node, path, &service(endpoints), policy);
            for source in &sources {
                dial(&node, VIP, PORT, &["--bind", &format!("{source},0")]).run();
            }
            let records = daemon.wait_records(sources.len());
            let hosts: Vec<_> = records.into_iter().map(|record| record.upstream_host).collect();
            daemon.stop();
            hosts
        });
        // Not only as often: the very same.
        assert_eq!(proxied, direct);
    }
}

/// What a record says that does not depend on when it was, or on which port the system chose.
fn fields(record: &AccessLine) -> [String; 8] {
    let address = |text: &str| text.rsplit_once(':').map_or("-", |(address, _)| address).to_owned();
    [
        record.flags.clone(),
        record.termination.clone(),
        record.failure.clone(),
        format!("{} {}", record.bytes_received, record.bytes_sent),
        record.upstream_host.clone(),
        record.upstream_cluster.clone(),
        address(&record.upstream_local),
        record.downstream_local.clone(),
    ]
}

/// What each path records of one connection by `client`.
#[track_caller]
fn records(node: &Node, service: &str, policy: &str, client: &str) -> [[String; 8]; 2] {
    PATHS.map(|path| {
        let daemon = start(node, path, service, policy);
        node.python(client).run();
        let record = daemon.wait_record();
        daemon.stop();
        fields(&record)
    })
}

const TALK: &str = "
import socket
with socket.create_connection(('192.0.2.10', 9000), timeout=15) as sock:
    sock.sendall(b'x' * 100_000)
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65536):
        pass
";

const RESET_BY_US: &str = "
import socket, struct
sock = socket.create_connection(('192.0.2.10', 9000), timeout=15)
sock.sendall(b'ping')
sock.recv(100)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
sock.close()
";

const WAIT_FOR_THE_END: &str = "
import socket
try:
    sock = socket.create_connection(('192.0.2.10', 9000), timeout=15)
    sock.sendall(b'x')
    while sock.recv(100):
        pass
except OSError:
    pass
";

#[test]
fn records_of_what_ends_well_and_badly() {
    let node = Node::new();
    let one = &service(&ALL[..1]);
    let same =
        |what: &str, behaviour: Option<Behaviour>, policy: &str, client: &str, flags: &str| {
            let _server = behaviour.map(|behaviour| Servers::one(&node.world, &at(0), behaviour));
            let [proxied, direct] = records(&node, one, policy, client);
            assert_eq!(proxied, direct, "{what}");
            assert_eq!(direct[0], flags, "{what}: {direct:?}");
        };
    same("a connection", Some(Behaviour::Echo), "", TALK, "-");
    same("the application breaks off", Some(Behaviour::Echo), "", RESET_BY_US, "DC");
    same("the endpoint breaks off", Some(Behaviour::Reset), "", WAIT_FOR_THE_END, "UC");
    let duration = "connectionPool: {tcp: {maxConnectionDuration: 1s}}";
    same("it lasts too long", Some(Behaviour::Stall), duration, WAIT_FOR_THE_END, "DT");
    let idle = "connectionPool: {tcp: {idleTimeout: 1s}}";
    same("it is silent for too long", Some(Behaviour::Stall), idle, WAIT_FOR_THE_END, "-");
    same("nobody listens", None, "", WAIT_FOR_THE_END, "UF,URX");
}

#[test]
fn records_of_what_never_begins() {
    let node = Node::new();
    let [proxied, direct] = records(&node, &service(&[]), "", WAIT_FOR_THE_END);
    assert_eq!(proxied, direct);
    assert_eq!(direct[0], "UH");
    node.netns.ip("neighbour add 10.77.0.99 lladdr 02:00:00:00:00:99 dev up0");
    let silent = service(&ALL[..1]).replace(WORLD_V4[0], "10.77.0.99");
    let policy = "connectionPool: {tcp: {connectTimeout: 1s}}";
    let [proxied, direct] = records(&node, &silent, policy, WAIT_FOR_THE_END);
    assert_eq!(proxied, direct);
    assert_eq!((&*direct[0], &*direct[2]), ("UF,URX", "connection_timeout"));
}
