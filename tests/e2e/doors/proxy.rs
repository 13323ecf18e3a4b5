//! The explicit HTTP proxy, for programs that cannot be captured (semantics.md §6).

use std::collections::BTreeMap;

use egressd_tests::Spawn;

use crate::http::world::{World, last};

const PROXY: &str = "http://127.0.0.1:15080";

/// curl, not captured, told of the proxy as programs are.
fn curl<'a>(world: &'a World, url: &str) -> Spawn<'a> {
    let words = ["curl", "--silent", "--show-error", "--max-time", "15"];
    let spawn = Spawn::new(words).netns(&world.node.netns).arg(url);
    spawn.env("http_proxy", PROXY).env("no_proxy", "")
}

#[test]
fn requests_are_routed_by_the_port_they_ask_for() {
    let names = [
        ("us.foo.bar.com", "203.0.113.1"),
        ("uk.foo.bar.com", "203.0.113.2"),
        ("in.foo.bar.com", "203.0.113.3"),
        ("elsewhere.example", "203.0.113.4"),
    ];
    let world = World::new(&names);
    let _servers = [
        world.named("us", "203.0.113.1", 8080),
        world.named("uk", "203.0.113.2", 9080),
        world.named("in", "203.0.113.3", 7080),
        world.named("elsewhere", "203.0.113.4", 80),
        world.named("other-port", "203.0.113.4", 8088),
    ];
    let daemon = world
        .daemon()
        .config("meshConfig: {proxyHttpPort: 15080}")
        .resource(include_str!("../../data/seeds/011-external-svc-dns/resources.yaml"))
        .resource(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: other}\n\
             spec:\n  hosts: [foo.bar.com]\n  resolution: STATIC\n\
             \x20 ports: [{number: 8088, name: other, protocol: HTTP}]\n\
             \x20 endpoints: [{address: 203.0.113.4}]\n",
        )
        .start();
    let mut shares = BTreeMap::new();
    for _ in 0..24 {
        let text = curl(&world, "http://foo.bar.com/x").run().text();
        let (name, rest) = text.split_once(' ').unwrap();
        assert_eq!(rest, "foo.bar.com /x");
        *shares.entry(name.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["in", "uk", "us"], "{shares:?}");
    let record = last(&daemon, 24);
    assert_eq!(record.upstream_cluster, "outbound|80||foo.bar.com");
    assert_eq!(record.downstream_local, "127.0.0.1:15080");
    let text = curl(&world, "http://foo.bar.com:8088/y").run().text();
    assert_eq!(text, "other-port foo.bar.com:8088 /y");
    assert_eq!(last(&daemon, 25).upstream_cluster, "outbound|8088||foo.bar.com");
    // What nobody declared goes to where it asks to go.
    let text = curl(&world, "http://elsewhere.example/z").run().text();
    assert_eq!(text, "elsewhere elsewhere.example /z");
    assert_eq!(last(&daemon, 26).upstream_cluster, "PassthroughCluster");
    daemon.stop();
}

#[test]
fn it_is_there_on_loopback_alone() {
    let world = World::new(&[]);
    let config = "meshConfig: {proxyHttpPort: 15080}";
    let daemon = world.daemon().config(config).start();
    let url = "http://10.77.0.1:15080/";
    let refused = world.node.server(["curl", "--silent", "--max-time", "15", url]).run();
    assert_eq!(refused.code(), 7, "a refused connection");
    let local = curl(&world, "http://127.0.0.1:15080/").arg("--include").run().text();
    assert!(local.starts_with("HTTP/1.1 403"), "{local}");
    daemon.stop();
    let daemon = world.node.daemon().config(config);
    let daemon = daemon.config("dns: {allowLocalAddresses: true}").start();
    let loops = curl(&world, "http://127.0.0.1:15080/").arg("--include").run().text();
    assert!(loops.starts_with("HTTP/1.1 503"), "{loops}");
    daemon.stop();
}
