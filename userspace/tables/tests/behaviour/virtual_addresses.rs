//! Virtual addresses and the real ones beside them.

use std::net::IpAddr;
use std::time::Duration;

use egressd_tables::{Answers, Options, Original, Tables, VipAllocation, requests};

use crate::world::{World, call, get, raw, tls};

fn entry(host: &str, protocol: &str) -> String {
    format!(
        "hosts: [{host}], resolution: DNS, ports: [{{number: 8443, name: x, protocol: {protocol}}}]"
    )
}

#[test]
fn a_real_address_is_found_by_server_name() {
    let world = World::default().entry("a", &entry("a.example", "TLS")).vips();
    let tables = world.tables();
    let to_a = "outbound|8443||a.example";
    assert_eq!(
        call(&tables, tls("240.240.0.1:8443", "a.example")),
        format!("{to_a} @ 240.240.0.1_8443 []")
    );
    assert_eq!(
        call(&tables, tls("203.0.113.1:8443", "a.example")),
        format!("{to_a} @ 0.0.0.0_8443 []")
    );
    assert_eq!(
        call(&tables, tls("203.0.113.1:8443", "b.example")),
        "PassthroughCluster @ 0.0.0.0_8443 []"
    );
    // What is silent there is nobody's: its server may speak first.
    let sniff = tables.listener("203.0.113.1:8443".parse().unwrap()).sniff;
    assert_eq!((sniff.tls, sniff.http, sniff.timeout), (true, false, Some(Duration::from_secs(1))));

    let istio =
        world.options(Options { answers: Answers::Istio, dns_capture: true, ..Options::default() });
    assert_eq!(
        call(&istio.tables(), tls("203.0.113.1:8443", "a.example")),
        "PassthroughCluster @ virtualOutbound []"
    );
}

#[test]
fn a_real_address_is_found_by_host() {
    let tables = World::default().entry("a", &entry("a.example", "\"\"")).vips().tables();
    let at = |to: &str, host| call(&tables, get(to, host, "/"));
    let to_a = "outbound|8443||a.example";
    assert_eq!(at("240.240.0.1:8443", "b.example"), format!("{to_a} @ 240.240.0.1_8443 [default]"));
    assert_eq!(at("203.0.113.1:8443", "a.example"), format!("{to_a} @ 0.0.0.0_8443 [default]"));
    assert_eq!(
        at("203.0.113.1:8443", "b.example"),
        "PassthroughCluster @ 0.0.0.0_8443 [allow_any]"
    );
    assert_eq!(call(&tables, raw("203.0.113.1:8443")), "PassthroughCluster @ 0.0.0.0_8443 []");
}

#[test]
fn a_real_address_makes_nobody_wait() {
    // The host of `b` is a wildcard of resolution NONE: it has no virtual address, and the port.
    let tables = World::default()
        .entry("a", &entry("a.example", "TLS"))
        .entry("b", "hosts: ['*.b.example'], ports: [{number: 8443, name: x, protocol: TCP}]")
        .vips()
        .tables();
    let listener = tables.listener("203.0.113.1:8443".parse().unwrap());
    assert_eq!(listener.name(), "0.0.0.0_8443");
    assert!(listener.sniff.is_nothing());
}

#[test]
fn undeclared_ports_lead_to_the_host() {
    let world = World::default()
        .entry("a", &entry("a.example", "TCP"))
        .entry(
            "b",
            "hosts: [b.example], resolution: STATIC, endpoints: [{address: 192.0.2.1}], \
             ports: [{number: 80, name: tcp, protocol: TCP}]",
        )
        .vips();
    let original = |tables: &Tables, ip: &str| tables.original(ip.parse().unwrap());
    let tables = world.tables();
    assert_eq!(original(&tables, "240.240.0.1"), Original::Resolve("a.example".into()));
    assert_eq!(original(&tables, "240.240.0.2"), Original::Nowhere);
    assert_eq!(original(&tables, "240.240.9.9"), Original::Nowhere);
    assert_eq!(original(&tables, "203.0.113.1"), Original::Dialled);
    assert_eq!(call(&tables, raw("240.240.0.1:22")), "PassthroughCluster @ virtualOutbound []");
    assert_eq!(original(&world.registry_only().tables(), "240.240.0.1"), Original::Nowhere);
}

#[test]
fn two_entries_of_one_host_answer_on_all_their_addresses() {
    let port = |number| {
        format!(
            "hosts: [a.example], resolution: DNS, \
             ports: [{{number: {number}, name: tcp, protocol: TCP}}]"
        )
    };
    let tables = World::default().entry("a", &port(1000)).entry("b", &port(2000)).vips().tables();
    let name = tables.names().lookup("a.example").unwrap();
    assert_eq!(name.v4.len(), 2);
    for ip in &name.v4 {
        for port in [1000, 2000] {
            let to = call(&tables, raw(&format!("{ip}:{port}")));
            assert_eq!(to, format!("outbound|{port}||a.example @ {ip}_{port} []"));
        }
    }
}

#[test]
fn names_are_answered() {
    let tables = World::default()
        .entry("a", &entry("a.example", "TCP"))
        .entry("w", &entry("w.example", "TCP"))
        .entry("none", "hosts: [n.example], ports: [{number: 80, name: http, protocol: HTTP}]")
        .vips()
        .tables();
    let answer = |name: &str| {
        let entry = tables.names().lookup(name)?;
        Some((entry.v4.iter().map(ToString::to_string).collect::<Vec<_>>(), entry.v6.len()))
    };
    let one = |ip: &str| Some((vec![ip.to_owned()], 0));
    assert_eq!(answer("a.example"), one("240.240.0.1"));
    assert_eq!(answer("A.Example."), one("240.240.0.1"));
    assert_eq!(answer("b.a.example"), None);
    assert_eq!(answer("w.example"), one("240.240.0.2"));
    // It has no address, and NONE gets none.
    assert_eq!(answer("n.example"), None);
}

#[test]
fn an_exhausted_range_is_an_error_for_each_host() {
    let world = World::default()
        .entry("a", &entry("a.example", "TCP"))
        .entry("b", &entry("b.example", "TCP"))
        .entry("c", &entry("c.example", "TCP"))
        .entry("d", &entry("d.example", "TCP"));
    let small = VipAllocation::new("10.9.0.0/30", "2001:db8::/126").unwrap();
    let (given, exhausted) = small.allocate(&requests(&world.model()));
    let told: Vec<_> = exhausted.iter().map(ToString::to_string).collect();
    let vip = |name: &str, host: &str| {
        let (_, hosts) = given.given.iter().find(|(key, _)| &*key.name == name)?;
        hosts.get(host)?.addresses().next()
    };
    assert_eq!(vip("a", "a.example"), Some(IpAddr::from([10, 9, 0, 1])));
    assert_eq!(vip("b", "b.example"), Some(IpAddr::from([10, 9, 0, 2])));
    assert_eq!(vip("c", "c.example"), Some(IpAddr::from([10, 9, 0, 3])));
    assert_eq!(vip("d", "d.example"), None);
    assert_eq!(
        told,
        ["no virtual address is left in 10.9.0.0/30 for d.example of ServiceEntry default/d"]
    );
}
