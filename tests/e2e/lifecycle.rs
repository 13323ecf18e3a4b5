//! Start, end, and more than one daemon.

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use egressd_tests::{
    Behaviour, Cgroup, Node, Running, Servers, Signal, WAIT, WORLD_V4, attached_programs, until,
};

use crate::{
    clients::{dial, said},
    services,
};

const VIP: &str = "192.0.2.10";
const PORT: u16 = 27018;

fn service() -> String {
    services::tcp("one", &[VIP], PORT, &[&endpoint()])
}

fn endpoint() -> String {
    format!("{}:9000", WORLD_V4[0])
}

fn servers(node: &Node) -> Servers {
    Servers::one(&node.world, &endpoint(), Behaviour::named("one"))
}

/// Talks over one connection, a line at each SIGUSR1, and says how it ended.
const TALKER: &str = r#"
import signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
sock = socket.create_connection(("192.0.2.10", 27018), timeout=30)
lines = sock.makefile()
print("first", lines.readline().strip(), flush=True)
try:
    while signal.sigwait([signal.SIGUSR1, signal.SIGUSR2]) == signal.SIGUSR1:
        sock.sendall(b"ping\n")
        print("echo", lines.readline().strip(), flush=True)
    print("rest", repr(lines.read()))
except ConnectionResetError:
    print("reset")
"#;

fn talker(node: &Node) -> Running {
    let mut talker = node.python(TALKER).start();
    talker.wait_stdout("the server's name", |line| line.trim() == "first one");
    talker
}

#[track_caller]
fn talk(talker: &mut Running) {
    talker.signal(Signal::SIGUSR1);
    talker.wait_stdout("an echo", |line| line.trim() == "echo ping");
}

#[test]
fn it_leaves_nothing() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().resource(service()).start();
    assert_eq!(
        attached_programs(&node.cgroup),
        [
            "sock_ops",
            "connect4",
            "connect6",
            "sendmsg4",
            "sendmsg6",
            "recvmsg4",
            "recvmsg6",
            "getpeername4",
            "getpeername6",
            "sock_release"
        ]
    );
    dial(&node, VIP, PORT, &[]).run().text();
    daemon.wait_record();
    let admin = daemon.folder().join("admin.sock");
    assert!(admin.exists());
    daemon.stop();
    assert_eq!(attached_programs(&node.cgroup), [""; 0]);
    assert_eq!(attached_programs(&node.agent), [""; 0]);
    assert_eq!(node.cgroup.children().len(), 2, "{:?}", node.cgroup.children());
    assert_eq!(node.agent.children(), [""; 0]);
    assert!(!admin.exists(), "the admin socket is left");
    assert!(!std::path::Path::new("/sys/fs/bpf/egressd").exists(), "pins are left");
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "error"), "ENETUNREACH", "captured without a daemon");
}

#[test]
fn it_makes_a_cgroup_of_its_own_where_others_live_and_removes_it() {
    let node = Node::new();
    let _servers = servers(&node);
    let _neighbour = egressd_tests::Spawn::new(["sleep", "600"]).cgroup(&node.agent).start();
    let daemon = node.daemon().resource(service()).start();
    assert_eq!(node.agent.children(), ["egressd.self"]);
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "one", "{}", daemon.log());
    daemon.stop();
    assert_eq!(node.agent.children(), [""; 0]);
}

/// The daemon outside the captured cgroup: the hand-off needs a program in its own as well.
#[test]
fn it_may_live_outside_what_it_captures() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().attach_only(&node.apps).resource(service()).start();
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "one", "{}", daemon.log());
    assert_eq!(said(&printed, "peer"), format!("{VIP} {PORT}"));
    daemon.wait_record();
    // What is outside is not captured.
    let words = ["bash", "-c", "exec 3<>/dev/tcp/192.0.2.10/27018"];
    let done = egressd_tests::Spawn::new(words).netns(&node.netns).run();
    assert!(done.stderr.contains("unreachable"), "{}", done.stderr);
    daemon.stop();
    assert_eq!(attached_programs(&node.agent), [""; 0]);
}

#[test]
fn sigterm_waits_for_connections_and_no_longer() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().config("drainTimeout: 60s").resource(service()).start();
    let mut talker = talker(&node);
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM);
    talk(&mut talker);
    talk(&mut talker);
    drop(talker);
    daemon.wait().expect_code(0);
    assert!(start.elapsed() < Duration::from_secs(30), "ended after {:?}", start.elapsed());
}

#[test]
fn sigterm_resets_what_is_left_after_the_limit() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().config("drainTimeout: 2s").resource(service()).start();
    let mut talker = talker(&node);
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM);
    talk(&mut talker);
    let folder = daemon.folder().join("access.log");
    // The folder goes with the daemon.
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("access.log");
    std::fs::hard_link(&folder, &copied).unwrap();
    daemon.wait().expect_code(0);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(15), "{took:?}");
    talker.signal(Signal::SIGUSR2);
    let said = talker.wait().text();
    assert!(said.ends_with("reset"), "{said}");
    assert_eq!(std::fs::read_to_string(copied).unwrap().lines().count(), 1, "one record");
    assert_eq!(attached_programs(&node.cgroup), [""; 0]);
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let node = Node::new();
    let _servers = servers(&node);
    let mut daemon = node.daemon().config("drainTimeout: 60s").resource(service()).start();
    let _talker = talker(&node);
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_log("that it drains", |line| line.contains("drain"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait().expect_code(0);
    assert!(start.elapsed() < Duration::from_secs(15), "ended after {:?}", start.elapsed());
}

/// Connects for ever, and counts what happens once told that the daemon is gone.
const TRAFFIC: &str = r#"
import errno, signal, socket, threading, time
gone, stop, after, slow = threading.Event(), threading.Event(), {}, []
def run():
    while not stop.is_set():
        late, start = gone.is_set(), time.monotonic()
        try:
            with socket.create_connection(("192.0.2.10", 27018), timeout=10) as sock:
                sock.recv(10)
            code = "connected"
        except OSError as error:
            code = errno.errorcode.get(error.errno, "timeout")
        if late:
            after[code] = after.get(code, 0) + 1
        if time.monotonic() - start > 5:
            slow.append(code)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads:
    thread.start()
print("running", flush=True)
signal.sigwait([signal.SIGUSR1])
gone.set()
while sum(after.values()) < 100:
    time.sleep(0.01)
stop.set()
for thread in threads:
    thread.join()
print("after", *sorted(after), "slow", *slow)
"#;

#[test]
fn sigkill_under_traffic_leaves_the_network_working() {
    let node = Node::new();
    let servers = servers(&node);
    let daemon = node.daemon().resource(service()).start();
    let mut traffic = node.python(TRAFFIC).start();
    traffic.wait_stdout("that it runs", |line| line.trim() == "running");
    until("traffic", || (servers.accepted() > 200).then_some(()));
    daemon.signal(Signal::SIGKILL);
    assert_eq!(daemon.wait().code(), 128 + 9);
    // Links that nobody holds go a moment after their process.
    until("programs to go", || attached_programs(&node.cgroup).is_empty().then_some(()));
    traffic.signal(Signal::SIGUSR1);
    let printed = traffic.wait().text();
    // Not captured and without a route: it fails at once, and does not hang.
    assert_eq!(printed.lines().last(), Some("after ENETUNREACH slow"), "{printed}");
    let printed = dial(&node, WORLD_V4[0], 9000, &[]).run().text();
    assert_eq!(said(&printed, "first"), "one");
    // And a new daemon takes over at once.
    let daemon = node.daemon().resource(service()).start();
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "one", "{}", daemon.log());
}

#[test]
fn a_second_daemon_on_the_same_cgroup_is_refused() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node.daemon().resource(service()).start();
    let home = node.cgroup.child("second");
    let second = node.daemon().inside(&home).config("capture: {port: 15101}").start_to_fail();
    let second = second.expect_code(3);
    assert!(second.stderr.contains("egressd"), "{}", second.stderr);
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "one", "{}", daemon.log());
    daemon.wait_record();
}

/// The same address would stand for two hosts.
#[test]
fn a_second_daemon_with_the_same_state_is_refused() {
    let node = Node::new();
    let daemon = node.daemon().start();
    let state = daemon.folder().join("state");
    let (home, other) = (Cgroup::new(), Cgroup::new());
    let second = node.daemon().inside(&home).attach_only(&other);
    let config = format!("capture: {{port: 15101}}\nstateDirectory: {}", state.display());
    let second = second.config(&config).state_of_config().start_to_fail().expect_code(3);
    assert!(second.stderr.contains("set stateDirectory (or --state)"), "{}", second.stderr);
    daemon.stop();
}

#[test]
fn the_service_manager_hears_of_us() {
    let node = Node::new();
    let builder = node.daemon();
    let path = builder.folder().join("notify.sock");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(WAIT)).unwrap();
    let heard = || {
        let mut buffer = [0; 100];
        loop {
            match manager.recv(&mut buffer) {
                Ok(length) => return Some(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_elapsed) => return None,
            }
        }
    };
    let next = || heard().expect("a word");
    let daemon = builder.managed_at(path).start();
    assert_eq!([next(), next(), next()], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    // Who hangs says nothing, and counts as alive again once it goes on.
    daemon.signal(Signal::SIGSTOP);
    manager.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    until("silence", || heard().is_none().then_some(()));
    daemon.signal(Signal::SIGCONT);
    manager.set_read_timeout(Some(WAIT)).unwrap();
    assert_eq!(next(), "WATCHDOG=1");
    daemon.signal(Signal::SIGTERM);
    until("that it ends", || (next() == "STOPPING=1").then_some(()));
    daemon.wait().expect_code(0);
}

/// Each captures a cgroup of its own, and one inside the other works as well.
#[test]
fn a_second_daemon_on_another_cgroup_works() {
    let node = Node::new();
    let list = [(endpoint(), "one"), (format!("{}:9000", WORLD_V4[1]), "two")];
    let list = list.map(|(at, name)| (at, Behaviour::named(name)));
    let _servers = Servers::tcp(&node.world, list);
    let (outer, inner) = (Cgroup::new(), Cgroup::new());
    let homes = [Cgroup::new(), Cgroup::new()];
    let other = services::tcp("two", &[VIP], PORT, &[&format!("{}:9000", WORLD_V4[1])]);
    let first = node.daemon().inside(&homes[0]).attach_only(&outer).resource(service()).start();
    let second = node.daemon().inside(&homes[1]).attach_only(&inner);
    let second = second.config("capture: {port: 15101}").resource(other).start();
    for (cgroup, name) in [(&outer, "one"), (&inner, "two")] {
        let printed = dial(&node, VIP, PORT, &[]).cgroup(cgroup).run().text();
        assert_eq!(said(&printed, "first"), name, "{}\n{}", first.log(), second.log());
        assert_eq!(said(&printed, "peer"), format!("{VIP} {PORT}"));
    }
    first.wait_records(1);
    second.wait_records(1);
}

#[test]
fn a_second_daemon_inside_the_first_ones_cgroup_works() {
    let node = Node::new();
    let list = [(endpoint(), "one"), (format!("{}:9000", WORLD_V4[1]), "two")];
    let list = list.map(|(at, name)| (at, Behaviour::named(name)));
    let _servers = Servers::tcp(&node.world, list);
    let nested = node.apps.child("nested");
    let home = Cgroup::new();
    let other = services::tcp("two", &[VIP], PORT, &[&format!("{}:9000", WORLD_V4[1])]);
    let first = node.daemon().resource(service()).start();
    let second = node.daemon().inside(&home).attach_only(&nested);
    let second = second.config("capture: {port: 15101}").resource(other).start();
    // The nearer one turns it, and the outer one lets that pass.
    let printed = dial(&node, VIP, PORT, &[]).cgroup(&nested).run().text();
    assert_eq!(said(&printed, "first"), "two", "{}\n{}", first.log(), second.log());
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "first"), "one");
    first.wait_records(1);
    second.wait_records(1);
}
