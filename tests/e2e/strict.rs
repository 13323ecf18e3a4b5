//! `strict: true`: at a virtual address, too, a connection must ask for the service it is for.

use egressd_tests::{Daemon, Nginx, Node, TlsServer, WORLD_V4};

const VIP: &str = "192.0.2.80";

/// A service `a.example` at [`VIP`] with one port, whose endpoint listens on `target`.
fn service(port: &str, target: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: a}}\n\
         spec:\n\
         \x20 hosts: [a.example]\n\
         \x20 addresses: [{VIP}]\n\
         \x20 ports: [{{{port}, targetPort: {target}}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {}}}]\n",
        WORLD_V4[0]
    )
}

/// curl's exit status for `https://NAME/` at the address of `a.example`.
fn https(node: &Node, server: &TlsServer, name: &str) -> i32 {
    let curl = node.curl(&format!("https://{name}/")).arg("--cacert").arg(server.certificate());
    let curl = curl.arg("--insecure").arg("--resolve").arg(format!("{name}:443:{VIP}"));
    curl.run().code()
}

#[test]
fn another_server_name_is_refused() {
    let node = Node::new();
    let server = TlsServer::start(&node.world, WORLD_V4[0], 8443, "a.example");
    let resource = service("number: 443, name: tls, protocol: TLS", 8443);
    for (strict, reached) in [(false, true), (true, false)] {
        let config = format!("strict: {strict}");
        let daemon = node.daemon().config(&config).resource(resource.as_str()).start();
        assert_eq!(https(&node, &server, "a.example"), 0, "{}", daemon.log());
        let other = https(&node, &server, "b.example");
        assert_eq!(other == 0, reached, "{other:?}\n{}", daemon.log());
        let record = daemon.wait_records(2).remove(1);
        let cluster = if reached { "outbound|443||a.example" } else { "BlackHoleCluster" };
        assert_eq!(record.upstream_cluster, cluster, "{}", record.line);
        assert_eq!(record.line.contains("foreign_server_name"), !reached, "{}", record.line);
        daemon.stop();
    }
}

/// What `http://a.example/` answers to a request for another host.
fn status(node: &Node, host: &str) -> String {
    let curl = node.curl(&format!("http://{VIP}/")).arg("--header").arg(format!("Host: {host}"));
    curl.arg("--output").arg("/dev/null").arg("--write-out").arg("%{http_code}").run().text()
}

fn with_http(node: &Node, config: &str) -> Daemon {
    let resource = service("number: 80, name: any", 8080);
    node.daemon().config(config).resource(resource).start()
}

#[test]
fn another_host_is_refused() {
    let node = Node::new();
    let _nginx = Nginx::start(&node.world, WORLD_V4[0], 8080, "return 200 'from nginx\n';");
    let daemon = with_http(&node, "");
    assert_eq!(status(&node, "b.example"), "200", "{}", daemon.log());
    daemon.stop();
    let daemon = with_http(&node, "strict: true");
    assert_eq!(status(&node, "a.example"), "200", "{}", daemon.log());
    assert_eq!(status(&node, "b.example"), "502", "{}", daemon.log());
    let record = daemon.wait_records(2).remove(1);
    assert_eq!(record.code, "502", "{}", record.line);
    assert_eq!(record.upstream_host, "-", "{}", record.line);
    daemon.stop();
}
