//! What reloads, restarts and sudden ends do to direct connections: nothing.

use egressd_tests::{Behaviour, Node, Running, Servers, Signal, Spawn, egressd};

use super::{
    pins::BpfFs,
    world::{ALL, at, service, start},
};
use crate::clients::{dial, said};

/// Talks over one connection, a line at each SIGUSR1.
const TALKER: &str = r#"
import signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sock = socket.create_connection(("192.0.2.10", 9000), timeout=30)
lines = sock.makefile()
print("first", lines.readline().strip(), flush=True)
while True:
    signal.sigwait([signal.SIGUSR1])
    sock.sendall(b"ping\n")
    print("echo", lines.readline().strip(), *sock.getpeername(), flush=True)
"#;

#[track_caller]
fn talk(talker: &mut Running) {
    talker.signal(Signal::SIGUSR1);
    talker.wait_stdout("an echo", |line| line.trim().starts_with("echo ping"));
}

#[test]
fn a_connection_outlives_reloads_and_daemons() {
    let node = Node::new();
    let _server = Servers::one(&node.world, &at(0), Behaviour::named("one"));
    let one = service(&ALL[..1]);
    let daemon = start(&node, "direct", &one, "");
    let mut talker = node.python(TALKER).start();
    talker.wait_stdout("the server's name", |line| line.trim() == "first one");
    talk(&mut talker);
    daemon.put(0, &service(&ALL[1..2]));
    daemon.wait_number("/generation", 2);
    talk(&mut talker);
    daemon.put(0, "");
    daemon.wait_number("/generation", 3);
    talk(&mut talker);
    daemon.signal(Signal::SIGKILL);
    drop(daemon.wait());
    talk(&mut talker);
    let daemon = start(&node, "direct", &one, "");
    talk(&mut talker);
    // An orderly end does not wait for it, and does not touch it.
    daemon.stop();
    talk(&mut talker);
}

/// Holds as many connections as it is told, until it is ended.
const HOLD: &str = "
import socket, sys, time
held = [socket.create_connection(('192.0.2.10', 9000), timeout=15) for _ in range(int(sys.argv[1]))]
print('held', sum(bool(sock.recv(100)) for sock in held), flush=True)
time.sleep(600)
";

#[test]
fn what_is_pinned_is_adopted() {
    let (node, bpf) = (Node::new(), BpfFs::mount());
    let _server = Servers::one(&node.world, &at(0), Behaviour::named("one"));
    let one = service(&ALL[..1]);
    let daemon = || node.daemon().config(&bpf.config()).resource(&one).start();
    let first = daemon();
    let mut held = node.python(HOLD).arg("5").start();
    held.wait_stdout("connections", |line| line.trim() == "held 5");
    first.wait_number("/direct/active", 5);
    first.signal(Signal::SIGKILL);
    drop(first.wait());
    // Nobody is there, and the kernel goes on as it was told last.
    let printed = dial(&node, "192.0.2.10", 9000, &[]).run().text();
    assert_eq!((said(&printed, "first"), said(&printed, "peer")), ("one", "192.0.2.10 9000"));
    let second = daemon();
    second.wait_number("/direct/active", 5);
    held.signal(Signal::SIGKILL);
    drop(held);
    second.wait_number("/direct/active", 0);
    // Those five, and the one that was made while nobody was there.
    second.wait_records(6);
    second.stop();
    assert!(!bpf.pins().exists(), "an orderly end leaves nothing");
    let third = daemon();
    third.signal(Signal::SIGKILL);
    drop(third.wait());
    assert!(bpf.pins().exists());
    let cleanup = Spawn::new([egressd()]).arg("cleanup").arg("--pins").arg(bpf.pins());
    assert!(cleanup.run().text().starts_with("removed "));
    assert!(!bpf.pins().exists());
}
