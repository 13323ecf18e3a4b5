//! Applications and endpoints that misbehave: everybody else is served, the reason is in the record,
//! and nothing is left behind.

use std::time::Instant;

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4};

use crate::{
    clients::{dial, said},
    services::tcp,
};

const TLS_VIP: &str = "192.0.2.44";

/// A TCP service at 192.0.2.10:9000, and a TLS service found by name on port 443.
fn start(node: &Node, timeout: &str) -> Daemon {
    let sniffed = format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: sniffed}}\n\
         spec:\n\
         \x20 hosts: [sniffed.example]\n\
         \x20 addresses: [192.0.2.0/26]\n\
         \x20 ports: [{{number: 443, name: tls, protocol: TLS}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {}, ports: {{tls: 9000}}}}]\n",
        WORLD_V4[0]
    );
    let service = tcp("one", &["192.0.2.100"], 9000, &[&format!("{}:9000", WORLD_V4[0])]);
    let mesh = format!(
        "meshConfig: {{protocolDetectionTimeout: {timeout}, \
         outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}}}"
    );
    node.daemon().config(&mesh).resource(service).resource(sniffed).start()
}

fn server(node: &Node) -> Servers {
    Servers::one(&node.world, &format!("{}:9000", WORLD_V4[0]), Behaviour::named("fine"))
}

/// Says what is written to it, and how it ends: `ended`, `reset` or `waits`.
const SAY: &str = "
import socket, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
start = time.monotonic()
try:
    for piece in sys.argv[3].split(','):
        sock.sendall(bytes.fromhex(piece))
        time.sleep(float(sys.argv[4]))
    answer = sock.recv(100)
    print('answer ' + answer.decode().strip() if answer else 'ended')
except (ConnectionResetError, BrokenPipeError):
    print('reset')
except TimeoutError:
    print('waits')
print('took', time.monotonic() - start)
";

fn say(node: &Node, hex: &str, pause: f64) -> String {
    let spawn = node.python(SAY).arg(TLS_VIP).arg("443").arg(hex).arg(pause.to_string());
    spawn.run().text()
}

/// A ClientHello that asks for a name, as hexadecimal digits.
fn hello(name: &str) -> String {
    let name = name.as_bytes();
    let mut extension = vec![0, 0];
    let length = name.len() as u16;
    extension.extend((length + 5).to_be_bytes());
    extension.extend((length + 3).to_be_bytes());
    extension.push(0);
    extension.extend(length.to_be_bytes());
    extension.extend(name);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extension.len() as u16).to_be_bytes());
    body.extend(extension);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Cut at every so many bytes.
fn pieces(hex: &str, bytes: usize) -> String {
    let digits: Vec<_> = hex.as_bytes().chunks(2 * bytes).collect();
    digits.iter().map(|piece| str::from_utf8(piece).unwrap()).collect::<Vec<_>>().join(",")
}

#[test]
fn a_hello_in_small_pieces_is_put_together() {
    let node = Node::new();
    let (_server, daemon) = (server(&node), start(&node, "30s"));
    let printed = say(&node, &pieces(&hello("sniffed.example"), 10), 0.01);
    assert!(printed.starts_with("answer fine"), "{printed}");
    let record = daemon.wait_record();
    assert_eq!(record.server_name, "sniffed.example");
    // All of it has arrived, and once.
    assert_eq!(record.bytes_received as usize, hello("sniffed.example").len() / 2);
}

#[test]
fn a_hello_that_never_ends_is_waited_for_no_longer_than_the_time_for_detection() {
    let node = Node::new();
    let (_server, daemon) = (server(&node), start(&node, "1s"));
    let half = hello("sniffed.example")[..40].to_owned();
    let printed = say(&node, &half, 0.0);
    assert!(printed.starts_with("reset") || printed.starts_with("ended"), "{printed}");
    let took: f64 = said(&printed, "took").parse().unwrap();
    assert!((0.9..5.0).contains(&took), "{printed}");
    let record = daemon.wait_record();
    assert_eq!(
        (record.flags.as_str(), record.upstream_cluster.as_str()),
        ("UH", "BlackHoleCluster")
    );
    // Others were never held up.
    let printed = dial(&node, "192.0.2.100", 9000, &[]).run().text();
    assert_eq!(said(&printed, "first"), "fine");
}

#[test]
fn garbage_is_told_at_once() {
    let node = Node::new();
    let (_server, daemon) = (server(&node), start(&node, "30s"));
    let cases = [
        ("not TLS", "00".repeat(200)),
        ("a text", "474554202f20485454502f312e310d0a".to_owned()),
        ("SSLv2", "802e0100020015000000100100800200800600400400800700c0".to_owned()),
        ("another message", "160303000502000001ff".to_owned()),
        ("an oversize message", "16030100ff01ffffff0303".to_owned()),
        ("an oversize record", "160301ffff".to_owned()),
        ("a foreign name", hello("other.example")),
        ("no name that is one", hello("a b")),
    ];
    for (at, (what, hex)) in cases.iter().enumerate() {
        let began = Instant::now();
        let printed = say(&node, hex, 0.0);
        assert!(printed.starts_with("reset") || printed.starts_with("ended"), "{what}: {printed}");
        assert!(began.elapsed().as_secs() < 5, "{what}: {:?}", began.elapsed());
        let record = daemon.wait_records(at + 1).remove(at);
        assert_eq!(record.flags, "UH", "{what}: {}", record.line);
        assert_eq!(record.upstream_cluster, "BlackHoleCluster", "{what}: {}", record.line);
    }
}

/// Many applications that say half a word, and then nothing.
const LORIS: &str = "
import socket, time
held = []
for number in range(400):
    sock = socket.create_connection(('192.0.2.44', 443), timeout=15)
    sock.sendall(bytes.fromhex('160301')[:1 + number % 3])
    held.append(sock)
print('held', flush=True)
time.sleep(600)
";

#[test]
fn slow_hellos_hold_up_nobody_and_leave_nothing() {
    let node = Node::new();
    let (_server, daemon) = (server(&node), start(&node, "3s"));
    let descriptors = || {
        let path = format!("/proc/{}/fd", daemon.pid());
        std::fs::read_dir(path).unwrap().count()
    };
    let before = descriptors();
    let mut loris = node.python(LORIS).start();
    loris.wait_stdout("that all are connected", |line| line.trim() == "held");
    let printed = dial(&node, "192.0.2.100", 9000, &[]).run().text();
    assert_eq!(said(&printed, "first"), "fine");
    let records = daemon.wait_records(401);
    assert_eq!(records.iter().filter(|record| record.flags == "UH").count(), 400);
    daemon.wait_number("/flows", 0);
    egressd_tests::until("the descriptors to be closed", || {
        (descriptors() <= before).then_some(())
    });
}

#[test]
fn endpoints_that_give_up() {
    let node = Node::new();
    let daemon = start(&node, "30s");
    for (at, (behaviour, flags)) in
        [(Behaviour::Close, "-"), (Behaviour::Reset, "UC")].into_iter().enumerate()
    {
        let _server = Servers::one(&node.world, &format!("{}:9000", WORLD_V4[0]), behaviour);
        let began = Instant::now();
        dial(&node, "192.0.2.100", 9000, &[]).run();
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        let record = daemon.wait_records(at + 1).remove(at);
        // An endpoint that closes with bytes unread resets.
        assert!([flags, "UC"].contains(&record.flags.as_str()), "{}", record.line);
    }
    daemon.wait_number("/flows", 0);
}

/// An application that goes while its endpoint is silent.
#[test]
fn half_open_connections_are_noticed() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &format!("{}:9000", WORLD_V4[0]), Behaviour::Stall);
    let daemon = start(&node, "30s");
    let script = "import socket, struct\n\
                  sock = socket.create_connection(('192.0.2.100', 9000), timeout=10)\n\
                  sock.sendall(b'x')\n\
                  sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))";
    node.python(script).run().text();
    let record = daemon.wait_record();
    assert_eq!(record.flags, "DC", "{}", record.line);
    daemon.wait_number("/flows", 0);
}
