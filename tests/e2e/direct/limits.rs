//! connectionPool.tcp where nothing stands between.

use std::time::Duration;

use egressd_tests::{Behaviour, Node, Servers, until};

use super::world::{ALL, CLUSTER, PORT, VIP, at, proxied, servers, service, start};
use crate::clients::dial;

/// Opens connections until one is refused; says how many there were, and that one more is possible
/// once one has gone.
const UNTIL_ONE_FAILS: &str = "
import errno, socket
held = []

def connected():
    try:
        sock = socket.create_connection(('192.0.2.10', 9000), timeout=15)
        if sock.recv(100):
            held.append(sock)
            return True
    except OSError as error:
        print(errno.errorcode.get(error.errno))

while connected():
    pass
print('no room after', len(held))
held.pop().close()
print('room again', connected())
";

#[test]
fn one_connection_too_many_is_refused() {
    let node = Node::new();
    let _servers = servers(&node);
    let policy = "connectionPool: {tcp: {maxConnections: 10}}";
    let daemon = start(&node, "direct", &service(&ALL), policy);
    let printed = node.python(UNTIL_ONE_FAILS).run().text();
    let rest = printed.split_once('\n').map(|(_, rest)| rest);
    assert_eq!(rest, Some("no room after 10\nroom again True"), "{printed}");
    let records = daemon.wait_records(12);
    let over: Vec<_> = records.iter().filter(|record| record.flags == "UO").collect();
    assert_eq!(over.len(), 1, "{records:#?}");
    assert_eq!(over[0].upstream_cluster, CLUSTER);
    assert_eq!((proxied(&daemon), daemon.number("/direct/refused")), (0, 1));
    daemon.wait_number("/direct/active", 0);
    daemon.stop();
}

/// Every way to end a connection, or not to have one: many times, in several threads.
const CHURN: &str = "
import random, socket, struct, sys, threading

def close(sock):
    sock.close()

def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()

def half(sock):
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(1000):
        pass
    sock.close()

def run(seed):
    rng = random.Random(seed)
    for turn in range(int(sys.argv[1])):
        sock = socket.socket()
        sock.settimeout(15)
        try:
            kind = rng.randrange(6)
            if kind == 0:
                # Given up before it stands.
                sock.setblocking(False)
                try:
                    sock.connect(('192.0.2.10', 9000))
                except BlockingIOError:
                    pass
                sock.close()
            elif kind == 1:
                # No route: no callback at all.
                try:
                    sock.connect(('192.0.2.11', 9000))
                except OSError:
                    pass
                # The same socket again.
                sock.connect(('192.0.2.10', 9000))
                close(sock)
            elif kind == 2:
                try:
                    sock.connect(('192.0.2.12', 9000))
                except ConnectionRefusedError:
                    pass
                sock.close()
            else:
                sock.connect(('192.0.2.10', 9000))
                sock.recv(100)
                [close, reset, half][kind - 3](sock)
        except OSError:
            sock.close()

threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
";

#[test]
fn counts_do_not_drift() {
    let node = Node::new();
    let _servers = servers(&node);
    let other = |number: u8, address: &str| {
        let one = service(&[(0, "")])
            .replace("one", "other")
            .replace("192.0.2.10", &format!("192.0.2.1{number}"));
        one.replace("2001:db8::10", &format!("2001:db8::1{number}"))
            .replace("name: other", &format!("name: other{number}"))
            .replace("other.example", &format!("other{number}.example"))
            .replace("10.77.0.2", address)
    };
    let pool = crate::services::rule("one", "connectionPool: {tcp: {maxConnections: 20}}");
    let daemon = node.daemon().config("path: direct").resource(service(&ALL)).resource(pool);
    // 198.51.100.1 is unreachable; port 9000 of the node itself refuses.
    let daemon = daemon.resource(other(1, "198.51.100.1")).resource(other(2, "10.77.0.1")).start();
    node.python(CHURN).arg("500").run().expect_code(0);
    daemon.wait_number("/direct/active", 0);
    assert!(daemon.number("/direct/begun") > 1000, "{:#}", daemon.status());
    assert!(!daemon.log().contains("counted that are no more"), "{}", daemon.log());
    // There is room for as many as before.
    let printed = node.python(UNTIL_ONE_FAILS).run().text();
    assert!(printed.contains("no room after 20\n"), "{printed}");
    daemon.stop();
}

#[test]
fn the_time_for_connecting() {
    let node = Node::new();
    node.netns.ip("neighbour add 10.77.0.99 lladdr 02:00:00:00:00:99 dev up0");
    let silent = service(&ALL[..1]).replace("10.77.0.2", "10.77.0.99");
    for limit in [200, 500, 1000, 3000] {
        let policy = format!("connectionPool: {{tcp: {{connectTimeout: {limit}ms}}}}");
        let daemon = start(&node, "direct", &silent, &policy);
        assert_eq!(dial(&node, VIP, PORT, &[]).run().text(), "error ETIMEDOUT");
        let record = daemon.wait_record();
        assert_eq!(record.flags, "UF,URX", "{}", record.line);
        assert_eq!(record.failure, "connection_timeout", "{}", record.line);
        let (took, limit) = (record.duration as f64, f64::from(limit));
        assert!((limit * 0.8..=limit * 1.2 + 30.0).contains(&took), "{took} ms of {limit}");
        daemon.stop();
    }
}

#[test]
fn keepalive_probes_are_on_the_socket() {
    let node = Node::new();
    let _servers = servers(&node);
    let policy = "connectionPool: {tcp: {tcpKeepalive: {time: 600s, interval: 60s, probes: 4}}}";
    let _daemon = start(&node, "direct", &service(&ALL[..1]), policy);
    let script = "import socket, time\n\
                  sock = socket.create_connection(('192.0.2.10', 9000), timeout=15)\n\
                  print(sock.recv(100).decode().strip(), flush=True)\n\
                  time.sleep(600)";
    let mut client = node.python(script).start();
    client.wait_stdout("the server's name", |line| line.trim() == at(0));
    let sockets = || {
        let words = ["ss", "--no-header", "--tcp", "--numeric", "--options", "dst", "10.77.0.2"];
        egressd_tests::Spawn::new(words).netns(&node.netns).run().text()
    };
    let seen = until("a keepalive timer", || {
        Some(sockets()).filter(|sockets| sockets.contains("timer:(keepalive,"))
    });
    let timer = seen.split("timer:(keepalive,").nth(1).unwrap();
    assert!(timer.starts_with("9min") || timer.starts_with("10min"), "{seen}");
}

#[test]
fn a_connection_that_is_not_idle_goes_on() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(0), Behaviour::Echo);
    let policy = "connectionPool: {tcp: {idleTimeout: 2s}}";
    let daemon = start(&node, "direct", &service(&ALL[..1]), policy);
    let script = "import socket, time\n\
                  sock = socket.create_connection(('192.0.2.10', 9000), timeout=15)\n\
                  for _ in range(20):\n    sock.sendall(b'x'); sock.recv(1); time.sleep(0.2)\n\
                  start = time.monotonic()\n\
                  try:\n    sock.recv(1)\n\
                  except OSError:\n    pass\n\
                  print(time.monotonic() - start)";
    let waited: f64 = node.python(script).run().text().parse().unwrap();
    assert!((1.5..5.0).contains(&waited), "{waited}");
    let record = daemon.wait_record();
    assert_eq!(record.termination, "tcp_session_idle_timeout", "{}", record.line);
    assert!(Duration::from_millis(record.duration) > Duration::from_secs(5), "{}", record.line);
    daemon.stop();
}
