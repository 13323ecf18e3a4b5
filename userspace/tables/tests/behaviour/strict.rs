//! `strict: true`, and what is the case without it.

use crate::world::{World, call, get, raw, tls};

const TLS: &str = "hosts: [a.example], ports: [{number: 443, name: tls, protocol: TLS}], \
                   resolution: DNS, addresses: [10.0.0.1]";
const AUTO: &str = "hosts: [a.example], ports: [{number: 80, name: x}], resolution: DNS, \
                    addresses: [10.0.0.1]";

#[test]
fn a_virtual_address_wants_its_own_server_name() {
    let world = World::default().entry("a", TLS);
    let (loose, strict) = (world.tables(), world.strict().tables());
    let to_a = "outbound|443||a.example @ 10.0.0.1_443 []";
    let closed = "BlackHoleCluster @ 10.0.0.1_443 []";
    for (connection, without, with) in [
        (tls("10.0.0.1:443", "a.example"), to_a, to_a),
        (tls("10.0.0.1:443", "A.Example"), to_a, to_a),
        (tls("10.0.0.1:443", "b.example"), to_a, closed),
        (raw("10.0.0.1:443"), to_a, closed),
    ] {
        assert_eq!(call(&loose, connection), without);
        assert_eq!(call(&strict, connection), with);
    }
}

#[test]
fn a_virtual_address_wants_its_own_host() {
    let world = World::default().entry("a", AUTO);
    let (loose, strict) = (world.tables(), world.strict().tables());
    let to_a = "outbound|80||a.example @ 10.0.0.1_80 [default]";
    for (host, with) in [
        ("a.example", to_a),
        ("a.example:80", to_a),
        ("A.example", to_a),
        ("10.0.0.1", to_a),
        ("b.example", "direct_response:502 @ 10.0.0.1_80 [default]"),
    ] {
        assert_eq!(call(&loose, get("10.0.0.1:80", host, "/")), to_a, "{host}");
        assert_eq!(call(&strict, get("10.0.0.1:80", host, "/")), with, "{host}");
    }
    // Without a declared protocol, bytes without a name may still pass.
    assert_eq!(call(&strict, raw("10.0.0.1:80")), "outbound|80||a.example @ 10.0.0.1_80 []");
    assert_eq!(call(&strict, tls("10.0.0.1:80", "b.example")), "BlackHoleCluster @ 10.0.0.1_80 []");
}

#[test]
fn the_destination_of_a_none_service_is_checked() {
    let none = "hosts: [a.example], ports: [{number: 443, name: tls, protocol: TLS}]";
    let blocks = format!("{none}, addresses: [10.1.0.0/16]");
    for (spec, expect) in [(none.to_owned(), Vec::new()), (blocks, vec!["10.1.0.0/16"])] {
        let world = World::default().entry("a", &spec);
        let check = |world: &World| {
            let tables = world.tables();
            let blocks =
                tables.cluster("outbound|443||a.example").unwrap().verify_destination.clone();
            blocks.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(check(&world), None);
        assert_eq!(check(&world.strict()), Some(expect.into_iter().map(String::from).collect()));
    }
}
