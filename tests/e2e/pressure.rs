//! Many connections at once, and tables that are full.

use egressd_tests::{Behaviour, Daemon, Node, Running, Servers, Signal, WORLD_V4};

use crate::{
    clients::{dial, hold, said, storm},
    services,
};

const PORT: u16 = 27018;

#[test]
fn a_storm_reaches_no_wrong_destination() {
    const SERVICES: u16 = 200;
    let node = Node::new();
    let name = |index: u16| format!("s{index}");
    let endpoint = |index: u16| format!("{}:{}", WORLD_V4[0], 10_000 + index);
    let list = (0..SERVICES).map(|index| (endpoint(index), Behaviour::Named(name(index))));
    let _servers = Servers::tcp(&node.world, list);
    let mut daemon = node.daemon();
    let mut targets = Vec::new();
    for index in 0..SERVICES {
        let address = format!("203.0.113.{}", index + 1);
        daemon =
            daemon.resource(services::tcp(&name(index), &[&address], PORT, &[&endpoint(index)]));
        targets.push((format!("{address}:{PORT}"), name(index)));
    }
    let daemon = daemon.start();
    let done = storm(&node, 8, 250, &targets).run();
    assert_eq!(done.stdout.trim(), "wrong 0 failed 0 of 2000", "{}", done.stderr);
    let records = daemon.wait_records(2000);
    for record in records {
        let host = record.upstream_host.rsplit_once(':').unwrap().1;
        let index: u16 = host.parse::<u16>().unwrap() - 10_000;
        let cluster = format!("outbound|{PORT}||{}.example", name(index));
        let dialled = format!("203.0.113.{}:{PORT}", index + 1);
        assert_eq!(record.decision(), ("-", cluster.as_str(), dialled.as_str()));
    }
    daemon.wait_number("/handoffs", 0);
    daemon.wait_number("/flows", 0);
    assert_eq!(daemon.number("/counters/captured"), 2000);
    assert_eq!(daemon.number("/counters/handoff_miss"), 0);
}

/// A source address has only as many connections to one target as it has ports. With 50 ports, as
/// here, one target for all services would do for 50 connections; there are 16.
#[track_caller]
fn more_than_ports(addresses: &[&str]) {
    let node = Node::new();
    node.netns.sysctl("ipv4/ip_local_port_range", "40000 40049");
    let builder = node.daemon();
    // A Unix socket, so that the proxy's own connections need no ports.
    let socket = builder.folder().join("socket");
    let _servers = Servers::unix(&socket, Behaviour::named("held"));
    let endpoint = format!("unix://{}", socket.display());
    let daemon = builder.resource(services::tcp("one", addresses, PORT, &[&endpoint])).start();
    let targets: Vec<_> = addresses.iter().map(|address| format!("{address},{PORT}")).collect();
    let targets: Vec<_> = targets.iter().map(String::as_str).collect();
    let printed = hold(&node, 400, &targets).run().text();
    assert_eq!(said(&printed, "held"), "400", "{printed}\n{}", daemon.log());
    daemon.wait_records(400);
    daemon.wait_number("/handoffs", 0);
}

#[test]
fn more_connections_than_ports() {
    more_than_ports(&["192.0.2.10", "192.0.2.11", "192.0.2.12"]);
}

#[test]
fn more_connections_than_ports_to_one_address() {
    more_than_ports(&["192.0.2.10"]);
}

#[test]
fn more_connections_than_ports_by_ipv6() {
    more_than_ports(&["2001:db8::10", "2001:db8::11"]);
}

/// Opens connections without waiting for them, says how connect() answered, and holds them until
/// told. With a second argument it waits until all are established.
const FLOOD: &str = r#"
import errno, resource, select, signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
count = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
held, answers = {}, set()
for number in range(count):
    sock = socket.socket()
    sock.setblocking(False)
    code = sock.connect_ex(("192.0.2.10", 27018))
    answers.add(errno.errorcode.get(code, "connected"))
    held[sock.fileno()] = sock
print("answers", *sorted(answers), flush=True)
if len(sys.argv) > 2:
    poll, left = select.poll(), set(held)
    for fileno in held:
        poll.register(fileno, select.POLLOUT)
    while left:
        for fileno, _ in poll.poll():
            poll.unregister(fileno)
            left.discard(fileno)
    print("established", flush=True)
signal.sigwait([signal.SIGUSR1])
"#;

/// A service whose proxy does not accept, with queues of one connection for each of its listeners:
/// further handshakes stay open.
struct Stopped {
    node: Node,
    daemon: Daemon,
    _servers: Servers,
}

fn stopped() -> Stopped {
    let node = Node::new();
    node.netns.sysctl("core/somaxconn", "1");
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let _servers = Servers::one(&node.world, &endpoint, Behaviour::named("one"));
    let service = services::tcp("one", &["192.0.2.10"], PORT, &[&endpoint]);
    let daemon = node.daemon().resource(service).start();
    daemon.signal(Signal::SIGSTOP);
    Stopped { node, daemon, _servers }
}

/// Waits until every connect() has been answered; all were turned to us: past us there is no route,
/// and the answer would be ENETUNREACH.
#[track_caller]
fn wait_answers(flood: &mut Running) {
    let answers = flood.wait_stdout("answers", |line| line.starts_with("answers"));
    assert_eq!(answers, "answers EINPROGRESS");
}

impl Stopped {
    /// All is as before: no hand-off is left, and the service is reached.
    #[track_caller]
    fn check_recovered(&self) {
        self.daemon.wait_number("/handoffs", 0);
        let printed = dial(&self.node, "192.0.2.10", PORT, &[]).run().text();
        assert_eq!(said(&printed, "first"), "one", "{printed}\n{}", self.daemon.log());
    }
}

#[test]
fn a_full_table_lets_nothing_past() {
    let stopped = stopped();
    // The table holds 16,384 hand-offs; several processes, because each may only open so many files.
    let flood = || stopped.node.python(FLOOD).arg("5000").start();
    let mut floods: Vec<_> = (0..4).map(|_| flood()).collect();
    floods.iter_mut().for_each(wait_answers);
    for flood in floods {
        flood.signal(Signal::SIGUSR1);
        flood.wait().expect_code(0);
    }
    stopped.daemon.signal(Signal::SIGCONT);
    stopped.check_recovered();
}

/// A client may think itself connected while its last ACK found the queue full: its hand-off must
/// wait for the accepted socket, and go with the client if that never comes.
#[test]
fn handshakes_that_only_the_client_finished_leave_nothing() {
    let stopped = stopped();
    // Twice what the queues hold; more would take turns at them for longer than a test should wait.
    let mut flood = stopped.node.python(FLOOD).arg("64").arg("wait").start();
    wait_answers(&mut flood);
    stopped.daemon.signal(Signal::SIGCONT);
    flood.wait_stdout("that all are established", |line| line.trim() == "established");
    flood.signal(Signal::SIGUSR1);
    flood.wait().expect_code(0);
    stopped.check_recovered();
}
