//! A program that knows only a name.

use std::fs;

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
    Servers::one(&node.world, &endpoint(), Behaviour::http("one"))
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

#[test]
fn curl_by_name_reaches_a_static_endpoint() {
    let node = Node::new();
    let _server = http(&node);
    let daemon = start(&node, &["one"]);
    let text = node.curl("http://one.test/").run().text();
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
    assert_eq!((address(&node, "first.test"), second.as_str()), ("240.240.0.1".into(), "240.240.0.2"));
    let state = daemon.folder().join("state");
    let kept = node.netns_folder_copy(&state);
    daemon.stop();
    let builder = node.daemon().config("dns: {capture: all}").state(&kept);
    let daemon = builder.resource(service("second")).start();
    assert_eq!(address(&node, "second.test"), second);
    fs::remove_dir_all(&kept).unwrap();
    daemon.stop();
}
