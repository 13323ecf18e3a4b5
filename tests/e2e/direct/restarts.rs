//! What reloads, restarts and sudden ends do to direct connections: nothing.

use egressd_tests::{Behaviour, Node, Running, Servers, Signal};

use super::world::{ALL, at, service, start};

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
