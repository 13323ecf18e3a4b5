//! VirtualServices at run time: weights, faults, mirrors, redirects and direct answers.

use std::collections::BTreeMap;

use egressd_tests::{Httpbin, NODE_V4, Nginx, WORLD_V4, until};

use super::world::{World, last};

const ROUTES: &str = include_str!("../../data/http/routes.yaml");

#[test]
fn weights_share_requests_among_ports() {
    let world = World::new(&[]);
    let _servers = [
        world.named("one", WORLD_V4[0], 8081),
        world.named("two", WORLD_V4[1], 8082),
        world.named("three", WORLD_V4[2], 8083),
    ];
    let daemon = world.daemon().resource(ROUTES).start();
    // One curl, and one connection: what is shared is requests.
    let urls: Vec<_> = (0..199).map(|n| format!("http://shop.example/{n}")).collect();
    let spawn = world.node.curl("http://shop.example/").arg("--ipv4");
    let text = urls.iter().fold(spawn, |spawn, url| spawn.arg(url)).run().text();
    let mut shares = BTreeMap::<_, usize>::new();
    for line in text.lines() {
        *shares.entry(line.split(' ').next().unwrap()).or_default() += 1;
    }
    assert_eq!(shares.values().sum::<usize>(), 200);
    let within = |name: &str, expected: usize| {
        let share = shares.get(name).copied().unwrap_or(0);
        // Six standard deviations either way.
        assert!(share.abs_diff(expected) < 42, "{shares:?}");
    };
    within("one", 100);
    within("two", 60);
    within("three", 40);
    assert!(text.contains("one shop.example"), "{text}");
    let records = daemon.wait_records(200);
    let ours: std::collections::BTreeSet<_> =
        records.iter().map(|record| &record.downstream_remote).collect();
    assert_eq!(ours.len(), 1);
    daemon.stop();
}

#[test]
fn faults_are_injected_where_they_match() {
    let world = World::new(&[]);
    let _server = world.named("one", WORLD_V4[0], 8081);
    let daemon = world.daemon().resource(ROUTES).start();
    let aborted = world.get("http://faults.example/abort", &[]);
    assert_eq!(aborted.told(), (418, "fault filter abort"));
    assert_eq!(last(&daemon, 1).flags, "FI");
    let delayed = world.get("http://faults.example/delay", &[]);
    assert_eq!(delayed.told(), (200, "one faults.example /delay"));
    assert!((1.0..3.0).contains(&delayed.seconds), "{delayed:?}");
    assert_eq!(last(&daemon, 2).flags, "DI");
    let plain = world.get("http://faults.example/never", &[]);
    assert_eq!(plain.told(), (200, "one faults.example /never"));
    assert_eq!(last(&daemon, 3).flags, "-");
    daemon.stop();
}

#[test]
fn a_mirror_gets_a_copy_that_nobody_waits_for() {
    let world = World::new(&[]);
    let _server = world.named("one", WORLD_V4[0], 8081);
    let mirror = Httpbin::start(&world.node.world, WORLD_V4[1], 8082);
    let daemon = world.daemon().resource(ROUTES).start();
    let body = ["--request", "POST", "--data", "the body"];
    let answer = world.get("http://mirrored.example/delay/1?x=y", &body);
    assert_eq!(answer.told(), (200, "one mirrored.example /delay/1?x=y"));
    assert!(answer.seconds < 1.0, "{answer:?}");
    until("the mirror's answer", || (mirror.answered("POST /delay/1?x=y") == 1).then_some(()));
    let record = last(&daemon, 1);
    assert_eq!(record.bytes_received, 8);
    daemon.stop();
}

#[test]
fn redirects_and_direct_answers_reach_no_server() {
    let world = World::new(&[]);
    let daemon = world.daemon().resource(ROUTES).start();
    let moved = world.get("http://moved.example/old/x?y=z", &["--include"]);
    assert_eq!(moved.status, 308);
    assert!(moved.body.contains("location: https://new.example/x?y=z\r\n"), "{moved:?}");
    let said = world.get("http://moved.example/said", &[]);
    assert_eq!(said.told(), (410, "gone for good"));
    assert_eq!(last(&daemon, 2).upstream_host, "-");
    daemon.stop();
}

/// A ServiceEntry for HTTP on port 80.
fn entry(name: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
         {more}"
    )
}

#[test]
fn an_unknown_host_is_refused_where_only_the_registry_counts() {
    let world = World::new(&[("other.example", WORLD_V4[1])]);
    let _server = world.named("other", WORLD_V4[1], 80);
    let known = "  hosts: [known.example]\n  resolution: STATIC\n";
    let daemon = world
        .daemon()
        .config("meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
        .resource(entry("known", known))
        .start();
    assert_eq!(world.get("http://other.example/", &[]).told(), (502, ""));
    let record = last(&daemon, 1);
    assert_eq!((record.code.as_str(), record.route_name.as_str()), ("502", "block_all"));
    // A known host without endpoints is another thing.
    let empty = world.get("http://known.example/", &[]);
    assert_eq!(empty.told(), (503, "no healthy upstream"));
    daemon.stop();
}

#[test]
fn a_wildcard_resolves_what_the_host_says() {
    let names = [("a.any.example", "203.0.113.21"), ("b.any.example", "203.0.113.22")];
    let world = World::new(&names);
    let _servers = [world.named("a", "203.0.113.21", 80), world.named("b", "203.0.113.22", 8080)];
    let any = "  hosts: [\"*.any.example\"]\n  resolution: DYNAMIC_DNS\n";
    let daemon = world.daemon().resource(entry("any", any)).start();
    // Whatever was dialled: the name decides, and its port.
    let told = world.get("http://a.any.example/x", &[]);
    assert_eq!(told.told(), (200, "a a.any.example /x"));
    let record = last(&daemon, 1);
    assert_eq!(record.upstream_host, "203.0.113.21:80");
    assert!(record.downstream_local.starts_with("240.240."), "{record:?}");
    let host = ["--header", "host: b.any.example:8080"];
    assert_eq!(world.get("http://a.any.example/", &host).body, "b b.any.example:8080 /");
    let nobody = ["--header", "host: c.any.example"];
    assert_eq!(world.get("http://a.any.example/", &nobody).status, 503);
    assert_eq!(last(&daemon, 3).flags, "DF");
    daemon.stop();
}

#[test]
fn a_strict_node_compares_the_address_with_the_host() {
    let world = World::new(&[("in.bar.example", WORLD_V4[1])]);
    let _servers = [world.named("in", WORLD_V4[1], 80), world.named("out", WORLD_V4[2], 80)];
    let bar = "  hosts: [\"*.bar.example\"]\n  resolution: NONE\n";
    let daemon = world.daemon().config("strict: true").resource(entry("bar", bar)).start();
    let url = "http://in.bar.example/";
    assert_eq!(world.get(url, &[]).told(), (200, "in in.bar.example /"));
    let elsewhere = format!("in.bar.example:80:{}", WORLD_V4[2]);
    assert_eq!(world.get(url, &["--resolve", &elsewhere]).status, 502);
    assert_eq!(last(&daemon, 2).upstream_host, "-");
    daemon.stop();
}

#[test]
fn envoys_headers_can_be_turned_off() {
    let world = World::new(&[]);
    let _httpbin = Httpbin::start(&world.node.world, WORLD_V4[0], 8000);
    let plain = format!(
        "  hosts: [plain.example]\n  resolution: STATIC\n\
         \x20 endpoints: [{{address: {}, ports: {{http: 8000}}}}]\n",
        WORLD_V4[0]
    );
    let daemon = world.daemon().config("http: {envoyHeaders: false}");
    let daemon = daemon.resource(entry("plain", &plain)).start();
    let answer = world.get("http://plain.example/headers?show_env=1", &["--include"]);
    let text = answer.body.to_ascii_lowercase();
    assert!(answer.status == 200 && !text.contains("x-"), "{text}");
    daemon.stop();
}

#[test]
fn the_proxy_protocol_tells_whose_request_it_is() {
    let world = World::new(&[]);
    let told = "location / { return 200 \"$proxy_protocol_server_port [$proxy_protocol_addr]\"; }";
    let _server = Nginx::listening(&world.node.world, WORLD_V4[0], 8000, "proxy_protocol", told);
    let told = format!(
        "  hosts: [told.example]\n  resolution: STATIC\n\
         \x20 endpoints: [{{address: {}, ports: {{http: 8000}}}}]\n",
        WORLD_V4[0]
    );
    let rule = "apiVersion: networking.istio.io/v1\n\
                kind: DestinationRule\n\
                metadata: {name: told}\n\
                spec: {host: told.example, trafficPolicy: {proxyProtocol: {version: V2}}}\n";
    let daemon = world.daemon().resource(entry("told", &told)).resource(rule).start();
    let answer = world.get("http://told.example/", &[]);
    assert_eq!(answer.told(), (200, format!("80 [{NODE_V4}]").as_str()));
    daemon.stop();
}

#[test]
fn a_key_of_the_request_keeps_its_endpoint() {
    let world = World::new(&[]);
    let _servers = WORLD_V4.map(|address| world.named(address, address, 8081));
    let endpoints =
        WORLD_V4.map(|address| format!("{{address: {address}, ports: {{http: 8081}}}}"));
    let hashed = format!(
        "  hosts: [hashed.example]\n  resolution: STATIC\n  endpoints: [{}]\n",
        endpoints.join(", ")
    );
    let rule = |key: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\n\
             kind: DestinationRule\n\
             metadata: {{name: hashed}}\n\
             spec: {{host: hashed.example, trafficPolicy: {{loadBalancer: {{consistentHash: {key}}}}}}}\n"
        )
    };
    let daemon = world
        .daemon()
        .resource(entry("hashed", &hashed))
        .resource(rule("{httpHeaderName: x-user}"))
        .start();
    let url = "http://hashed.example/";
    let server = |arguments: &[&str]| {
        let told = world.get(url, arguments).body;
        told.split(' ').next().unwrap().to_owned()
    };
    let users: Vec<_> = (0..12).map(|user| format!("x-user: {user}")).collect();
    let all = || users.iter().map(|user| server(&["--header", user])).collect::<Vec<_>>();
    let first = all();
    assert!(first.iter().any(|one| *one != first[0]), "{first:?}");
    assert_eq!(all(), first);
    // A cookie is given to who has none, and is good for the same endpoint.
    daemon.put(1, &rule("{httpCookie: {name: session, ttl: 60s, path: /}}"));
    super::world::wait_generation(&daemon, 2);
    let jar = daemon.folder().join("cookies");
    let jar = ["--cookie-jar", jar.to_str().unwrap(), "--cookie", jar.to_str().unwrap()];
    let kept = server(&jar);
    assert!((0..8).all(|_| server(&jar) == kept));
    let issued = world.get(url, &["--include"]).body;
    let cookie = issued.lines().find(|line| line.starts_with("set-cookie: session=")).unwrap();
    assert!(cookie.contains("; Max-Age=60; Path=/; HttpOnly"), "{cookie}");
    daemon.put(1, &rule("{httpQueryParameterName: user}"));
    super::world::wait_generation(&daemon, 3);
    let of = |user: u32| world.get(&format!("{url}?user={user}"), &[]).body;
    let before: Vec<_> = (0..8).map(of).collect();
    assert_eq!((0..8).map(of).collect::<Vec<_>>(), before);
    daemon.stop();
}
