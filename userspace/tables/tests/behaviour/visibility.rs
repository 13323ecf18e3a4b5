//! `exportTo` and Sidecar.

use egressd_model::value::Labels;
use egressd_tables::{Node, Tables};

use crate::world::{World, call, get};

fn http(host: &str) -> String {
    format!("hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS")
}

fn to(tables: &Tables, host: &str) -> String {
    let answer = call(tables, get("203.0.113.1:80", host, "/"));
    answer.split(' ').next().unwrap().to_owned()
}

#[test]
fn only_what_is_exported_is_seen() {
    let tables = World::default()
        .entry("other/own", &format!("{}, exportTo: ['.']", http("own.example")))
        .entry("other/nobody", &format!("{}, exportTo: ['~']", http("nobody.example")))
        .entry("other/us", &format!("{}, exportTo: [default]", http("us.example")))
        .entry("other/all", &http("all.example"))
        .tables();
    // A port that some service has is taken; its unknown hosts follow the policy.
    assert_eq!(to(&tables, "own.example"), "PassthroughCluster");
    assert_eq!(to(&tables, "nobody.example"), "PassthroughCluster");
    assert_eq!(to(&tables, "us.example"), "outbound|80||us.example");
    assert_eq!(to(&tables, "all.example"), "outbound|80||all.example");
}

#[test]
fn the_mesh_may_export_nothing_by_default() {
    let tables = World::default()
        .mesh("defaultServiceExportTo: ['.']")
        .entry("other/a", &http("a.example"))
        .entry("b", &http("b.example"))
        .tables();
    assert_eq!(to(&tables, "a.example"), "PassthroughCluster");
    assert_eq!(to(&tables, "b.example"), "outbound|80||b.example");
}

#[test]
fn a_sidecar_imports() {
    let world = World::default()
        .entry("one/a", &http("a.example"))
        .entry("two/b", &http("b.example"))
        .entry("c", &http("c.example"))
        .entry("x", &http("x.test"));
    let seen = |hosts: &str| {
        let spec = format!("egress: [{{hosts: {hosts}}}]");
        let tables = world.clone().sidecar("s", &spec).tables();
        let mut seen = String::new();
        for host in ["a.example", "b.example", "c.example", "x.test"] {
            if to(&tables, host).starts_with("outbound") {
                seen.extend(host.chars().take(1));
            }
        }
        seen
    };
    assert_eq!(seen("['*/*']"), "abcx");
    assert_eq!(seen("['./*']"), "cx");
    assert_eq!(seen("['one/*']"), "a");
    assert_eq!(seen("['*/*.example']"), "abc");
    assert_eq!(seen("['one/a.example', './x.test']"), "ax");
    assert_eq!(seen("['~/*']"), "");
    assert_eq!(seen("['one/b.example']"), "");
}

#[test]
fn a_sidecar_with_a_selector_comes_first() {
    let world = World::default()
        .entry("one/a", &http("a.example"))
        .entry("two/b", &http("b.example"))
        .sidecar("all", "egress: [{hosts: ['one/*']}]")
        .sidecar("some", "workloadSelector: {labels: {app: x}}, egress: [{hosts: ['two/*']}]");
    let tables = world.tables();
    assert_eq!(to(&tables, "a.example"), "outbound|80||a.example");
    assert_eq!(to(&tables, "b.example"), "PassthroughCluster");
    let labels = Labels::from_iter([("app".into(), "x".into())]);
    let tables = world.node(Node { labels, ..Node::default() }).tables();
    assert_eq!(to(&tables, "a.example"), "PassthroughCluster");
    assert_eq!(to(&tables, "b.example"), "outbound|80||b.example");
}

#[test]
fn a_sidecar_has_its_own_policy() {
    let world = World::default().entry("a", &http("a.example"));
    let deny = world.clone().sidecar("s", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    assert_eq!(to(&deny.tables(), "b.example"), "direct_response:502");
    let allow = world.registry_only().sidecar("s", "outboundTrafficPolicy: {mode: ALLOW_ANY}");
    assert_eq!(to(&allow.tables(), "b.example"), "PassthroughCluster");
}

#[test]
fn a_sidecar_listener_reserves_its_port() {
    let tables = World::default()
        .entry("one/a", &http("a.example"))
        .entry("two/b", &http("b.example"))
        .sidecar(
            "s",
            "egress: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['one/*']}, \
             {hosts: ['*/*']}]",
        )
        .tables();
    assert_eq!(to(&tables, "a.example"), "outbound|80||a.example");
    assert_eq!(to(&tables, "b.example"), "PassthroughCluster");
}

#[test]
fn the_own_namespace_owns_a_host() {
    let world = World::default()
        .entry("one/a", &format!("{}, endpoints: [{{address: one.test}}]", http("a.example")))
        .entry("a", &format!("{}, endpoints: [{{address: own.test}}]", http("a.example")));
    let tables = world.tables();
    let cluster = tables.cluster("outbound|80||a.example").unwrap();
    assert_eq!(&*cluster.service().unwrap().namespace, "default");
    assert_eq!(cluster.endpoints.first().unwrap().endpoints.len(), 1);
}
