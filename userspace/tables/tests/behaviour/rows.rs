//! The kernel's rows.

use egressd_abi::{Matched, OnDown, RowVerdict};
use egressd_tables::Tables;

use crate::world::World;

/// Which table has a row for a destination, and what the row says.
fn row(tables: &Tables, to: &str) -> String {
    let (matched, row) = tables.kernel_rows().find(to.parse().unwrap());
    let table = match matched {
        Matched::Exact => "exact",
        Matched::Prefix => "block",
        Matched::Port => "port",
        Matched::Nothing => return "nothing".to_owned(),
    };
    let verdict = match row.verdict().unwrap() {
        RowVerdict::Leave => "leave",
        RowVerdict::Proxy => "proxy",
        RowVerdict::Refuse => "refuse",
        RowVerdict::Direct => "direct",
    };
    let down = match row.when_down() {
        OnDown::Default => "",
        OnDown::Passthrough => ", pass when down",
        OnDown::Reject => ", reject when down",
    };
    let allocated = if row.is_allocated() { ", allocated" } else { "" };
    let policy = if row.is_policy() { ", policy" } else { "" };
    format!("{table}: {verdict}{allocated}{policy}{down}")
}

#[test]
fn addresses_and_blocks() {
    let tables = World::default()
        .entry(
            "a",
            "hosts: [a.example], addresses: [10.0.0.1, 10.1.0.0/16], resolution: NONE, \
             ports: [{number: 3306, name: tcp, protocol: TCP}]",
        )
        .tables();
    assert_eq!(row(&tables, "10.0.0.1:3306"), "exact: proxy");
    assert_eq!(row(&tables, "10.1.2.3:3306"), "block: proxy");
    assert_eq!(row(&tables, "10.2.0.0:3306"), "nothing");
    assert_eq!(row(&tables, "10.0.0.1:80"), "nothing");
    assert_eq!(row(&tables, "[::ffff:10.0.0.1]:3306"), "exact: proxy");
}

#[test]
fn ports_that_are_taken_anywhere() {
    let tables = World::default()
        .entry(
            "a",
            "hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}, \
             {number: 443, name: tls, protocol: TLS}, {number: 25, name: tcp, protocol: TCP}, \
             {number: 53, name: udp, protocol: UDP}]",
        )
        .tables();
    for (port, expect) in [
        (80, "port: proxy"),
        (443, "port: proxy"),
        (25, "port: proxy"),
        (53, "nothing"),
        (81, "nothing"),
    ] {
        assert_eq!(row(&tables, &format!("203.0.113.1:{port}")), expect);
    }
    assert!(!tables.kernel_rows().deny_unknown);
}

#[test]
fn undeclared_ports_of_virtual_addresses() {
    let world = World::default()
        .entry(
            "a",
            "hosts: [a.example], resolution: DNS, ports: [{number: 80, name: tcp, protocol: TCP}]",
        )
        .entry(
            "b",
            "hosts: [b.example], resolution: STATIC, endpoints: [{address: 192.0.2.1}], \
             ports: [{number: 80, name: tcp, protocol: TCP}]",
        )
        .vips();
    let tables = world.tables();
    assert_eq!(row(&tables, "240.240.0.1:80"), "exact: proxy, allocated");
    assert_eq!(row(&tables, "240.240.0.1:22"), "block: proxy, allocated");
    assert_eq!(row(&tables, "240.240.0.2:80"), "exact: proxy, allocated");
    assert_eq!(row(&tables, "240.240.0.2:22"), "block: refuse, allocated");
    // Given to nobody: it would lead nowhere.
    assert_eq!(row(&tables, "240.240.9.9:22"), "block: refuse, allocated, reject when down");
    let tables = world.registry_only().tables();
    assert_eq!(row(&tables, "240.240.0.1:22"), "block: refuse, allocated");
    assert_eq!(row(&tables, "203.0.113.1:22"), "nothing");
    assert!(tables.kernel_rows().deny_unknown);
}

#[test]
fn what_a_proxy_that_is_down_means() {
    let entry = |host: &str, address: &str| {
        format!(
            "{{hosts: [{host}], addresses: [{address}], resolution: DNS, \
             ports: [{{number: 80, name: http, protocol: HTTP}}]}}"
        )
    };
    let down = |value: &str| format!("{{egressd.io/on-proxy-down: {value}}}");
    let world = |a: &str, b: &str| {
        World::default()
            .annotated("ServiceEntry", "a", &down(a), &entry("a.example", "10.0.0.1"))
            .annotated("ServiceEntry", "b", &down(b), &entry("b.example", "10.0.0.1"))
            .tables()
    };
    let both = world("passthrough", "passthrough");
    assert_eq!(row(&both, "10.0.0.1:80"), "exact: proxy, pass when down");
    assert_eq!(row(&both, "10.9.9.9:80"), "port: proxy, pass when down");
    let mixed = world("passthrough", "reject");
    assert_eq!(row(&mixed, "10.0.0.1:80"), "exact: proxy, reject when down");
    assert_eq!(row(&mixed, "10.9.9.9:80"), "port: proxy, reject when down");
}

#[test]
fn unknown_requests_that_the_proxy_must_see() {
    let tables =
        World::default().mesh("outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}").tables();
    assert_eq!(row(&tables, "203.0.113.1:80"), "block: proxy, policy");
    assert_eq!(row(&tables, "[2001:db8::1]:443"), "block: proxy, policy");
}

#[test]
fn a_change_makes_the_rows_of_the_new_generation() {
    let entry = |address: &str| {
        format!(
            "hosts: [a.example], addresses: [{address}], resolution: NONE, \
             ports: [{{number: 80, name: tcp, protocol: TCP}}]"
        )
    };
    let one = World::default().entry("a", &entry("10.0.0.1")).tables();
    let two = World::default().registry_only().entry("a", &entry("10.0.0.0/24")).tables();
    let diff = one.kernel_rows().diff(two.kernel_rows());
    assert_eq!((diff.exact.len(), diff.prefixes.len()), (1, 1));
    let mut rows = one.kernel_rows().clone();
    rows.apply(&diff);
    assert_eq!(&rows, two.kernel_rows());
    assert!(rows.diff(two.kernel_rows()).is_empty());
}
