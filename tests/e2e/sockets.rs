//! Sockets made and used in unusual ways.

use egressd_tests::{Behaviour, Daemon, NODE_V4, Node, Servers, WORLD_V4};

use crate::{
    clients::{dial, io_uring, said},
    services,
};

const VIP: &str = "192.0.2.10";
const PORT: u16 = 27018;

struct Place {
    node: Node,
    _servers: Servers,
    daemon: Daemon,
}

/// A service at [`VIP`] whose endpoint is named `one`; on the link to the world, one named `world`
/// that is no service.
fn place() -> Place {
    let node = Node::new();
    prepare(&node);
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let list = [
        (endpoint.clone(), Behaviour::named("one")),
        (format!("{}:9001", WORLD_V4[1]), Behaviour::named("world")),
    ];
    let servers = Servers::tcp(&node.world, list);
    let service = services::tcp("one", &[VIP], PORT, &[&endpoint]);
    let daemon = node.daemon().resource(service).start();
    Place { node, _servers: servers, daemon }
}

/// Data may come with a SYN from the first connection on, without a cookie (flags of
/// Documentation/networking/ip-sysctl.rst: client, server, and both without a cookie).
fn prepare(node: &Node) {
    node.netns.sysctl("ipv4/tcp_fastopen", "1543");
}

impl Place {
    /// Dials the service with options and checks what any captured client sees.
    #[track_caller]
    fn check(&self, options: &[&str]) -> String {
        let printed = dial(&self.node, VIP, PORT, options).run().text();
        assert_eq!(said(&printed, "first"), "one", "{printed}\n{}", self.daemon.log());
        assert_eq!(said(&printed, "echo"), "ping");
        let record = self.daemon.wait_record();
        assert_eq!(record.decision(), ("-", "outbound|27018||one.example", "192.0.2.10:27018"));
        printed
    }
}

#[test]
fn non_blocking() {
    let printed = place().check(&["--non-blocking"]);
    assert_eq!(said(&printed, "peer"), "192.0.2.10 27018");
}

#[test]
fn bound_to_any_address() {
    let printed = place().check(&["--bind", "0.0.0.0,0"]);
    assert_eq!(said(&printed, "peer"), "192.0.2.10 27018");
}

#[test]
fn bound_to_an_address_of_the_host() {
    let place = place();
    let printed = place.check(&["--bind", &format!("{NODE_V4},0")]);
    assert!(said(&printed, "local").starts_with(NODE_V4), "{printed}");
    let record = place.daemon.wait_record();
    assert!(record.downstream_remote.starts_with(NODE_V4), "{}", record.line);
}

#[test]
fn bound_to_a_port() {
    let place = place();
    let printed = place.check(&["--bind", "0.0.0.0,4711"]);
    assert!(said(&printed, "local").ends_with(" 4711"), "{printed}");
    assert!(place.daemon.wait_record().downstream_remote.ends_with(":4711"));
}

#[test]
fn bound_to_loopback() {
    let printed = place().check(&["--device", "lo"]);
    assert_eq!(said(&printed, "peer"), "192.0.2.10 27018");
}

#[test]
fn bound_to_another_device_is_not_captured() {
    let place = place();
    let printed = dial(&place.node, VIP, PORT, &["--device", "up0"]).run().text();
    assert_ne!(said(&printed, "error"), "-", "{printed}");
    let printed = dial(&place.node, WORLD_V4[1], 9001, &["--device", "up0"]).run().text();
    assert_eq!(said(&printed, "first"), "world");
    assert_eq!(place.daemon.number("/counters/bound_device"), 1);
    assert_eq!(place.daemon.records(), []);
}

#[test]
fn fast_open_by_sendto() {
    let printed = place().check(&["--fast-open", "sendto"]);
    assert_eq!(said(&printed, "peer"), "192.0.2.10 27018");
    assert_eq!(said(&printed, "syn-data"), "True", "{printed}");
}

#[test]
fn fast_open_by_connect() {
    let printed = place().check(&["--fast-open", "connect"]);
    assert_eq!(said(&printed, "peer"), "192.0.2.10 27018");
    assert_eq!(said(&printed, "syn-data"), "True", "{printed}");
}

/// getpeername() of an MPTCP socket does not come by the subflow, so it may show the spread address;
/// documented, and not asserted here.
#[test]
fn mptcp() {
    place().check(&["--mptcp"]);
}

#[test]
fn io_uring_connect() {
    let place = place();
    let printed = io_uring(&place.node, VIP, PORT).run().text();
    assert_eq!(said(&printed, "first"), "one", "{printed}");
    assert_eq!(said(&printed, "echo"), "ping");
    assert_eq!(said(&printed, "peer"), "192.0.2.10 27018");
    assert_eq!(place.daemon.wait_record().downstream_local, "192.0.2.10:27018");
}

/// Connects three times with one socket: to the service, nowhere (AF_UNSPEC), and to the world.
const UNSPEC: &str = r#"
import ctypes, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
sock = socket.socket()
for address, port in ((sys.argv[1], int(sys.argv[2])), (sys.argv[3], int(sys.argv[4]))):
    sock.connect((address, port))
    print("first", sock.recv(100).decode().strip())
    print("peer", *sock.getpeername())
    if libc.connect(sock.fileno(), bytes(16), 16) != 0:
        raise OSError(ctypes.get_errno(), "AF_UNSPEC")
try:
    sock.getpeername()
except OSError:
    print("none")
"#;

#[test]
fn dissolved_with_af_unspec_and_used_again() {
    let place = place();
    let there = [VIP, "27018", WORLD_V4[1], "9001"];
    let back = [WORLD_V4[1], "9001", VIP, "27018"];
    for (words, names) in [(there, ["one", "world"]), (back, ["world", "one"])] {
        let spawn = place.node.python(UNSPEC);
        let printed = words.iter().fold(spawn, |spawn, word| spawn.arg(word)).run().text();
        let expected = format!(
            "first {}\npeer {} {}\nfirst {}\npeer {} {}\nnone",
            names[0], words[0], words[1], names[1], words[2], words[3]
        );
        assert_eq!(printed, expected);
    }
    place.daemon.wait_records(2);
    place.daemon.wait_number("/handoffs", 0);
}

/// Takes every port towards the service, so that the next connect() to it fails after the kernel has
/// turned it; then dials the world with that very socket.
const REUSED: &str = r#"
import errno, socket, sys
service, world = (sys.argv[1], int(sys.argv[2])), (sys.argv[3], int(sys.argv[4]))
held = []
while True:
    sock = socket.socket()
    code = sock.connect_ex(service)
    if code:
        break
    held.append(sock)
print("error", errno.errorcode[code])
sock.connect(world)
print("first", sock.recv(100).decode().strip())
print("peer", *sock.getpeername())
"#;

#[test]
fn used_again_after_a_failed_connect() {
    let place = place();
    // Four ports towards each of the spread addresses: some sixty connections take them all.
    place.node.netns.sysctl("ipv4/ip_local_port_range", "40000 40003");
    let words = [VIP, "27018", WORLD_V4[1], "9001"];
    let spawn = place.node.python(REUSED);
    let printed = words.iter().fold(spawn, |spawn, word| spawn.arg(word)).run().text();
    assert_eq!(said(&printed, "error"), "EADDRNOTAVAIL", "{printed}");
    assert_eq!(said(&printed, "first"), "world");
    assert_eq!(said(&printed, "peer"), format!("{} 9001", WORLD_V4[1]));
    place.daemon.wait_number("/handoffs", 0);
}

/// Makes a socket, says so, and connects when it gets a signal.
const EARLY: &str = r#"
import signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sock = socket.socket()
print("made", flush=True)
signal.sigwait([signal.SIGUSR1])
sock.connect((sys.argv[1], int(sys.argv[2])))
print("first", sock.recv(100).decode().strip())
print("peer", *sock.getpeername())
"#;

#[test]
fn made_before_the_daemon_started() {
    let node = Node::new();
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let _servers = Servers::one(&node.world, &endpoint, Behaviour::named("one"));
    let mut client = node.python(EARLY).arg(VIP).arg(PORT.to_string()).start();
    client.wait_stdout("that its socket is made", |line| line.trim() == "made");
    let service = services::tcp("one", &[VIP], PORT, &[&endpoint]);
    let daemon = node.daemon().resource(service).start();
    client.signal(egressd_tests::Signal::SIGUSR1);
    let printed = client.wait().text();
    assert_eq!(said(&printed, "first"), "one");
    assert_eq!(said(&printed, "peer"), "192.0.2.10 27018");
    assert_eq!(daemon.wait_record().downstream_local, "192.0.2.10:27018");
}
