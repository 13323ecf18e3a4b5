//! TLS that passes through, by the name in its ClientHello (semantics.md §0, §3; seeds.md 1, 4, 5,
//! 16).

use egressd_tests::{Authority, Daemon, Nginx, Node, WORLD_V4};

use crate::http::world::World as Outside;

/// An address that stands for any: nobody listens there.
const ANYWHERE: &str = "10.77.0.4";
const NO_VIPS: &str = "dns: {allocateVips: false}";

/// TLS servers in the world, on port 443 and 8443; each tells its own name and the one asked for.
struct World {
    node: Node,
    ca: Authority,
    servers: Vec<Nginx>,
}

impl World {
    fn new() -> Self {
        Self { node: Node::new(), ca: Authority::new(), servers: Vec::new() }
    }

    /// A server of this name at one of the world's addresses.
    fn server(mut self, name: &str, index: usize, port: u16) -> Self {
        let issued = self.ca.issue(name, "DNS:*.example");
        let told = format!("{} return 200 '{name} $ssl_server_name';", issued.for_nginx());
        self.servers.push(Nginx::tls(&self.node.world, WORLD_V4[index], port, &told));
        self
    }

    /// What `https://HOST:PORT/` answers when the host is at an address; the error's code otherwise.
    #[track_caller]
    fn get(&self, host: &str, address: &str, port: u16) -> String {
        let at = format!("{host}:{port}:{address}");
        let url = format!("https://{host}:{port}/");
        let done = self.node.curl(&url).arg("--insecure").arg("--resolve").arg(at).run();
        match done.code() {
            0 => done.stdout,
            code => format!("curl {code}"),
        }
    }

    fn daemon(&self, config: &str, resources: &[String]) -> Daemon {
        let builder = self.node.daemon().config(config);
        resources.iter().fold(builder, |builder, yaml| builder.resource(yaml)).start()
    }
}

/// A ServiceEntry; `more` are further lines of its spec.
fn entry(name: &str, hosts: &str, port: u16, protocol: &str, more: &[&str]) -> String {
    let more: String = more.iter().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}}}\n\
         spec:\n\
         \x20 hosts: [{hosts}]\n\
         \x20 ports: [{{number: {port}, name: main, protocol: {protocol}}}]\n{more}"
    )
}

fn at(index: usize, port: u16) -> String {
    format!("endpoints: [{{address: {}, ports: {{main: {port}}}}}]", WORLD_V4[index])
}

fn routes(hosts: &str, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: VirtualService\n\
         metadata: {{name: routes}}\n\
         spec:\n\
         \x20 hosts: [{hosts}]\n\
         \x20 tls:\n{tls}"
    )
}

const STATIC: &str = "resolution: STATIC";

#[test]
fn hosts_are_found_by_name_without_virtual_addresses() {
    let world = World::new().server("A", 0, 8443).server("B", 1, 8443);
    let wild = "\"*.wild.example\"";
    let daemon = world.daemon(
        NO_VIPS,
        &[
            entry("a", "a.example", 443, "HTTPS", &[STATIC, &at(0, 8443)]),
            entry("b", wild, 443, "TLS", &[STATIC, &at(1, 8443)]),
        ],
    );
    assert_eq!(world.get("a.example", ANYWHERE, 443), "A a.example");
    assert_eq!(world.get("x.wild.example", ANYWHERE, 443), "B x.wild.example");
    assert_eq!(world.get("y.x.wild.example", ANYWHERE, 443), "B y.x.wild.example");
    // Neither the wildcard's own domain nor an unknown name is covered: it goes where it was dialled.
    assert_eq!(world.get("wild.example", ANYWHERE, 443), "curl 35");
    let records = daemon.wait_records(4);
    let clusters: Vec<_> = records.iter().map(|record| record.upstream_cluster.as_str()).collect();
    let wild = "outbound|443||*.wild.example";
    assert_eq!(clusters, ["outbound|443||a.example", wild, wild, "PassthroughCluster"]);
    let names: Vec<_> = records.iter().map(|record| record.server_name.as_str()).collect();
    assert_eq!(names, ["a.example", "x.wild.example", "y.x.wild.example", "wild.example"]);
    assert_eq!(records[3].upstream_host, "10.77.0.4:443");
}

#[test]
fn a_host_without_resolution_goes_where_it_was_dialled() {
    let world = World::new().server("dialled", 1, 443);
    let daemon = world.daemon(
        NO_VIPS,
        &[entry("wiki", "w.example, \"*.w.example\"", 443, "TLS", &["resolution: NONE"])],
    );
    assert_eq!(world.get("w.example", WORLD_V4[1], 443), "dialled w.example");
    assert_eq!(world.get("de.m.w.example", WORLD_V4[1], 443), "dialled de.m.w.example");
    let records = daemon.wait_records(2);
    assert_eq!(records[0].upstream_cluster, "outbound|443||w.example");
    assert_eq!(records[1].upstream_cluster, "outbound|443||*.w.example");
}

#[test]
fn with_virtual_addresses_the_real_one_is_still_found_by_name() {
    let world = World::new().server("A", 0, 8443).server("B", 1, 8443);
    let daemon = world.daemon(
        "",
        &[
            entry("a", "a.example", 443, "HTTPS", &[STATIC, &at(0, 8443)]),
            entry(
                "b",
                "b.example",
                443,
                "HTTPS",
                &["addresses: [192.0.2.20]", STATIC, &at(1, 8443)],
            ),
        ],
    );
    let vip = world.node.python("import socket; print(socket.gethostbyname('a.example'))");
    let vip = vip.run().text();
    assert!(vip.starts_with("240.240."), "{vip}");
    assert_eq!(world.get("a.example", &vip, 443), "A a.example");
    // At the virtual address nobody asks for the name.
    assert_eq!(world.get("other.example", &vip, 443), "A other.example");
    assert_eq!(world.get("b.example", "192.0.2.20", 443), "B b.example");
    // Dialled elsewhere, the name decides.
    assert_eq!(world.get("a.example", ANYWHERE, 443), "A a.example");
    assert!(daemon.wait_records(4).iter().all(|record| record.flags == "-"));
}

#[test]
fn strict_compares_the_name_at_a_virtual_address() {
    let world = World::new().server("A", 0, 8443);
    let service =
        entry("a", "a.example", 443, "HTTPS", &["addresses: [192.0.2.20]", STATIC, &at(0, 8443)]);
    let daemon = world.daemon("strict: true", &[service]);
    assert_eq!(world.get("a.example", "192.0.2.20", 443), "A a.example");
    assert_eq!(world.get("evil.example", "192.0.2.20", 443), "curl 35");
    let records = daemon.wait_records(2);
    assert_eq!(records[1].termination, "foreign_server_name", "{}", records[1].line);
}

#[test]
fn a_block_and_a_name_must_both_match() {
    let world = World::new().server("A", 0, 8443);
    let service = entry(
        "a",
        "a.example",
        443,
        "TLS",
        &["addresses: [198.51.100.0/24]", STATIC, &at(0, 8443)],
    );
    let policy = "meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
    let daemon = world.daemon(policy, &[service]);
    assert_eq!(world.get("a.example", "198.51.100.7", 443), "A a.example");
    assert_eq!(world.get("b.example", "198.51.100.7", 443), "curl 35");
    let records = daemon.wait_records(2);
    assert_eq!(records[1].upstream_cluster, "BlackHoleCluster", "{}", records[1].line);
    assert_eq!(records[1].flags, "UH", "{}", records[1].line);
}

#[test]
fn tls_and_tcp_share_a_port() {
    let world = World::new().server("A", 0, 8443).server("all", 1, 8443);
    let daemon = world.daemon(
        NO_VIPS,
        &[
            entry("a", "a.example", 443, "TLS", &[STATIC, &at(0, 8443)]),
            entry("all", "all.example", 443, "TCP", &[STATIC, &at(1, 8443)]),
        ],
    );
    assert_eq!(world.get("a.example", ANYWHERE, 443), "A a.example");
    assert_eq!(world.get("b.example", ANYWHERE, 443), "all b.example");
    assert_eq!(daemon.wait_records(2)[1].upstream_cluster, "outbound|443||all.example");
}

#[test]
fn rules_by_name_address_and_port_with_weights() {
    let world = World::new().server("A", 0, 8443).server("B", 1, 8443);
    let rules = "  - match: [{sniHosts: [x.a.example], destinationSubnets: [198.51.100.0/24]}]\n\
                 \x20   route: [{destination: {host: b.example}}]\n\
                 \x20 - match: [{sniHosts: [y.a.example], port: 443}]\n\
                 \x20   route:\n\
                 \x20   - {destination: {host: a.example}, weight: 50}\n\
                 \x20   - {destination: {host: b.example}, weight: 50}\n\
                 \x20 - match: [{sniHosts: [\"*.a.example\"]}]\n\
                 \x20   route: [{destination: {host: a.example}}]\n";
    let daemon = world.daemon(
        NO_VIPS,
        &[
            entry("all", "\"*.a.example\"", 443, "TLS", &["resolution: NONE"]),
            entry("a", "a.example", 443, "TLS", &[STATIC, &at(0, 8443)]),
            entry("b", "b.example", 443, "TLS", &[STATIC, &at(1, 8443)]),
            routes("\"*.a.example\"", rules),
        ],
    );
    assert_eq!(world.get("x.a.example", "198.51.100.1", 443), "B x.a.example");
    assert_eq!(world.get("x.a.example", ANYWHERE, 443), "A x.a.example");
    assert_eq!(world.get("z.a.example", ANYWHERE, 443), "A z.a.example");
    let drawn: Vec<_> = (0..24).map(|_| world.get("y.a.example", ANYWHERE, 443)).collect();
    for name in ["A", "B"] {
        let count = drawn.iter().filter(|answer| answer.starts_with(name)).count();
        assert!((2..=22).contains(&count), "{drawn:?}");
    }
    assert!(daemon.wait_records(27).iter().all(|record| record.flags == "-"));
}

/// The seeds' tls-routing: the firewall that nobody has declared.
#[test]
fn a_destination_that_no_service_has_is_closed() {
    let world = World::new();
    let rules = "  - match: [{sniHosts: [w.example, \"*.w.example\"]}]\n\
                 \x20   route: [{destination: {host: firewall.ns1.svc.cluster.local}}]\n";
    let daemon = world.daemon(
        NO_VIPS,
        &[
            entry("wiki", "w.example, \"*.w.example\"", 443, "TLS", &["resolution: NONE"]),
            routes("w.example, \"*.w.example\"", rules),
        ],
    );
    assert_eq!(world.get("w.example", ANYWHERE, 443), "curl 35");
    let record = daemon.wait_record();
    assert_eq!(record.flags, "NC", "{}", record.line);
    assert_eq!(record.upstream_cluster, "outbound|443||firewall.ns1.svc.cluster.local");
}

/// The same with the firewall: it gets what was for the wiki.
#[test]
fn a_firewall_gets_what_is_routed_to_it() {
    let world = World::new().server("firewall", 0, 8443);
    let firewall = "firewall.ns1.svc.cluster.local";
    let rules = format!(
        "  - match: [{{sniHosts: [w.example, \"*.w.example\"]}}]\n\
         \x20   route: [{{destination: {{host: {firewall}}}}}]\n"
    );
    let daemon = world.daemon(
        NO_VIPS,
        &[
            entry("wiki", "w.example, \"*.w.example\"", 443, "TLS", &["resolution: NONE"]),
            entry("firewall", firewall, 443, "TLS", &[STATIC, &at(0, 8443)]),
            routes("w.example, \"*.w.example\"", &rules),
        ],
    );
    assert_eq!(world.get("en.w.example", ANYWHERE, 443), "firewall en.w.example");
    assert_eq!(daemon.wait_record().flags, "-");
}

#[test]
fn wildcards_are_resolved_by_the_name_asked_for() {
    let outside = [("a.dyn.example", WORLD_V4[1]), ("b.dyn.example", WORLD_V4[2])];
    let named = Outside::new(&outside);
    let ca = Authority::new();
    let _servers = [("A", 1), ("B", 2)].map(|(name, index)| {
        let issued = ca.issue(name, "DNS:*.example").for_nginx();
        let told = format!("{issued} return 200 '{name} $ssl_server_name';");
        Nginx::tls(&named.node.world, WORLD_V4[index], 443, &told)
    });
    let service = entry("dyn", "\"*.dyn.example\"", 443, "TLS", &["resolution: DYNAMIC_DNS"]);
    let config = "dns: {allocateVips: false, capture: none, upstreams: [10.77.0.2]}";
    let daemon = named.node.daemon().config(config).resource(service).start();
    let get = |host: &str| {
        let at = format!("{host}:443:{}", WORLD_V4[0]);
        let spawn = named.node.curl(&format!("https://{host}/")).arg("--insecure");
        let done = spawn.arg("--resolve").arg(at).run();
        if done.code() == 0 { done.stdout } else { format!("curl {}", done.code()) }
    };
    // What was dialled does not matter.
    assert_eq!(get("a.dyn.example"), "A a.dyn.example");
    assert_eq!(get("b.dyn.example"), "B b.dyn.example");
    assert_eq!(get("none.dyn.example"), "curl 35");
    let records = daemon.wait_records(3);
    assert_eq!(records[0].upstream_host, "10.77.0.3:443");
    assert_eq!(records[1].upstream_host, "10.77.0.4:443");
    let cluster = "outbound|443||*.dyn.example";
    assert_eq!(records[2].decision(), ("DF", cluster, "10.77.0.2:443"));
    assert_eq!(records[2].failure, "dns_resolution_failure", "{}", records[2].line);
}

#[test]
fn openssl_is_routed_by_name_and_without_one_is_not() {
    let world = World::new().server("A", 0, 8443).server("dialled", 2, 443);
    let daemon =
        world.daemon(NO_VIPS, &[entry("a", "a.example", 443, "TLS", &[STATIC, &at(0, 8443)])]);
    let ask = |name: &[&str]| {
        let words = ["openssl", "s_client", "-quiet", "-connect", "10.77.0.4:443"];
        let client = world.node.app(words.iter().chain(name));
        let done = client.input("GET / HTTP/1.0\r\n\r\n").run();
        done.stdout.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(ask(&["-servername", "a.example"]), "A a.example");
    assert_eq!(ask(&["-noservername"]), "dialled ");
    let records = daemon.wait_records(2);
    assert_eq!(records[1].upstream_cluster, "PassthroughCluster");
    assert_eq!(records[1].server_name, "-");
}

/// Without resolution an application goes where it likes under any name; `strict` asks DNS.
#[test]
fn strict_compares_the_address_with_the_name_asked_for() {
    let world = World::new().server("dialled", 1, 443);
    let service = entry("all", "\"*.a.example\"", 443, "TLS", &["resolution: NONE"]);
    let own =
        entry("own", "own.example", 443, "TLS", &["addresses: [10.77.0.3]", "resolution: NONE"]);
    let daemon = world.daemon(&format!("strict: true\n{NO_VIPS}"), &[service, own]);
    // Nobody knows an address of this name, so that 10.77.0.3 is none of its.
    assert_eq!(world.get("x.a.example", "10.77.0.2", 443), "curl 35");
    assert_eq!(world.get("own.example", WORLD_V4[1], 443), "dialled own.example");
    let records = daemon.wait_records(2);
    assert_eq!(records[0].termination, "foreign_destination", "{}", records[0].line);
    assert_eq!((records[0].flags.as_str(), records[1].flags.as_str()), ("UH", "-"));
}
