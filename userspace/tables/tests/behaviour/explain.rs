//! What explanations say.

use egressd_tables::{Call, Stage, Step, Tables};

use crate::world::{World, get, raw, tls};

fn step(tables: &Tables, call: Call<'_>, stage: Stage) -> Step {
    let explanation = tables.explain(&call);
    let mut steps = explanation.steps.into_iter().filter(|step| step.stage == stage);
    steps.next().unwrap()
}

/// `CHOSEN: BECAUSE; not WHAT: WHY`.
fn told(tables: &Tables, call: Call<'_>, stage: Stage) -> String {
    let step = step(tables, call, stage);
    let passed = step.instead_of.map(|passed| format!("; not {}: {}", passed.what, passed.why));
    format!("{}: {}{}", step.chosen, step.because, passed.unwrap_or_default())
}

fn http(host: &str) -> String {
    format!("hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS")
}

#[test]
fn the_nearest_host_is_named() {
    let tables = World::default().entry("baidu-ext", &http("baidu.com")).tables();
    let call = get("203.0.113.1:80", "www.baidu.com", "/aaa");
    assert_eq!(
        told(&tables, call, Stage::VirtualHost),
        "allow_any: no other virtual host of table 80 answers to www.baidu.com; not baidu.com: \
         baidu.com does not stand for the names under it; *.baidu.com would"
    );
    let call = get("203.0.113.1:80", "baidu.com", "/");
    let exact = told(&tables, call, Stage::VirtualHost);
    assert_eq!(exact, "baidu.com:80: the request names baidu.com");
    let near = |host, port| tables.nearest_host(host, port).map(|near| (near.what, near.why));
    let (what, why) = near("baidu.com", 8080).unwrap();
    assert_eq!((&*what, &*why), ("baidu.com", "it declares port 80, not 8080"));
    assert_eq!(near("other.test", 80), None);
}

#[test]
fn a_chain_is_told_from_the_next_best() {
    let tables = World::default()
        .entry(
            "a",
            "hosts: [a.example, '*.b.example'], resolution: DNS, \
             ports: [{number: 443, name: tls, protocol: TLS}], endpoints: [{address: x.test}]",
        )
        .tables();
    let to = |sni| told(&tables, tls("203.0.113.1:443", sni), Stage::Chain);
    assert_eq!(
        to("x.b.example"),
        "*.b.example:443: the server name is its own; not a.example:443: it is for the server name \
         a.example, not x.b.example"
    );
    assert_eq!(
        to("www.a.example"),
        "PassthroughCluster: no other chain is left; not a.example: a.example does not stand for \
         the names under it; *.a.example would"
    );
    let bytes = told(&tables, raw("203.0.113.1:443"), Stage::Chain);
    assert!(bytes.ends_with("; not *.b.example:443: it is for TLS to *.b.example"), "{bytes}");
}

#[test]
fn a_rule_is_told_from_the_next_best() {
    let tables = World::default()
        .entry("a", &http("a.example"))
        .service(
            "v",
            "hosts: [a.example], http: [{name: api, match: [{uri: {prefix: /api}, \
             headers: {x: {exact: '1'}}}], route: [{destination: {host: a.example}}]}, \
             {name: rest, route: [{destination: {host: a.example, subset: s}}], timeout: 3s}]",
        )
        .tables();
    let call = |path| get("203.0.113.1:80", "a.example", path);
    assert_eq!(
        told(&tables, call("/api"), Stage::Rule),
        "rest: VirtualService default/v: it matches every request; not api: it asks for header x exact 1"
    );
    let cluster = told(&tables, call("/api"), Stage::Cluster);
    assert_eq!(
        cluster,
        "outbound|80|s|a.example: the rule says so; it does not exist (flag NC): no DestinationRule \
         for a.example has the subset s, or it has no endpoint; not outbound|80||a.example: the rule \
         names another subset"
    );
    assert_eq!(
        told(&tables, call("/api"), Stage::Retries),
        "2 after the first try, each within 3s: on connect-failure,refused-stream,unavailable,\
         cancelled,retriable-status-codes"
    );
}

#[test]
fn the_way_to_a_virtual_address() {
    let tables = World::default()
        .entry(
            "db",
            "hosts: [db.example], resolution: STATIC, endpoints: [{address: 192.0.2.1}], \
             ports: [{number: 3306, name: tcp, protocol: TCP}]",
        )
        .rule("db", "host: db.example, trafficPolicy: {tls: {mode: SIMPLE}}")
        .vips()
        .tables();
    let to = |stage| told(&tables, raw("240.240.0.1:3306"), stage);
    assert_eq!(to(Stage::Destination), "240.240.0.1:3306: virtual address of db.example");
    assert_eq!(
        to(Stage::Capture),
        "handed to the proxy: there is a row for the address and port; not the direct path: TLS is \
         spoken to the endpoints of outbound|3306||db.example"
    );
    assert_eq!(to(Stage::Listener), "240.240.0.1_3306: it has the address and port dialled");
    assert_eq!(
        to(Stage::FirstBytes),
        "not looked at: its rules ask for nothing that the client says: the server may speak first"
    );
    assert_eq!(
        to(Stage::Cluster),
        "outbound|3306||db.example: the service itself; DestinationRule default/db"
    );
    assert_eq!(to(Stage::Endpoints), "192.0.2.1:3306: listed; chosen by LEAST_REQUEST");
    assert_eq!(
        to(Stage::Tls),
        "SIMPLE, server name the request's host, else db.example: the DestinationRule asks for it"
    );
    let other = told(&tables, raw("240.240.0.1:22"), Stage::Listener);
    assert_eq!(
        other,
        "virtualOutbound: no listener has the address or the port; not 240.240.0.1_3306: it has port \
         3306, not 22"
    );
}
