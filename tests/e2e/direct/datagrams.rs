//! Ports with `protocol: UDP`.

use egressd_tests::{Node, Running, Unbound, WORLD_V4};

use super::world::{VIP, start};

/// Answers every datagram with its name and what it was.
const ECHO: &str = "
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 9000))
print('bound', flush=True)
while True:
    data, peer = sock.recvfrom(2000)
    sock.sendto(sys.argv[1].encode() + b' ' + data, peer)
";

fn echo(node: &Node, address: &str) -> Running {
    let words = ["/usr/bin/python3", "-c", ECHO, address];
    let mut server = node.server(words).start();
    server.wait_stdout("a socket", |line| line.trim() == "bound");
    server
}

fn service(name: &str, vip: &str, port: u16, target: u16, endpoints: &[&str]) -> String {
    let endpoints: Vec<_> =
        endpoints.iter().map(|address| format!("{{address: {address}}}")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 hosts: [{name}.example]\n\
         \x20 addresses: [{vip}]\n\
         \x20 ports: [{{number: {port}, name: udp, protocol: UDP, targetPort: {target}}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{}]\n",
        endpoints.join(", ")
    )
}

/// One socket that speaks to two services without being connected, and one that is connected.
const TALK: &str = "
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
for turn in range(4):
    for vip in ('192.0.2.10', '192.0.2.11'):
        sock.sendto(b'%d' % turn, (vip, 5000))
        data, source = sock.recvfrom(2000)
        print(vip, data.decode(), *source)
connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
connected.settimeout(10)
connected.connect(('192.0.2.11', 5000))
connected.send(b'x')
print('connected', connected.recv(2000).decode(), *connected.getpeername())
";

#[test]
fn sockets_speak_to_services_connected_or_not() {
    let node = Node::new();
    let _servers = WORLD_V4.map(|address| echo(&node, address));
    let one = service("one", VIP, 5000, 9000, &WORLD_V4[..2]);
    let two = service("two", "192.0.2.11", 5000, 9000, &WORLD_V4[2..]);
    let daemon = start(&node, "direct", &format!("{one}---\n{two}"), "");
    let printed = node.python(TALK).run().text();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 9, "{printed}");
    let first = lines[0].split(' ').nth(1).unwrap();
    assert!(WORLD_V4[..2].contains(&first), "{printed}");
    for (turn, pair) in lines[..8].chunks(2).enumerate() {
        // The same endpoint for a socket, and the source that was sent to.
        assert_eq!(pair[0], format!("192.0.2.10 {first} {turn} 192.0.2.10 5000"), "{printed}");
        let second = format!("192.0.2.11 {} {turn} 192.0.2.11 5000", WORLD_V4[2]);
        assert_eq!(pair[1], second, "{printed}");
    }
    assert_eq!(lines[8], format!("connected {} x 192.0.2.11 5000", WORLD_V4[2]));
    daemon.stop();
}

#[test]
fn dig_asks_a_port_of_its_own() {
    let node = Node::new();
    let _server = Unbound::start(&node.world, WORLD_V4[0], &["a.test. IN A 203.0.113.7"]);
    let service = service("dns", VIP, 5353, 53, &WORLD_V4[..1]);
    let daemon = start(&node, "direct", &service, "");
    let words = ["dig", "+short", "+time=5", "+tries=2", "@192.0.2.10", "-p", "5353", "a.test"];
    assert_eq!(node.app(words).run().text(), "203.0.113.7");
    daemon.stop();
}
