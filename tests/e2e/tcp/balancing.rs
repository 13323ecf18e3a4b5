//! Which endpoint a connection goes to (semantics.md §4, loadBalancer and subsets).

use std::{collections::BTreeMap, fs};

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4};

use crate::{
    clients::{dial, said, storm},
    services::rule,
};

const VIP: &str = "192.0.2.10";
const PORT: u16 = 9000;

fn at(index: usize) -> String {
    format!("{}:{PORT}", WORLD_V4[index])
}

/// Servers at the world's three addresses.
fn servers(node: &Node) -> Servers {
    Servers::tcp(&node.world, (0..3).map(|index| (at(index), Behaviour::named(at(index)))))
}

/// A STATIC service at 192.0.2.10:9000; each endpoint with what is written behind its address.
fn service(endpoints: &[(usize, &str)]) -> String {
    let lines = endpoints.iter().map(|(index, more)| {
        let comma = if more.is_empty() { "" } else { ", " };
        format!("  - {{address: {}{comma}{more}}}\n", WORLD_V4[*index])
    });
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: one}}\n\
         spec:\n\
         \x20 hosts: [one.example]\n\
         \x20 addresses: [{VIP}]\n\
         \x20 ports: [{{number: {PORT}, name: tcp, protocol: TCP}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints:\n{}",
        lines.collect::<String>()
    )
}

/// How many of `count` connections each of the servers gets; none fails.
#[track_caller]
fn shares(node: &Node, daemon: &Daemon, count: usize) -> [usize; 3] {
    let before = daemon.records().len();
    storm(node, 1, count, &[(format!("{VIP}:{PORT}"), "any".to_owned())]).run().expect_code(0);
    let records = daemon.wait_records(before + count);
    let new = &records[before..];
    assert!(new.iter().all(|record| record.flags == "-"), "{new:#?}");
    [0, 1, 2].map(|index| new.iter().filter(|record| record.upstream_host == at(index)).count())
}

const ALL: [(usize, &str); 3] = [(0, ""), (1, ""), (2, "")];

#[test]
fn in_turn() {
    let node = Node::new();
    let _servers = servers(&node);
    let round_robin = rule("one", "loadBalancer: {simple: ROUND_ROBIN}");
    let daemon = node.daemon().resource(service(&ALL)).resource(&round_robin).start();
    assert_eq!(shares(&node, &daemon, 30), [10, 10, 10]);
    daemon.stop();
    let weighted = service(&[(0, "weight: 3"), (1, "weight: 2"), (2, "")]);
    let daemon = node.daemon().resource(weighted).resource(round_robin).start();
    assert_eq!(shares(&node, &daemon, 60), [30, 20, 10]);
}

#[test]
fn at_random() {
    let node = Node::new();
    let _servers = servers(&node);
    let random = rule("one", "loadBalancer: {simple: RANDOM}");
    let daemon = node.daemon().resource(service(&ALL)).resource(random).start();
    let shares = shares(&node, &daemon, 120);
    // 40 each; 15 is nearly five standard deviations away.
    assert!(shares.iter().all(|share| (15..=65).contains(share)), "{shares:?}");
}

/// Keeps connections open: the less busy endpoint is taken.
const HOLDING: &str = "
import socket
held = [socket.create_connection(('192.0.2.10', 9000), timeout=15) for _ in range(90)]
names = [sock.makefile().readline().strip() for sock in held]
print(*(names.count(name) for name in sorted(set(names))))
";

#[test]
fn the_less_busy_of_two() {
    let node = Node::new();
    let _servers = servers(&node);
    let _daemon = node.daemon().resource(service(&ALL)).start();
    let counts = node.python(HOLDING).run().text();
    let counts: Vec<u32> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts.len(), 3);
    assert!(counts.iter().all(|count| (25..=35).contains(count)), "{counts:?}");
}

#[test]
fn passthrough_goes_where_it_was_dialled() {
    let node = Node::new();
    let _servers = servers(&node);
    let service = service(&[(0, "")]).replace(VIP, WORLD_V4[2]);
    let passthrough = rule("one", "loadBalancer: {simple: PASSTHROUGH}");
    let daemon = node.daemon().resource(service).resource(passthrough).start();
    assert_eq!(said(&dial(&node, WORLD_V4[2], PORT, &[]).run().text(), "first"), at(2));
    let record = daemon.wait_record();
    assert_eq!(record.upstream_cluster, "outbound|9000||one.example");
}

#[test]
fn a_source_address_keeps_its_endpoint() {
    let node = Node::new();
    let sources: Vec<_> = (0..12).map(|last| format!("10.77.0.{}", 100 + last)).collect();
    for source in &sources {
        node.netns.ip(&format!("address add {source}/24 dev up0"));
    }
    let _servers = servers(&node);
    let ask = |source: &str| {
        let printed = dial(&node, VIP, PORT, &["--bind", &format!("{source},0")]).run().text();
        said(&printed, "first").to_owned()
    };
    for hash in ["maglev: {tableSize: 1021}", "ringHash: {minimumRingSize: 1024}"] {
        let policy = format!("loadBalancer: {{consistentHash: {{useSourceIp: true, {hash}}}}}");
        let start = |endpoints: &[(usize, &str)]| {
            node.daemon().resource(service(endpoints)).resource(rule("one", &policy)).start()
        };
        let daemon = start(&ALL);
        let first: BTreeMap<_, _> = sources.iter().map(|source| (source, ask(source))).collect();
        let again: BTreeMap<_, _> = sources.iter().map(|source| (source, ask(source))).collect();
        assert_eq!(first, again);
        // The endpoint sees the address that the application is bound to.
        let records = daemon.wait_records(2 * sources.len());
        for (record, source) in records.iter().zip(sources.iter().chain(&sources)) {
            assert!(record.upstream_local.starts_with(&format!("{source}:")), "{}", record.line);
        }
        let used: std::collections::BTreeSet<_> = first.values().collect();
        assert!(used.len() > 1, "twelve addresses at one endpoint: {first:?}");
        daemon.stop();
        // After a restart, and without one of the endpoints: only its clients move.
        let daemon = start(&ALL[..2]);
        for (source, before) in first.iter().filter(|(_, before)| **before != at(2)) {
            assert_eq!(ask(source), *before, "{source}");
        }
        daemon.stop();
    }
}

#[test]
fn subsets_by_label_and_weight() {
    let node = Node::new();
    let _servers = servers(&node);
    let labelled = |index, version| (index, version);
    let service = service(&[
        labelled(0, "labels: {version: v1}"),
        labelled(1, "labels: {version: v2}"),
        labelled(2, "labels: {version: v2}"),
    ]);
    let subsets = "apiVersion: networking.istio.io/v1\n\
                   kind: DestinationRule\n\
                   metadata: {name: one}\n\
                   spec:\n\
                   \x20 host: one.example\n\
                   \x20 subsets:\n\
                   \x20 - {name: v1, labels: {version: v1}}\n\
                   \x20 - {name: v2, labels: {version: v2}, \
                     trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n";
    let routes = |first: u32, second: u32| {
        format!(
            "apiVersion: networking.istio.io/v1\n\
             kind: VirtualService\n\
             metadata: {{name: one}}\n\
             spec:\n\
             \x20 hosts: [one.example]\n\
             \x20 tcp:\n\
             \x20 - route:\n\
             \x20   - {{destination: {{host: one.example, subset: v1}}, weight: {first}}}\n\
             \x20   - {{destination: {{host: one.example, subset: v2}}, weight: {second}}}\n"
        )
    };
    let builder = node.daemon().resource(service).resource(subsets);
    let daemon = builder.resource(routes(25, 75)).start();
    let [first, second, third] = shares(&node, &daemon, 120);
    // 30 expected; nearly five standard deviations.
    assert!((8..=52).contains(&first), "{first}");
    assert!(second.abs_diff(third) <= 1, "{second} {third}");
    let clusters: std::collections::BTreeSet<_> =
        daemon.records().into_iter().map(|record| record.upstream_cluster).collect();
    let expected = ["outbound|9000|v1|one.example", "outbound|9000|v2|one.example"];
    assert_eq!(clusters.into_iter().collect::<Vec<_>>(), expected);
    // A weight of 0 gets nothing.
    fs::write(daemon.folder().join("resources/2.yaml"), routes(0, 100)).unwrap();
    daemon.wait_number("/generation", 2);
    assert_eq!(shares(&node, &daemon, 40)[0], 0);
}

const HERE: &str = "node: {locality: us/east/a}";
const EVERYWHERE: [(usize, &str); 3] =
    [(0, "locality: us/east/a"), (1, "locality: us/west/a"), (2, "locality: eu/north/a")];

#[test]
fn the_nearest_locality_first_and_the_next_when_it_fails() {
    let node = Node::new();
    let near = Servers::one(&node.world, &at(0), Behaviour::named(at(0)));
    let _middle = Servers::one(&node.world, &at(1), Behaviour::named(at(1)));
    let _far = Servers::one(&node.world, &at(2), Behaviour::named(at(2)));
    let policy = rule("one", "outlierDetection: {consecutive5xxErrors: 1}");
    let builder = node.daemon().config(HERE).resource(service(&EVERYWHERE)).resource(policy);
    let daemon = builder.start();
    assert_eq!(shares(&node, &daemon, 20), [20, 0, 0]);
    drop(near);
    assert_eq!(shares(&node, &daemon, 20), [0, 20, 0]);
}

#[test]
fn shares_among_localities_as_distributed() {
    let node = Node::new();
    let _servers = servers(&node);
    let policy = "loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {distribute: \
                  [{from: us/*, to: {us/east/a: 60, us/west/a: 30, eu/*: 10}}]}}";
    let builder = node.daemon().config(HERE).resource(service(&EVERYWHERE));
    let daemon = builder.resource(rule("one", policy)).start();
    assert_eq!(shares(&node, &daemon, 100), [60, 30, 10]);
}
#[test]
fn a_new_endpoint_warms_up() {
    let node = Node::new();
    let _servers = servers(&node);
    let policy = "loadBalancer: {simple: ROUND_ROBIN, \
                  warmup: {duration: 3600s, minimumPercent: 10}}";
    let builder = node.daemon().resource(service(&ALL[..2])).resource(rule("one", policy));
    let daemon = builder.start();
    // All are new at the start: none has a reason to get less.
    assert_eq!(shares(&node, &daemon, 20)[..2], [10, 10]);
    fs::write(daemon.folder().join("resources/0.yaml"), service(&ALL)).unwrap();
    daemon.wait_number("/generation", 2);
    let shares = shares(&node, &daemon, 210);
    // A tenth of a share: 10 of 210.
    assert!((7..=13).contains(&shares[2]), "{shares:?}");
}
