//! Sockets that ask: connected or not, to one server or several, and what they are shown.

use egressd_tests::{Node, Unbound, WORLD_V4, WORLD_V6};

use super::{UPSTREAM, node, service};

const ASK: &str = include_str!("clients/ask.py");

/// Asks for a name; the lines that say who answered what, in order.
fn ask(node: &Node, method: &str, name: &str, servers: &[&str]) -> Vec<String> {
    let client = node.python(ASK).arg(method).arg(name);
    let client = servers.iter().fold(client, |client, server| client.arg(server));
    let mut lines: Vec<_> = client.run().text().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The line of a server that seems to have answered itself.
fn itself(server: &str, answer: &str) -> String {
    format!("asked {server} peer {server} answer {answer}")
}

#[test]
fn the_answer_seems_to_come_from_the_server_that_was_asked() {
    let node = node();
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let daemon = node.daemon().config("dns: {capture: all}").resource(one).start();
    // None of them is there: all answers are ours.
    let v4 = ["192.0.2.53", "198.51.100.53", WORLD_V4[0], "203.0.113.53"];
    let v6 = ["2001:db8::53", WORLD_V6[0], "2001:db8:1::53"];
    for servers in [&v4[..], &v6] {
        let mut wanted: Vec<_> = servers.iter().map(|at| itself(at, "240.240.0.1")).collect();
        wanted.sort_unstable();
        for method in ["connected", "one", "msg", "tcp"] {
            assert_eq!(ask(&node, method, "one.test", servers), wanted, "{method}");
        }
    }
    let asked = 4 * (v4.len() + v6.len()) as u64;
    assert_eq!(daemon.number("/dns/requests"), asked);
    daemon.stop();
}

#[test]
fn servers_that_are_not_listed_are_left_alone() {
    let node = node();
    let named = |address| Unbound::start(&node.world, address, &["one.test. 5 A 192.0.2.9"]);
    let (listed, other) = (named(UPSTREAM), named(WORLD_V4[1]));
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let daemon = node.daemon().resource(one).start();
    let both = [UPSTREAM, WORLD_V4[1]];
    for method in ["connected", "one", "msg", "tcp"] {
        let lines = ask(&node, method, "one.test", &both);
        let wanted = [itself(both[0], "240.240.0.1"), itself(both[1], "192.0.2.9")];
        assert_eq!(lines, wanted, "{method}");
    }
    assert_eq!((listed.queries("one.test", "A"), other.queries("one.test", "A")), (0, 4));
    assert_eq!(daemon.number("/dns/requests"), 4);
    daemon.stop();
}

/// What getaddrinfo() does to sort addresses: it wants to know which source address would be used.
const PROBE: &str = r#"
import socket, sys
for address in sys.argv[1:]:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, 0))
    print("from", sock.getsockname()[0])
"#;

#[test]
fn probes_without_a_port_are_left_alone() {
    let node = node();
    let daemon = node.daemon().config("dns: {capture: all}").start();
    let text = node.python(PROBE).arg(UPSTREAM).arg(WORLD_V6[0]).run().text();
    assert_eq!(text, "from 10.77.0.1\nfrom fd77::1");
    daemon.stop();
}

#[test]
fn sockets_bound_to_a_device_ask_whom_they_mean() {
    let node = node();
    let unbound = Unbound::start(&node.world, UPSTREAM, &["one.test. 5 A 192.0.2.9"]);
    let one = service("one", "STATIC", &["192.0.2.1"]);
    let daemon = node.daemon().resource(one).start();
    // Turned to loopback they would be lost: they get what they would have got without us.
    for method in ["bound", "resolved"] {
        let lines = ask(&node, method, "one.test", &[UPSTREAM]);
        assert_eq!(lines, [itself(UPSTREAM, "192.0.2.9")], "{method}");
    }
    assert_eq!(unbound.queries("one.test", "A"), 2);
    assert_eq!(ask(&node, "one", "one.test", &[UPSTREAM]), [itself(UPSTREAM, "240.240.0.1")]);
    daemon.stop();
}
