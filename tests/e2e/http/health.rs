//! Endpoints that misbehave are taken out and come back: by what became of requests, and by probes.

use std::fs;

use egressd_tests::{Authority, Behaviour, Daemon, Nginx, Servers, WORLD_V4, until};

use super::world::{World, telling};
use crate::{clients::dial, services};

const SHOP: &str = include_str!("../../data/http/shop.yaml");
const MONITORED: &str =
    include_str!("../../data/seeds/027-monitored-external-service/resources.yaml");

/// `count` answers in a row, as statuses.
fn statuses(world: &World, url: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| world.get(url, &[]).status).collect()
}

fn wait_log(daemon: &Daemon, words: &[&str]) {
    until(&format!("{words:?} in the log"), || {
        let log = daemon.log();
        let told = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        told.then_some(())
    });
}

/// Two endpoints, of which one answers with 502 while a file is there.
fn shop(rule: &str) -> (World, [Nginx; 2], tempfile::TempDir, String) {
    let world = World::new(&[]);
    let folder = tempfile::TempDir::with_prefix("egressd-health-").unwrap();
    let (root, bad) = (folder.path().display(), folder.path().join("bad"));
    fs::write(&bad, "").unwrap();
    let failing = format!(
        "root {root}; location / {{ if (-f {root}/bad) {{ return 502; }} return 200 ok; }}"
    );
    let servers = [
        Nginx::start(&world.node.world, WORLD_V4[0], 8081, &failing),
        world.named("well", WORLD_V4[1], 8081),
    ];
    let resources = SHOP.replace("RULE", rule);
    (world, servers, folder, resources)
}

#[test]
fn failures_in_a_row_take_an_endpoint_out_for_a_while() {
    for rule in [
        "outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 6s}",
        "circuitBreaker: {consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 6s}",
    ] {
        let (world, _servers, folder, resources) = shop(rule);
        let daemon = world.daemon().resource(resources).start();
        let url = "http://shop.example/";
        let mut failed = 0;
        until("an ejection", || {
            let status = world.get(url, &[]).status;
            assert!([200, 502].contains(&status));
            failed += usize::from(status == 502);
            daemon.log().contains("an endpoint is taken out").then_some(())
        });
        assert_eq!(failed, 3);
        assert_eq!(statuses(&world, url, 10), [200; 10]);
        // It comes back, and is good now.
        fs::remove_file(folder.path().join("bad")).unwrap();
        let bad = format!("{}:8081", WORLD_V4[0]);
        let count = daemon.records().len();
        until("a request to it", || {
            assert_eq!(world.get(url, &[]).status, 200);
            daemon.records()[count..].iter().any(|one| one.upstream_host == bad).then_some(())
        });
        daemon.stop();
    }
}

#[test]
fn without_a_rule_everybody_stays() {
    let (world, _servers, _folder, resources) = shop("loadBalancer: {simple: ROUND_ROBIN}");
    let daemon = world.daemon().resource(resources).start();
    let statuses = statuses(&world, "http://shop.example/", 20);
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 10);
    daemon.stop();
}

#[test]
fn connections_that_fail_count_for_byte_streams() {
    let world = World::new(&[]);
    let _server = Servers::one(&world.node.world, "10.77.0.2:9000", Behaviour::named("well"));
    let rule = "apiVersion: networking.istio.io/v1\n\
                kind: DestinationRule\n\
                metadata: {name: one}\n\
                spec:\n\
                \x20 host: one.example\n\
                \x20 trafficPolicy:\n\
                \x20   loadBalancer: {simple: ROUND_ROBIN}\n\
                \x20   outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 50}\n";
    let service =
        services::tcp("one", &["192.0.2.1"], 27018, &["10.77.0.2:9000", "10.77.0.3:9000"]);
    let daemon = world.daemon().resource(service).resource(rule).start();
    until("an ejection", || {
        dial(&world.node, "192.0.2.1", 27018, &[]).run().expect_code(0);
        daemon.log().contains("an endpoint is taken out").then_some(())
    });
    wait_log(&daemon, &["an endpoint is taken out", "10.77.0.3:9000"]);
    daemon.stop();
}

#[test]
fn probes_on_a_tls_port_open_tls_themselves() {
    let names = ["monitored-api.example.com"; 2];
    let world = World::new(&[(names[0], WORLD_V4[0]), (names[1], WORLD_V4[1])]);
    let authority = Authority::new();
    let shown = authority.issue("monitored", "DNS:monitored-api.example.com").for_nginx();
    let folder = tempfile::TempDir::with_prefix("egressd-health-").unwrap();
    let server = |name: &str, address: &str| {
        let bad = folder.path().join(name).display().to_string();
        // A probe without the header is not answered as it should be.
        let health = format!(
            "location = /health {{ if ($http_x_health_check != egressd) {{ return 403; }} \
             if (-f {bad}) {{ return 503; }} return 200; }}"
        );
        let told = telling(name);
        Nginx::tls(&world.node.world, address, 443, &format!("{shown} {health} {told}"))
    };
    let _servers = [server("one", WORLD_V4[0]), server("two", WORLD_V4[1])];
    let daemon = world.daemon().resource(MONITORED.replace("30s", "1s")).start();
    let roots = authority.roots();
    let trusting = ["--http1.1", "--cacert", roots.to_str().unwrap()];
    let asked = |count: usize| {
        let one = || world.get("https://monitored-api.example.com/x", &trusting).body;
        let mut told: Vec<_> =
            (0..count).map(|_| one().split(' ').next().unwrap().to_owned()).collect();
        told.sort();
        told.dedup();
        told
    };
    assert_eq!(asked(20), ["one", "two"]);
    fs::write(folder.path().join("one"), "").unwrap();
    wait_log(&daemon, &["probes of an endpoint", "10.77.0.2:443", "failing=true"]);
    assert_eq!(asked(10), ["two"]);
    // With nobody left there is nowhere to go.
    fs::write(folder.path().join("two"), "").unwrap();
    wait_log(&daemon, &["probes of an endpoint", "10.77.0.3:443", "failing=true"]);
    let curl = world.node.curl("https://monitored-api.example.com/").arg("--ipv4").run();
    assert_ne!(curl.code(), 0);
    assert_eq!(daemon.records().last().unwrap().flags, "UH");
    fs::remove_file(folder.path().join("one")).unwrap();
    wait_log(&daemon, &["probes of an endpoint", "10.77.0.2:443", "failing=false"]);
    assert_eq!(asked(10), ["one"]);
    // Without the check nobody is out for it.
    daemon.put(0, MONITORED.split("---").next().unwrap());
    wait_log(&daemon, &["probes of an endpoint", "10.77.0.3:443", "failing=false"]);
    daemon.stop();
}

#[test]
fn a_probe_without_a_path_is_a_connection() {
    let world = World::new(&[]);
    let _server = Servers::one(&world.node.world, "10.77.0.2:9000", Behaviour::named("well"));
    let rule = "apiVersion: networking.istio.io/v1\n\
                kind: DestinationRule\n\
                metadata: {name: one}\n\
                spec:\n\
                \x20 host: one.example\n\
                \x20 trafficPolicy:\n\
                \x20   healthCheck: {interval: 1s, timeout: 1s, unhealthyThreshold: 2}\n";
    let service =
        services::tcp("one", &["192.0.2.1"], 27018, &["10.77.0.2:9000", "10.77.0.3:9000"]);
    let daemon = world.daemon().resource(service).resource(rule).start();
    wait_log(&daemon, &["probes of an endpoint", "10.77.0.3:9000", "failing=true"]);
    let _late = Servers::one(&world.node.world, "10.77.0.3:9000", Behaviour::named("late"));
    wait_log(&daemon, &["probes of an endpoint", "10.77.0.3:9000", "failing=false"]);
    daemon.stop();
}
