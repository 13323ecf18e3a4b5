//! A program that knows only a name.

use std::{ffi::OsString, fs};

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4};

fn endpoint() -> String {
    format!("{}:9000", WORLD_V4[0])
}

/// A service without an address of its own.
fn service(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 hosts: [{name}.test]\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {}, ports: {{http: 9000}}}}]\n",
        WORLD_V4[0]
    )
}

fn http(node: &Node) -> Servers {
    Servers::one(&node.world, &endpoint(), Behaviour::Page("the page of one".to_owned()))
}

/// The address a name has, by the C library's resolver.
fn address(node: &Node, name: &str) -> String {
    let printed = node.app(["getent", "ahostsv4", name]).run().text();
    printed.split_whitespace().next().unwrap_or("none").to_owned()
}

fn start(node: &Node, names: &[&str]) -> Daemon {
    let builder = node.daemon().config("dns: {capture: all}");
    names.iter().fold(builder, |builder, name| builder.resource(service(name))).start()
}

/// The only file of the daemon's state: its name, and what is in it.
fn kept_state(daemon: &Daemon) -> (OsString, Vec<u8>) {
    let mut files = fs::read_dir(daemon.folder().join("state")).unwrap();
    let file = files.next().unwrap().unwrap();
    assert!(files.next().is_none(), "one file of state");
    (file.file_name(), fs::read(file.path()).unwrap())
}

#[test]
fn curl_by_name_reaches_a_static_endpoint() {
    let node = Node::new();
    let _server = http(&node);
    let daemon = start(&node, &["one"]);
    let text = node.curl("http://one.test/").arg("--ipv4").run().text();
    assert!(text.contains("one"), "{text}");
    let record = daemon.wait_record();
    assert_eq!(record.upstream_cluster, "outbound|80||one.test");
    assert_eq!(record.upstream_host, endpoint());
    assert_eq!(record.downstream_local, "240.240.0.1:80");
    daemon.stop();
}

#[test]
fn addresses_outlive_the_daemon() {
    let node = Node::new();
    let daemon = start(&node, &["first", "second"]);
    let second = address(&node, "second.test");
    assert_eq!(
        (address(&node, "first.test"), second.as_str()),
        ("240.240.0.1".into(), "240.240.0.2")
    );
    let kept = kept_state(&daemon);
    daemon.stop();
    // The older service is gone; the younger one keeps its address.
    let builder = node.daemon().config("dns: {capture: all}").resource(service("second"));
    fs::create_dir(builder.folder().join("state")).unwrap();
    fs::write(builder.folder().join("state").join(&kept.0), &kept.1).unwrap();
    let daemon = builder.start();
    assert_eq!(address(&node, "second.test"), second);
    daemon.stop();
}

#[test]
fn other_names_are_asked_upstream_and_other_types_too() {
    let node = Node::new();
    let upstream = node.server(["/usr/bin/python3", "-c", UPSTREAM]).start();
    let daemon = node
        .daemon()
        .config(&format!("dns: {{capture: all, upstreams: [{}]}}", WORLD_V4[0]))
        .resource(service("one"))
        .start();
    egressd_tests::until("the upstream's answer", || {
        (address(&node, "elsewhere.test") == "203.0.113.9").then_some(())
    });
    assert_eq!(address(&node, "one.test"), "240.240.0.1");
    daemon.stop();
    drop(upstream);
}

/// Answers every A question with 203.0.113.9 and everything else with no records.
const UPSTREAM: &str = r#"
import socket, struct
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.77.0.2", 53))
while True:
    query, client = sock.recvfrom(4096)
    end = query.index(b"\0", 12) + 5
    is_a = query[end - 4:end] == b"\0\1\0\1"
    head = query[:2] + struct.pack(">5H", 0x8180, 1, int(is_a), 0, 0)
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4" + bytes([203, 0, 113, 9])
    sock.sendto(head + query[12:end] + (answer if is_a else b""), client)
"#;
