//! What happens to the bytes, and to the ends of a connection.

use std::time::{Duration, Instant};

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4};

use crate::{
    clients::{dial, said, storm},
    services,
};

const VIP: &str = "192.0.2.10";
const PORT: u16 = 27018;
const CLUSTER: &str = "outbound|27018||one.example";

struct Place {
    node: Node,
    servers: Servers,
    daemon: Daemon,
}

fn place(behaviour: Behaviour) -> Place {
    let node = Node::new();
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let servers = Servers::one(&node.world, &endpoint, behaviour);
    let daemon = node.daemon().resource(services::tcp("one", &[VIP], PORT, &[&endpoint])).start();
    Place { node, servers, daemon }
}

impl Place {
    /// Runs a Python client that finds a connection to the service in `sock`.
    #[track_caller]
    fn client(&self, script: &str) -> String {
        let head = "import socket, struct, time\n\
                    sock = socket.create_connection(('192.0.2.10', 27018), timeout=15)\n";
        self.node.python(&format!("{head}{script}")).run().text()
    }
}

#[test]
fn the_client_may_end_its_direction_first() {
    let place = place(Behaviour::Count);
    let script = "sock.sendall(b'x' * 1000000)\n\
                  sock.shutdown(socket.SHUT_WR)\n\
                  print(sock.makefile().read())";
    assert_eq!(place.client(script), "1000000");
    let record = place.daemon.wait_record();
    assert_eq!((record.bytes_received, record.bytes_sent), (1_000_000, 7));
    assert_eq!(record.flags, "-");
}

#[test]
fn the_server_may_end_its_direction_first() {
    let place = place(Behaviour::Send(300_000));
    let script = "got = len(sock.makefile('rb').read())\n\
                  sock.sendall(b'after')\n\
                  print(got)";
    assert_eq!(place.client(script), "300000");
    let record = place.daemon.wait_record();
    assert_eq!((record.bytes_received, record.bytes_sent), (5, 300_000));
}

#[test]
fn a_reset_by_the_server_reaches_the_client() {
    let place = place(Behaviour::Reset);
    let script = "sock.sendall(b'x')\n\
                  try:\n    print(sock.recv(10))\n\
                  except ConnectionResetError:\n    print('reset')";
    assert_eq!(place.client(script), "reset");
    place.daemon.wait_record();
}

/// Says how the first connection ends.
const OBSERVER: &str = "
import socket
listener = socket.create_server(('10.77.0.2', 9000))
print('listening', flush=True)
sock, _ = listener.accept()
try:
    while sock.recv(10):
        pass
    print('ended')
except ConnectionResetError:
    print('reset')
";

#[track_caller]
fn what_the_server_sees(client_does: &str) -> String {
    let node = Node::new();
    let mut server = node.server(["/usr/bin/python3", "-c", OBSERVER]).start();
    server.wait_stdout("that it listens", |line| line.trim() == "listening");
    let service = services::tcp("one", &[VIP], PORT, &["10.77.0.2:9000"]);
    let _daemon = node.daemon().resource(service).start();
    let script = format!(
        "import socket, struct\n\
         sock = socket.create_connection(('192.0.2.10', 27018), timeout=15)\n\
         sock.sendall(b'x')\n\
         {client_does}"
    );
    node.python(&script).run().text();
    let seen = server.wait().text();
    seen.trim_start_matches("listening").trim().to_owned()
}

#[test]
fn a_reset_by_the_client_reaches_the_server() {
    let linger = "sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))";
    assert_eq!(what_the_server_sees(linger), "reset");
}

#[test]
fn an_end_by_the_client_reaches_the_server() {
    assert_eq!(what_the_server_sees("sock.close()"), "ended");
}

#[test]
fn a_server_that_does_not_read_stops_the_client() {
    let place = place(Behaviour::Stall);
    // Without back pressure the client would send all of it.
    let script = "sock.settimeout(2)\n\
                  sent = 0\n\
                  try:\n    while sent < 256 << 20:\n        sent += sock.send(bytes(1 << 16))\n\
                  except TimeoutError:\n    pass\n\
                  print(sent)";
    let sent: u64 = place.client(script).parse().unwrap();
    assert!(sent < 64 << 20, "{sent} bytes went into buffers");
}

#[test]
fn a_connection_without_a_byte_leaves_a_record() {
    let place = place(Behaviour::Echo);
    assert_eq!(place.client("sock.close()"), "");
    let record = place.daemon.wait_record();
    assert_eq!(record.decision(), ("-", CLUSTER, "192.0.2.10:27018"));
    assert_eq!((record.bytes_received, record.bytes_sent), (0, 0));
    assert_eq!(place.servers.accepted(), 1);
}

#[test]
fn a_server_that_speaks_first_is_not_waited_for() {
    let place = place(Behaviour::named("first"));
    let script = "start = time.monotonic()\n\
                  assert sock.recv(10) == b'first\\n'\n\
                  print(time.monotonic() - start)";
    let waited: f64 = place.client(script).parse().unwrap();
    assert!(waited < 1.0, "the greeting came after {waited} s");
}

#[test]
fn a_refused_endpoint_ends_the_connection_with_a_reason() {
    let place = place(Behaviour::Echo);
    drop(place.servers);
    let printed = dial(&place.node, VIP, PORT, &[]).run();
    assert!(!printed.stdout.contains("echo ping"), "{}", printed.stdout);
    let record = place.daemon.wait_record();
    assert_eq!(record.decision(), ("UF,URX", CLUSTER, "192.0.2.10:27018"), "{}", record.line);
    assert_eq!((record.bytes_received, record.bytes_sent), (0, 0));
}

/// Listens, but its queue is full: a further SYN is not answered.
const FULL: &str = "
import socket, time
listener = socket.socket()
listener.bind(('10.77.0.2', 9000))
listener.listen(0)
held = []
while True:
    sock = socket.socket()
    sock.settimeout(0.5)
    try:
        sock.connect(('10.77.0.2', 9000))
    except TimeoutError:
        break
    held.append(sock)
print('full', flush=True)
time.sleep(600)
";

#[test]
fn an_endpoint_that_does_not_answer_is_given_up_after_ten_seconds() {
    let node = Node::new();
    let mut server = node.server(["/usr/bin/python3", "-c", FULL]).start();
    server.wait_stdout("that its queue is full", |line| line.trim() == "full");
    let service = services::tcp("one", &[VIP], PORT, &["10.77.0.2:9000"]);
    let daemon = node.daemon().resource(service).start();
    let start = Instant::now();
    let script = "import socket\n\
                  sock = socket.create_connection(('192.0.2.10', 27018), timeout=30)\n\
                  try:\n    print(sock.recv(10))\n\
                  except ConnectionResetError:\n    print('reset')";
    node.python(script).run().text();
    let took = start.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(14), "{took:?}");
    let record = daemon.wait_record();
    assert_eq!(record.flags, "UF,URX", "{}", record.line);
    assert!((9_500..12_000).contains(&record.duration), "{}", record.line);
}

#[test]
fn endpoints_share_the_connections() {
    let node = Node::new();
    let at: Vec<_> = WORLD_V4.iter().map(|address| format!("{address}:9000")).collect();
    let list = at.iter().map(|at| (at.clone(), Behaviour::named(at.as_str())));
    let _servers = Servers::tcp(&node.world, list);
    let endpoints: Vec<_> = at.iter().map(String::as_str).collect();
    let service = services::tcp("one", &[VIP], PORT, &endpoints);
    let daemon = node.daemon().resource(service).start();
    let targets = [(format!("{VIP}:{PORT}"), "any".to_owned())];
    storm(&node, 3, 20, &targets).run();
    let records = daemon.wait_records(60);
    for at in at {
        let count = records.iter().filter(|record| record.upstream_host == at).count();
        // Shares, not strict turns: the least loaded of two is picked.
        assert!((10..=30).contains(&count), "{at} got {count} of 60");
    }
}

#[test]
fn an_endpoint_may_be_a_unix_socket() {
    let node = Node::new();
    let builder = node.daemon();
    let socket = builder.folder().join("socket");
    let _servers = Servers::unix(&socket, Behaviour::named("unix"));
    let endpoint = format!("unix://{}", socket.display());
    let daemon = builder.resource(services::tcp("one", &[VIP], PORT, &[&endpoint])).start();
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "unix", "{}", daemon.log());
    let record = daemon.wait_record();
    assert!(record.upstream_host.contains(&socket.display().to_string()), "{}", record.line);
}

#[test]
fn an_endpoint_may_be_a_name() {
    let node = Node::new();
    let _servers = Servers::one(&node.netns, "127.0.0.1:9000", Behaviour::named("by name"));
    let service = services::tcp("one", &[VIP], PORT, &["localhost:9000"]);
    let service = service.replace("resolution: STATIC", "resolution: DNS");
    let daemon = node.daemon().resource(service).start();
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "by name", "{}", daemon.log());
    assert_eq!(daemon.wait_record().upstream_host, "127.0.0.1:9000");
}

#[test]
fn without_resolution_the_address_dialled_is_the_endpoint() {
    let node = Node::new();
    let at = format!("{}:{PORT}", WORLD_V4[1]);
    let _servers = Servers::one(&node.world, &at, Behaviour::named("dialled"));
    let service = services::tcp("one", &["10.77.0.0/28"], PORT, &[]);
    let service = service.replace("resolution: STATIC", "resolution: NONE");
    let service = service.replace("  endpoints:\n", "");
    let daemon = node.daemon().resource(service).start();
    let printed = dial(&node, WORLD_V4[1], PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "dialled", "{}", daemon.log());
    let record = daemon.wait_record();
    assert_eq!(record.upstream_cluster, CLUSTER);
    assert_eq!(record.upstream_host, at);
}

/// An endpoint that is itself an address of a service would lead to us again.
#[test]
fn a_loop_is_refused() {
    let node = Node::new();
    let first = services::tcp("one", &[VIP], PORT, &["192.0.2.11:27018"]);
    let second = services::tcp("two", &["192.0.2.11"], PORT, &["192.0.2.10:27018"]);
    let own = services::tcp("own", &["192.0.2.12"], PORT, &["127.64.0.1:15001"]);
    let daemon = node.daemon().resource(first).resource(second).resource(own).start();
    for address in [VIP, "192.0.2.12"] {
        dial(&node, address, PORT, &[]).run();
    }
    let records = daemon.wait_records(2);
    assert!(records.iter().all(|record| record.flags.contains("UF")), "{records:#?}");
}
