//! Which way connections take, and why not straight.

use egressd_tables::{Action, Flow, NotDirect, Options, Path, PathMode, Sniffed, Tables};

use crate::world::World;

/// A world whose node wants the direct path wherever it can be.
fn direct() -> World {
    World::default().options(Options { path: PathMode::Direct, ..Options::default() })
}

/// The way of connections to a destination: the clusters with their weights, or the reason.
fn path(tables: &Tables, to: &str) -> String {
    match tables.path(to.parse().unwrap()) {
        Path::Direct(route) => {
            let one = |(name, weight): &(_, u32)| format!("{name}={weight}");
            route.clusters.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Path::Proxied(reason) | Path::LeftAlone(reason) => reason.code().to_owned(),
    }
}

/// A STATIC service at 10.0.0.1 with what is said of its port.
fn at_vip(port: &str) -> World {
    direct().entry("a", &entry(port))
}

fn entry(port: &str) -> String {
    format!(
        "hosts: [a.example], addresses: [10.0.0.1], resolution: STATIC, \
         ports: [{{number: 90, name: p, {port}}}], endpoints: [{{address: 192.0.2.1}}]"
    )
}

const TCP: &str = "protocol: TCP";
const OWN: &str = "outbound|90||a.example=1";

#[test]
fn the_destination_alone_decides() {
    assert_eq!(path(&at_vip(TCP).tables(), "10.0.0.1:90"), OWN);
    assert_eq!(path(&at_vip("protocol: MYSQL").tables(), "10.0.0.1:90"), OWN);
    assert_eq!(path(&at_vip("protocol: TLS").tables(), "10.0.0.1:90"), OWN);
    assert_eq!(path(&at_vip("protocol: HTTPS").tables(), "10.0.0.1:90"), OWN);
    for resolution in ["DNS", "DNS_ROUND_ROBIN"] {
        let entry = entry(TCP).replace("STATIC", resolution).replace("192.0.2.1", "b.example");
        assert_eq!(path(&direct().entry("a", &entry).tables(), "10.0.0.1:90"), OWN);
    }
    let none = "hosts: [a.example], addresses: [10.0.0.0/24], resolution: NONE, \
                ports: [{number: 90, name: p, protocol: TCP, targetPort: 91}]";
    assert_eq!(path(&direct().entry("a", none).tables(), "10.0.0.7:90"), OWN);
    let anywhere = entry(TCP).replace("addresses: [10.0.0.1], ", "");
    assert_eq!(path(&direct().entry("a", &anywhere).tables(), "203.0.113.1:90"), OWN);
    let allocated = direct_with_vips().entry("a", &anywhere);
    assert_eq!(path(&allocated.tables(), "240.240.0.1:90"), OWN);
}

fn direct_with_vips() -> World {
    let options = Options { path: PathMode::Direct, dns_capture: true, ..Options::default() };
    World::default().vips().options(options)
}

#[test]
fn weights_are_the_kernels() {
    let split = "hosts: [a.example], tcp: [{route: [\
                 {destination: {host: a.example}, weight: 30}, \
                 {destination: {host: b.example, port: {number: 90}}, weight: 70}, \
                 {destination: {host: b.example, port: {number: 90}}, weight: 0}]}]";
    let other = entry(TCP).replace("a.example", "b.example").replace("10.0.0.1", "10.0.0.2");
    let tables = at_vip(TCP).entry("b", &other).service("v", split).tables();
    assert_eq!(path(&tables, "10.0.0.1:90"), "outbound|90||a.example=30 outbound|90||b.example=70");
    let lost = split.replace("host: b.example", "host: c.example");
    let tables = at_vip(TCP).service("v", &lost).tables();
    assert_eq!(path(&tables, "10.0.0.1:90"), "no-cluster");
    let own = |number: u32| format!("{{destination: {{host: a.example}}, weight: {number}}}");
    let nine: Vec<_> = (1..=9).map(own).collect();
    let many = format!("hosts: [a.example], tcp: [{{route: [{}]}}]", nine.join(", "));
    assert_eq!(path(&at_vip(TCP).service("v", &many).tables(), "10.0.0.1:90"), "many-clusters");
    let idle = "host: b.example, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 5s}}}";
    let tables = at_vip(TCP).entry("b", &other).service("v", split).rule("r", idle).tables();
    assert_eq!(path(&tables, "10.0.0.1:90"), "mixed-timeouts");
}

#[test]
fn what_the_bytes_decide_is_the_proxys() {
    for protocol in ["HTTP", "HTTP2", "GRPC"] {
        let tables = at_vip(&format!("protocol: {protocol}")).tables();
        assert_eq!(path(&tables, "10.0.0.1:90"), "http", "{protocol}");
    }
    let unset = entry("protocol: ''").replace(", protocol: ''", "");
    assert_eq!(path(&direct().entry("a", &unset).tables(), "10.0.0.1:90"), "http");
    let anywhere = entry("protocol: TLS").replace("addresses: [10.0.0.1], ", "");
    assert_eq!(path(&direct().entry("a", &anywhere).tables(), "203.0.113.1:90"), "server-name");
    let rule = "hosts: [a.example], tls: [{match: [{sniHosts: [a.example]}], \
                route: [{destination: {host: a.example}}]}]";
    let tables = at_vip("protocol: TLS").service("v", rule).tables();
    assert_eq!(path(&tables, "10.0.0.1:90"), "server-name");
    let strict = Options { path: PathMode::Direct, strict: true, ..Options::default() };
    let tables = at_vip("protocol: TLS").options(strict).tables();
    assert_eq!(path(&tables, "10.0.0.1:90"), "strict");
    let asked = "hosts: ['*.example'], resolution: DYNAMIC_DNS, \
                 ports: [{number: 90, name: p, protocol: TLS}]";
    assert_eq!(path(&direct().entry("a", asked).tables(), "203.0.113.1:90"), "server-name");
}

#[test]
fn what_is_done_for_endpoints_is_the_proxys() {
    let with = |policy: &str| {
        let rule = format!("host: a.example, trafficPolicy: {policy}");
        path(&at_vip(TCP).rule("r", &rule).tables(), "10.0.0.1:90")
    };
    assert_eq!(with("{tls: {mode: SIMPLE}}"), "tls");
    assert_eq!(with("{proxyProtocol: {version: V2}}"), "proxy-protocol");
    assert_eq!(with("{tunnel: {targetHost: t.example, targetPort: 1}}"), "tunnel");
    assert_eq!(with("{loadBalancer: {simple: PASSTHROUGH}}"), "same-destination");
    assert_eq!(with("{loadBalancer: {simple: RANDOM}}"), OWN);
    let unix = entry(TCP).replace("address: 192.0.2.1", "address: 'unix:///run/x'");
    assert_eq!(path(&direct().entry("a", &unix).tables(), "10.0.0.1:90"), "unix-socket");
    let mesh = entry(TCP)
        .replace("resolution", "location: MESH_INTERNAL, resolution")
        .replace("192.0.2.1", "192.0.2.1, labels: {security.istio.io/tlsMode: istio}");
    assert_eq!(path(&direct().entry("a", &mesh).tables(), "10.0.0.1:90"), "mesh-tls");
}

#[test]
fn the_destination_itself_is_the_proxys() {
    let none = "hosts: [a.example], addresses: [10.0.0.0/24], resolution: NONE, \
                ports: [{number: 90, name: p, protocol: TCP}]";
    assert_eq!(path(&direct().entry("a", none).tables(), "10.0.0.7:90"), "same-destination");
    let other = none.replace("TCP", "TCP, targetPort: 91");
    let strict = Options { path: PathMode::Direct, strict: true, ..Options::default() };
    let tables = direct().options(strict).entry("a", &other).tables();
    assert_eq!(path(&tables, "10.0.0.7:90"), "strict");
    assert_eq!(path(&tables, "203.0.113.1:5"), "policy");
}

#[test]
fn who_says_what() {
    let said = |node: PathMode, annotation: &str| {
        World::default()
            .options(Options { path: node, ..Options::default() })
            .annotated("ServiceEntry", "a", annotation, &format!("{{{}}}", entry(TCP)))
            .tables()
    };
    let own = |mode: &str| format!("{{egressd.io/path: {mode}}}");
    assert_eq!(path(&said(PathMode::Proxy, "{}"), "10.0.0.1:90"), "configuration");
    assert_eq!(path(&said(PathMode::Direct, &own("proxy")), "10.0.0.1:90"), "annotation");
    assert_eq!(path(&said(PathMode::Proxy, &own("direct")), "10.0.0.1:90"), OWN);
    assert_eq!(path(&said(PathMode::Proxy, &own("nonsense")), "10.0.0.1:90"), "configuration");
}

#[test]
fn datagrams_have_rows_of_their_own() {
    let ports =
        "ports: [{number: 90, name: u, protocol: UDP}, {number: 91, name: t, protocol: TCP}]";
    let entry = format!(
        "hosts: [a.example], addresses: [10.0.0.1, 10.1.0.0/16], resolution: STATIC, {ports}, \
         endpoints: [{{address: 192.0.2.1}}]"
    );
    let tables = direct().entry("a", &entry).tables();
    let rows = tables.kernel_rows();
    let to = |at: &str| {
        let row = rows.udp.find(at.parse().unwrap())?;
        Some(rows.route(&row).unwrap().clusters[0].0.to_string())
    };
    assert_eq!(to("10.0.0.1:90").as_deref(), Some("outbound|90||a.example"));
    assert_eq!(to("10.1.2.3:90").as_deref(), Some("outbound|90||a.example"));
    assert_eq!((to("10.0.0.1:91"), to("10.2.0.1:90")), (None, None));
    // The same port over TCP is nobody's.
    assert_eq!(path(&tables, "10.0.0.1:90"), "policy");
    assert!(tables.cluster("outbound|90||a.example").is_some());
    let options = Options { path: PathMode::Proxy, ..Options::default() };
    let tables = World::default().options(options).entry("a", &entry).tables();
    assert!(tables.kernel_rows().udp.exact.is_empty());
    assert!(tables.cluster("outbound|90||a.example").is_none());
    let nowhere = entry.replace("addresses: [10.0.0.1, 10.1.0.0/16], ", "");
    let tables = direct().entry("a", &nowhere).tables();
    let service = &tables.services()[0];
    let taken = tables.paths_taken().of_port(service, service.port(90).unwrap());
    assert_eq!(taken, Path::LeftAlone(NotDirect::NoAddress));
}

#[test]
fn rows_and_decisions_agree() {
    let blocks = "hosts: [a.example], tcp: [{match: [{destinationSubnets: [10.1.1.0/24]}], \
                  route: [{destination: {host: b.example}}]}]";
    let entry = |host: &str, address: &str, protocol: &str| {
        format!(
            "hosts: [{host}], addresses: [{address}], resolution: STATIC, \
             ports: [{{number: 90, name: p, protocol: {protocol}}}], \
             endpoints: [{{address: 192.0.2.1}}]"
        )
    };
    let tables = direct()
        .entry("a", &entry("a.example", "10.1.0.0/16", "TCP"))
        .entry("b", &entry("b.example", "10.1.2.3", "TCP"))
        .entry("c", &entry("c.example", "10.1.3.0/24", "TCP"))
        .service("v", blocks)
        .tables();
    let mut direct = 0;
    for to in ["10.1.1.9:90", "10.1.2.3:90", "10.1.2.4:90", "10.1.3.1:90", "10.2.0.0:90"] {
        let destination = to.parse().unwrap();
        let decision = tables.decide(&Flow { destination, sniffed: Sniffed::Nothing });
        let Action::Tcp(route) = decision.action else { panic!("{to}") };
        let names: Vec<_> = route.cluster_names().cloned().collect();
        if let Path::Direct(route) = tables.path(destination) {
            let known: Vec<_> = route.clusters.iter().map(|(name, _)| name.clone()).collect();
            assert_eq!(known, names, "{to}");
            direct += 1;
        }
    }
    assert_eq!(direct, 4);
}

#[test]
fn clusters_say_their_path() {
    let rule = "host: a.example, subsets: [{name: s, labels: {a: b}}]";
    let labelled = entry(TCP).replace("192.0.2.1", "192.0.2.1, labels: {a: b}");
    let tables = direct().entry("a", &labelled).rule("r", rule).tables();
    let taken = tables.paths_taken();
    let of = |name: &str| match taken.of_cluster(tables.cluster(name).unwrap()) {
        Path::Direct(_) => "direct",
        Path::Proxied(reason) | Path::LeftAlone(reason) => reason.code(),
    };
    assert_eq!(of("outbound|90||a.example"), "direct");
    assert_eq!(of("outbound|90|s|a.example"), "no-route");
    assert_eq!(of("PassthroughCluster"), "policy");
}
