//! The seeds' HTTP services at run time (seeds.md 9–14, 23, 25–26, 30, 33).

use std::{collections::BTreeMap, fs};

use egressd_tests::{Authority, Httpbin, Nginx, WORLD_V4};

use super::world::{Answer, World, last, telling, wait_generation};

macro_rules! seed {
    ($name:literal) => {
        include_str!(concat!("../../data/seeds/", $name, "/resources.yaml"))
    };
}

/// How often each server has answered `count` requests, by the first word of what it says.
fn shares(world: &World, url: &str, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let answer = world.get(url, &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        let name = answer.body.split(' ').next().unwrap().to_owned();
        *shares.entry(name).or_default() += 1;
    }
    shares
}

#[test]
fn a_wildcard_without_endpoints_goes_where_it_was_going() {
    let world = World::new(&[("x.bar.com", "203.0.113.7"), ("bar.com", "203.0.113.8")]);
    let _servers = [world.named("sub", "203.0.113.7", 80), world.named("apex", "203.0.113.8", 80)];
    let daemon = world.daemon().resource(seed!("009-external-svc-wildcard-example")).start();
    assert_eq!(world.get("http://x.bar.com/1", &[]).told(), (200, "sub x.bar.com /1"));
    let record = last(&daemon, 1);
    assert_eq!(record.upstream_cluster, "outbound|80||*.bar.com");
    assert_eq!(record.upstream_host, "203.0.113.7:80");
    assert_eq!(world.get("http://bar.com/2", &[]).told(), (200, "apex bar.com /2"));
    assert_eq!(last(&daemon, 2).upstream_cluster, "PassthroughCluster");
    daemon.stop();
}

#[test]
fn a_service_behind_a_unix_socket() {
    let world = World::new(&[]);
    let builder = world.daemon();
    let socket = builder.folder().join("socket");
    let httpbin = Httpbin::unix(&socket);
    let yaml = seed!("010-unix-domain-socket-example");
    let yaml = yaml.replace("/var/run/example/socket", socket.to_str().unwrap());
    let daemon = builder.resource(yaml).start();
    let answer = world.get("http://example.unix.local/get?a=b", &[]);
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"url\": \"http://example.unix.local/get?a=b\""), "{answer:?}");
    let record = last(&daemon, 1);
    assert_eq!(record.upstream_cluster, "outbound|80||example.unix.local");
    assert!(record.downstream_local.starts_with("240.240."), "{record:?}");
    assert_eq!(httpbin.answered("GET /get"), 1);
    daemon.stop();
}

#[test]
fn three_names_behind_a_host_each_with_its_port() {
    let names = [
        ("us.foo.bar.com", WORLD_V4[0]),
        ("uk.foo.bar.com", WORLD_V4[1]),
        ("in.foo.bar.com", WORLD_V4[2]),
    ];
    let world = World::new(&names);
    let _servers = [
        world.named("us", WORLD_V4[0], 8080),
        world.named("uk", WORLD_V4[1], 9080),
        world.named("in", WORLD_V4[2], 7080),
    ];
    let daemon = world
        .daemon()
        .config("meshConfig: {proxyHttpPort: 15080}")
        .resource(seed!("011-external-svc-dns"))
        .start();
    let answer = world.get("http://foo.bar.com/x", &[]);
    assert!(answer.body.ends_with(" foo.bar.com /x"), "{answer:?}");
    let shares = shares(&world, "http://foo.bar.com/", 40);
    assert_eq!(shares.len(), 3, "{shares:?}");
    // A program that is not captured asks the proxy.
    let words = ["curl", "--silent", "--show-error", "--max-time", "15", "http://foo.bar.com/y"];
    let spawn = egressd_tests::Spawn::new(words).netns(&world.node.netns);
    let told = spawn.env("http_proxy", "http://127.0.0.1:15080").run().text();
    assert!(told.ends_with(" foo.bar.com /y"), "{told}");
    daemon.stop();
}

#[test]
fn names_for_a_certificate_do_not_ask_for_one() {
    let world = World::new(&[("-", "2.2.2.2"), ("-", "3.3.3.3")]);
    let _servers = [world.named("two", "2.2.2.2", 80), world.named("three", "3.3.3.3", 80)];
    let daemon = world.daemon().resource(seed!("012-httpbin")).start();
    let shares = shares(&world, "http://example.com/", 30);
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["three", "two"]);
    daemon.stop();
}

#[test]
fn workloads_are_found_by_their_labels() {
    let world = World::new(&[("-", "2.2.2.2"), ("-", "3.3.3.3"), ("-", "10.244.0.7")]);
    let _servers = [
        world.named("two", "2.2.2.2", 80),
        world.named("three", "3.3.3.3", 80),
        world.named("pod", "10.244.0.7", 80),
    ];
    let daemon = world.daemon().resource(seed!("013-details-vm")).start();
    // Two workloads alone are no service.
    let url = "http://details.bookinfo.com/";
    assert_eq!(world.node.curl(url).run().code(), 6);
    assert!(daemon.records().is_empty());
    daemon.put(0, seed!("014-details-svc"));
    wait_generation(&daemon, 2);
    let shares = shares(&world, url, 40);
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["pod", "three", "two"]);
    daemon.stop();
}

#[test]
fn a_rule_for_http_does_nothing_on_a_tls_port_until_tls_is_originated() {
    let world = World::new(&[("api.stripe.com", WORLD_V4[1])]);
    let authority = Authority::new();
    let shown = authority.issue("stripe", "DNS:api.stripe.com").for_nginx();
    let told = "location / { return 200 \"$ssl_server_name $http_host [$http_x_client_version] \
                $server_protocol\\n\"; }";
    let _server = Nginx::tls(&world.node.world, WORLD_V4[1], 443, &format!("{shown} {told}"));
    let daemon = world.daemon().roots(authority.roots());
    let daemon = daemon.resource(seed!("023-payment-service")).start();
    let roots = authority.roots();
    let trusting = ["--http1.1", "--cacert", roots.to_str().unwrap()];
    let own = world.get("https://api.stripe.com/", &trusting);
    assert_eq!(own.told(), (200, "api.stripe.com api.stripe.com [] HTTP/1.1"));
    daemon.put(0, seed!("023-payment-service-originated"));
    wait_generation(&daemon, 2);
    let plain = world.get("http://api.stripe.com/v1/charges", &[]);
    assert_eq!(plain.told(), (200, "api.stripe.com api.stripe.com [v1.2.3] HTTP/1.1"));
    let record = last(&daemon, 2);
    assert_eq!(record.upstream_host, format!("{}:443", WORLD_V4[1]));
    assert_eq!(record.upstream_cluster, "outbound|80||api.stripe.com");
    daemon.stop();
}

#[test]
fn a_prefix_is_rewritten_and_other_paths_have_no_rule() {
    let world = World::new(&[("-", "192.168.10.100")]);
    let authority = Authority::new();
    let shown = authority.issue("legacy", "DNS:legacy.company.internal").for_nginx();
    let secure = format!("{shown} {}", telling("secure"));
    let _servers = [
        world.named("legacy", "192.168.10.100", 8080),
        Nginx::tls(&world.node.world, "192.168.10.100", 8443, &secure),
    ];
    let daemon = world.daemon().resource(seed!("025-legacy-system")).start();
    let host = "legacy.company.internal:8080";
    let moved = world.get(&format!("http://{host}/api/v1/x?y=z"), &[]);
    assert_eq!(moved.body, format!("legacy {host} /legacy-api/x?y=z"));
    let record = last(&daemon, 1);
    assert_eq!(record.request, "GET /api/v1/x?y=z HTTP/1.1");
    let none = world.get(&format!("http://{host}/other"), &[]);
    assert_eq!(none.told(), (404, ""));
    let record = last(&daemon, 2);
    assert_eq!((record.code.as_str(), record.flags.as_str()), ("404", "NR"));
    let roots = authority.roots();
    let trusting = ["--http1.1", "--cacert", roots.to_str().unwrap()];
    let secure = world.get("https://legacy.company.internal:8443/api/v1/x", &trusting);
    assert_eq!(secure.body, "secure legacy.company.internal:8443 /api/v1/x");
    daemon.stop();
}

#[test]
fn a_header_chooses_the_region() {
    let names = [
        ("cdn-us.global.example", WORLD_V4[0]),
        ("cdn-eu.global.example", WORLD_V4[1]),
        ("cdn-asia.global.example", WORLD_V4[2]),
    ];
    let world = World::new(&names);
    let authority = Authority::new();
    let shown = authority.issue("cdn", "DNS:cdn.global.example").for_nginx();
    let server = |region: &str, address: &str| {
        Nginx::tls(&world.node.world, address, 443, &format!("{shown} {}", telling(region)))
    };
    let _servers =
        [server("us", WORLD_V4[0]), server("eu", WORLD_V4[1]), server("asia", WORLD_V4[2])];
    let daemon = world.daemon().roots(authority.roots());
    let daemon = daemon.resource(seed!("026-cdn-service-originated")).start();
    let url = "http://cdn.global.example/";
    let region = |region: &str| {
        let header = format!("x-user-region: {region}");
        world.get(url, &["--header", &header]).body.split(' ').next().unwrap().to_owned()
    };
    for _ in 0..3 {
        assert_eq!((region("us"), region("eu")), ("us".to_owned(), "eu".to_owned()));
        assert_eq!((region("asia"), region("")), ("us".to_owned(), "us".to_owned()));
    }
    let records = daemon.wait_records(12);
    assert_eq!(records[1].upstream_cluster, "outbound|80|eu-region|cdn.global.example");
    daemon.stop();
}

const NGINX_X: &str = seed!("030-nginx-x");

#[test]
fn a_machine_behind_a_name_by_dns_and_by_the_hosts_file() {
    let world = World::new(&[("-", "192.168.0.204")]);
    let _server = world.named("vm204", "192.168.0.204", 80);
    let daemon = world.daemon().resource(NGINX_X).start();
    assert_eq!(world.get("http://xxx.jd.com/", &[]).told(), (200, "vm204 xxx.jd.com /"));
    assert_eq!(last(&daemon, 1).downstream_local, "240.240.0.1:80");
    daemon.stop();
    // Without our DNS any address will do, as the Host of the request decides.
    let daemon = world.node.daemon().config("dns: {capture: none}").resource(NGINX_X).start();
    let hosts = daemon.folder().join("hosts");
    fs::write(&hosts, "198.51.100.77 xxx.jd.com\n").unwrap();
    world.node.netns.ip("route replace 198.51.100.77/32 via 10.77.0.2");
    let script = "mount --make-rprivate / && mount --bind \"$1\" /etc/hosts && exec curl --silent \
                  --show-error --max-time 15 --write-out '\\n%{http_code} 0' http://xxx.jd.com/";
    let words = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let answer = Answer::parse(&world.node.app(words).arg(&hosts).run().text());
    assert_eq!(answer.told(), (200, "vm204 xxx.jd.com /"));
    let record = last(&daemon, 1);
    assert_eq!(record.downstream_local, "198.51.100.77:80");
    assert_eq!(record.upstream_cluster, "outbound|80||xxx.jd.com");
    daemon.stop();
}

#[test]
fn everything_to_a_subset_that_comes_later() {
    let world = World::new(&[("-", "192.168.0.204"), ("-", "10.244.1.23")]);
    let _servers =
        [world.named("vm204", "192.168.0.204", 80), world.named("pod", "10.244.1.23", 80)];
    let daemon = world.daemon().resource(seed!("033-hello2")).start();
    let nobody = world.get("http://xxx.jd.com/", &[]);
    assert_eq!(nobody.told(), (503, "no healthy upstream"));
    let record = last(&daemon, 1);
    assert_eq!((record.flags.as_str(), record.code.as_str()), ("UH", "503"));
    assert_eq!(record.upstream_cluster, "outbound|80|docker|xxx.jd.com");
    daemon.put(0, seed!("033-hello2-with-pod"));
    wait_generation(&daemon, 2);
    let shares = shares(&world, "http://xxx.jd.com/", 20);
    assert_eq!(shares.into_iter().collect::<Vec<_>>(), [("pod".to_owned(), 20)]);
    assert_eq!(last(&daemon, 21).route_name, "http-hello-route");
    daemon.stop();
}
