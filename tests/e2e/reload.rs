//! Edits of resources under a running daemon.

use std::{fs, path::PathBuf};

use egressd_tests::{Behaviour, Daemon, Node, Servers, Signal, WORLD_V4, until};

use crate::{
    clients::{dial, said},
    services,
};

const VIP: &str = "192.0.2.10";
const OTHER: &str = "192.0.2.20";
const PORT: u16 = 27018;

fn endpoint(index: usize) -> String {
    format!("{}:9000", WORLD_V4[index])
}

fn servers(node: &Node) -> Vec<Servers> {
    let server = |index: usize| {
        Servers::one(&node.world, &endpoint(index), Behaviour::named(format!("server{index}")))
    };
    vec![server(0), server(1)]
}

fn file(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.folder().join("resources").join(name)
}

/// Puts a file in place in one step, as careful writers do.
fn put(daemon: &Daemon, name: &str, yaml: &str) {
    let new = daemon.folder().join("new");
    fs::write(&new, yaml).unwrap();
    fs::rename(&new, file(daemon, name)).unwrap();
}

fn answers(node: &Node, address: &str) -> String {
    said(&dial(node, address, PORT, &[]).run().text(), "first").to_owned()
}

#[test]
fn an_edit_takes_effect_by_itself() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon =
        node.daemon().resource(services::tcp("one", &[VIP], PORT, &[&endpoint(0)])).start();
    assert_eq!(answers(&node, VIP), "server0");
    put(&daemon, "0.yaml", &services::tcp("one", &[VIP], PORT, &[&endpoint(1)]));
    daemon.wait_number("/generation", 2);
    assert_eq!(answers(&node, VIP), "server1");
    put(&daemon, "more.yaml", &services::tcp("two", &[OTHER], PORT, &[&endpoint(0)]));
    daemon.wait_number("/generation", 3);
    assert_eq!(answers(&node, OTHER), "server0");
    fs::remove_file(file(&daemon, "more.yaml")).unwrap();
    daemon.wait_number("/generation", 4);
    let log = daemon.log();
    let two = "outbound|27018||two.example";
    assert!(log.contains("generation=2 added= changed=outbound|27018||one.example "), "{log}");
    assert!(log.contains(&format!("generation=3 added={two} ")), "{log}");
    assert!(log.contains(&format!("removed={two} ")), "{log}");
    let printed = dial(&node, OTHER, PORT, &[]).run().text();
    assert_eq!(said(&printed, "error"), "ENETUNREACH", "{printed}");
    assert_eq!(answers(&node, VIP), "server1");
    daemon.stop();
}

#[test]
fn a_bad_edit_changes_nothing_and_says_everything() {
    let node = Node::new();
    let _servers = servers(&node);
    let good = services::tcp("one", &[VIP], PORT, &[&endpoint(0)]);
    let mut daemon = node.daemon().resource(good.as_str()).start();
    let bad = good.replace("resolution", "resolutoin").replace("protocol: TCP", "protocol: TPC");
    put(&daemon, "0.yaml", &bad);
    daemon.wait_log("that the old generation stays", |line| {
        line.contains("the generation before stays in force")
    });
    let log = daemon.log();
    assert!(log.contains("resolutoin") && log.contains("did you mean"), "{log}");
    assert!(log.contains("TPC"), "{log}");
    assert_eq!(daemon.number("/generation"), 1);
    assert_eq!(answers(&node, VIP), "server0");
    // Another file does not take effect while the bad one is there.
    put(&daemon, "more.yaml", &services::tcp("two", &[OTHER], PORT, &[&endpoint(0)]));
    put(&daemon, "0.yaml", &good);
    daemon.wait_number("/generation", 2);
    assert_eq!(answers(&node, VIP), "server0");
    assert_eq!(answers(&node, OTHER), "server0");
    daemon.stop();
}

#[test]
fn what_is_deleted_is_refused_where_only_the_known_may_pass() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon = node
        .daemon()
        .config("meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
        .resource(services::tcp("one", &[VIP], PORT, &[&endpoint(0)]))
        .resource(services::tcp("two", &[OTHER], PORT, &[&endpoint(1)]))
        .start();
    assert_eq!(answers(&node, VIP), "server0");
    fs::remove_file(file(&daemon, "0.yaml")).unwrap();
    daemon.wait_number("/generation", 2);
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "error"), "ECONNREFUSED", "{printed}");
    let refused = daemon.wait_records(2).remove(1);
    assert_eq!(refused.decision(), ("UH", "BlackHoleCluster", "192.0.2.10:27018"));
    // What is left is as it was.
    assert_eq!(answers(&node, OTHER), "server1");
    daemon.stop();
}

#[test]
fn sighup_reads_everything() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon =
        node.daemon().resource(services::tcp("one", &[VIP], PORT, &[&endpoint(0)])).start();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_number("/generation", 2);
    assert_eq!(answers(&node, VIP), "server0");
    daemon.stop();
}

/// Talks before and after the reload over one connection.
const TALKER: &str = r#"
import signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sock = socket.create_connection(("192.0.2.10", 27018), timeout=30)
lines = sock.makefile()
print("first", lines.readline().strip(), flush=True)
signal.sigwait([signal.SIGUSR1])
sock.sendall(b"ping\n")
print("echo", lines.readline().strip(), flush=True)
"#;

#[test]
fn an_established_connection_is_not_touched() {
    let node = Node::new();
    let _servers = servers(&node);
    let daemon =
        node.daemon().resource(services::tcp("one", &[VIP], PORT, &[&endpoint(0)])).start();
    let mut talker = node.python(TALKER).start();
    talker.wait_stdout("the server's name", |line| line.trim() == "first server0");
    fs::remove_file(file(&daemon, "0.yaml")).unwrap();
    daemon.wait_number("/generation", 2);
    let printed = dial(&node, VIP, PORT, &[]).run().text();
    assert_eq!(said(&printed, "error"), "ENETUNREACH", "{printed}");
    talker.signal(Signal::SIGUSR1);
    talker.wait_stdout("an echo", |line| line.trim() == "echo ping");
    let record = until("the record", || daemon.records().pop());
    assert_eq!(record.upstream_host, endpoint(0));
    daemon.stop();
}

#[test]
fn a_folder_of_resources_that_comes_later_is_read() {
    let node = Node::new();
    let _servers = servers(&node);
    let builder = node.daemon();
    let (folder, aside) = (builder.folder().join("resources"), builder.folder().join("aside"));
    let mut daemon = builder.start();
    // The one that the support library makes goes, and another one comes.
    fs::rename(&folder, &aside).unwrap();
    daemon.wait_log("that the folder's going is noticed", |line| line.contains("reloaded"));
    fs::create_dir(aside.join("new")).unwrap();
    let yaml = services::tcp("one", &[VIP], PORT, &[&endpoint(0)]);
    fs::write(aside.join("new/one.yaml"), &yaml).unwrap();
    fs::rename(aside.join("new"), &folder).unwrap();
    until("the new folder's service", || {
        dial(&node, VIP, PORT, &[]).run().text().contains("server0").then_some(())
    });
    daemon.stop();
}
