//! What is said to an endpoint before the application's first byte: PROXY headers, and CONNECT.

use std::fs;

use egressd_tests::{
    Authority, Behaviour, Daemon, Nginx, Node, Running, Servers, WORLD_V4, await_listener,
};

use crate::{
    clients::{dial, said},
    services::{rule, tcp},
};

const VIP: &str = "192.0.2.10";
const TELL: &str = "return 200 '$proxy_protocol_addr $proxy_protocol_server_addr \
                    $proxy_protocol_server_port $ssl_protocol';";

fn start(node: &Node, policy: &str, endpoint: &str) -> Daemon {
    let service = tcp("one", &[VIP, "2001:db8::10"], 80, &[endpoint]);
    node.daemon().resource(service).resource(rule("one", policy)).start()
}

#[test]
fn nginx_understands_both_versions_of_the_proxy_protocol() {
    let node = Node::new();
    let _nginx = Nginx::listening(&node.world, WORLD_V4[0], 8080, "proxy_protocol", TELL);
    for version in ["V1", "V2"] {
        let policy = format!("proxyProtocol: {{version: {version}}}");
        let daemon = start(&node, &policy, &format!("{}:8080", WORLD_V4[0]));
        // Captured, the application has a loopback address; nginx is told the node's.
        let told = node.curl("http://192.0.2.10/").run().text();
        assert_eq!(told.trim_end(), "10.77.0.1 192.0.2.10 80", "{version}");
        let told = node.curl("http://[2001:db8::10]/").run().text();
        assert_eq!(told.trim_end(), "::ffff:10.77.0.1 2001:db8::10 80", "{version}");
        // Bytes of the header are not the application's.
        let record = &daemon.wait_records(2)[0];
        assert!(record.bytes_received < 120, "{}", record.line);
        daemon.stop();
    }
}

#[test]
fn the_header_goes_before_tls() {
    let (node, ca) = (Node::new(), Authority::new());
    let server = format!("{} {TELL}", ca.issue("web", "DNS:web.example").for_nginx());
    let _nginx = Nginx::listening(&node.world, WORLD_V4[0], 8443, "ssl proxy_protocol", &server);
    let policy = format!(
        "proxyProtocol: {{version: V2}}, tls: {{mode: SIMPLE, caCertificates: {}}}",
        ca.roots().display()
    );
    let _daemon = start(&node, &policy, &format!("{}:8443", WORLD_V4[0]));
    assert_eq!(node.curl("http://192.0.2.10/").run().text(), "10.77.0.1 192.0.2.10 80 TLSv1.3");
}

/// A forward proxy that lets CONNECT through to one port.
fn tinyproxy(node: &Node, folder: &std::path::Path) -> Running {
    let config = folder.join("tinyproxy.conf");
    let text = "Port 8888\nListen 10.77.0.2\nTimeout 60\nLogLevel Connect\nConnectPort 9000\n";
    fs::write(&config, text).unwrap();
    let process = node.server(["tinyproxy", "-d", "-c"]).arg(&config).start();
    await_listener(&node.world, WORLD_V4[0], 8888);
    process
}

fn tunnel(host: &str, port: u16) -> String {
    format!("tunnel: {{protocol: CONNECT, targetHost: {host}, targetPort: {port}}}")
}

#[test]
fn a_tunnel_leads_through_a_proxy() {
    let (node, folder) = (Node::new(), tempfile::tempdir().unwrap());
    let _proxy = tinyproxy(&node, folder.path());
    let target = format!("{}:9000", WORLD_V4[1]);
    // It speaks first: what follows the proxy's answer in one segment must not be lost.
    let _target = Servers::one(&node.world, &target, Behaviour::named("behind"));
    let daemon = start(&node, &tunnel(WORLD_V4[1], 9000), &format!("{}:8888", WORLD_V4[0]));
    let printed = dial(&node, VIP, 80, &[]).run().text();
    assert_eq!((said(&printed, "first"), said(&printed, "echo")), ("behind", "ping"));
    let record = daemon.wait_record();
    assert_eq!(record.upstream_host, "10.77.0.2:8888");
    assert_eq!((record.bytes_received, record.bytes_sent), (5, 12), "{}", record.line);
}

#[test]
fn a_tunnel_that_is_refused_closes_the_connection_with_its_reason() {
    let (node, folder) = (Node::new(), tempfile::tempdir().unwrap());
    let _proxy = tinyproxy(&node, folder.path());
    let daemon = start(&node, &tunnel(WORLD_V4[1], 22), &format!("{}:8888", WORLD_V4[0]));
    dial(&node, VIP, 80, &[]).run();
    let record = daemon.wait_record();
    assert_eq!(record.flags, "UF,URX", "{}", record.line);
    assert_eq!(record.failure, "tunnel_refused:_403", "{}", record.line);
}

#[test]
fn a_tunnel_through_what_is_no_proxy() {
    let node = Node::new();
    let cases = [
        (Behaviour::named("SSH-2.0"), "tunnel_answer_is_not_HTTP"),
        (Behaviour::Close, "tunnel_closed_without_an_answer"),
        (Behaviour::Stall, "tunnel_timeout"),
    ];
    for (behaviour, reason) in cases {
        let _server = Servers::one(&node.world, &format!("{}:8888", WORLD_V4[0]), behaviour);
        let policy = format!(
            "connectionPool: {{tcp: {{connectTimeout: 1s}}}}, {}",
            tunnel("a.example", 443)
        );
        let daemon = start(&node, &policy, &format!("{}:8888", WORLD_V4[0]));
        dial(&node, VIP, 80, &[]).run();
        assert_eq!(daemon.wait_record().failure, reason);
        daemon.stop();
    }
}
