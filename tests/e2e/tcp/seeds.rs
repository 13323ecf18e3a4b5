//! The seeds' services that nobody reads, as they are written (seeds.md 1–5, 16–18, 22, 24).

use egressd_tests::{
    Authority, Behaviour, Daemon, Database, Nginx, Node, Servers, WORLD_V4, until,
};

use crate::{
    clients::{dial, said},
    http::world::{World, lead_to_world},
};

macro_rules! seed {
    ($name:literal) => {
        include_str!(concat!("../../data/seeds/", $name, "/resources.yaml"))
    };
}

const NO_VIPS: &str = "dns: {allocateVips: false, capture: all, upstreams: [10.77.0.2]}";

/// nginx with TLS that tells its own name and the one asked for.
fn secure(world: &World, ca: &Authority, name: &str, address: &str) -> Nginx {
    let issued = ca.issue(name, "DNS:any.example").for_nginx();
    let server = format!("{issued} return 200 '{name} $ssl_server_name';");
    Nginx::tls(&world.node.world, address, 443, &server)
}

/// What `https://HOST/` says; the address is the one dialled, or what the host resolves to.
#[track_caller]
fn get(node: &Node, host: &str, address: Option<&str>) -> String {
    let spawn = node.curl(&format!("https://{host}/")).arg("--ipv4").arg("--insecure");
    let at = address.map(|address| format!("{host}:443:{address}"));
    let done = at.iter().fold(spawn, |spawn, at| spawn.arg("--resolve").arg(at)).run();
    if done.code() == 0 { done.stdout } else { format!("curl {}", done.code()) }
}

fn clusters(daemon: &Daemon, count: usize) -> Vec<String> {
    daemon.wait_records(count).into_iter().map(|record| record.upstream_cluster).collect()
}

#[test]
fn three_hosts_by_name_without_addresses_and_by_address_with_them() {
    let hosts = [
        ("api.dropboxapi.com", "203.0.113.1"),
        ("www.googleapis.com", "203.0.113.2"),
        ("api.facebook.com", "203.0.113.3"),
    ];
    let (world, ca) = (World::new(&hosts), Authority::new());
    let _servers = hosts.map(|(host, address)| secure(&world, &ca, host, address));
    let wanted: Vec<_> = hosts.iter().map(|(host, _)| format!("outbound|443||{host}")).collect();
    for allocate in [false, true] {
        let builder = if allocate { world.daemon() } else { world.node.daemon().config(NO_VIPS) };
        let daemon = builder.resource(seed!("001-external-svc-https")).start();
        for (at, (host, address)) in hosts.into_iter().enumerate() {
            assert_eq!(get(&world.node, host, None), format!("{host} {host}"), "{}", daemon.log());
            let record = daemon.wait_records(at + 1).remove(at);
            let real = record.downstream_local.starts_with(address);
            assert_eq!(real, !allocate, "{}", record.line);
        }
        assert_eq!(clusters(&daemon, 3), wanted);
        daemon.stop();
    }
}

/// 002, and 003 on top of it.
#[test]
fn a_block_of_addresses_leads_to_the_mongo_cluster() {
    let node = Node::new();
    let endpoints = ["2.2.2.2", "3.3.3.3"];
    for address in endpoints.iter().chain(&["192.192.193.1"]) {
        lead_to_world(&node, address);
    }
    let at = |address: &&str| (format!("{address}:27018"), Behaviour::named(*address));
    let servers = Servers::tcp(&node.world, endpoints.iter().map(at));
    let daemon = node.daemon().resource(seed!("002-external-svc-mongocluster")).start();
    let mut met = std::collections::BTreeSet::new();
    for last in 1..=20 {
        let printed = dial(&node, &format!("192.192.192.{last}"), 27018, &[]).run().text();
        met.insert(said(&printed, "first").to_owned());
    }
    assert_eq!(met.into_iter().collect::<Vec<_>>(), endpoints);
    // Outside the block, or on another port, it is nobody's: left alone, and nobody is there.
    let printed = dial(&node, "192.192.193.1", 27018, &[]).run().text();
    assert_eq!(said(&printed, "error"), "ECONNREFUSED");
    assert_eq!(daemon.wait_records(20).len(), 20);
    daemon.stop();
    drop(servers);

    let (ca, certs) = (Authority::new(), tempfile::tempdir().unwrap());
    let roots = ca.roots().display().to_string();
    let issued = ca.issue("mongo", "DNS:mongo.example").for_nginx();
    let demands = format!("ssl_client_certificate {roots}; ssl_verify_client on;");
    let told = format!("{issued} {demands} return 200 '[$ssl_server_name] $ssl_client_s_dn';");
    let _servers = endpoints.map(|address| Nginx::tls(&node.world, address, 27018, &told));
    // As it is written, but for the folder: this machine may have no /etc/certs.
    let there = certs.path().display().to_string();
    let rule = seed!("003-mtls-mongocluster").replace("/etc/certs", &there);
    let daemon = node.daemon().resource(rule).start();
    let url = "http://192.192.192.7:27018/";
    assert_ne!(node.curl(url).run().code(), 0);
    let record = daemon.wait_record();
    assert!(record.failure.starts_with("TLS_error:_file_missing:_"), "{}", record.line);
    let client = ca.issue("client", "DNS:client.example");
    let here = |name: &str| certs.path().join(name);
    std::fs::copy(ca.roots(), here("egressd-seed-roots.pem")).unwrap();
    client.put(&here("egressd-seed-client.pem"), &here("egressd-seed-key.pem"));
    // No name is asked for.
    let answer = until("the files to be seen", || {
        let done = node.curl(url).run();
        (done.code() == 0).then_some(done.stdout)
    });
    assert_eq!(answer, "[] CN=client");
}

#[test]
fn wikipedia_goes_where_it_was_dialled_or_to_the_firewall() {
    let (world, ca) = (World::new(&[]), Authority::new());
    let _dialled = secure(&world, &ca, "dialled", WORLD_V4[1]);
    let builder = world.node.daemon().config(NO_VIPS);
    let daemon = builder.resource(seed!("004-external-svc-redirect")).start();
    for host in ["wikipedia.org", "en.wikipedia.org", "a.b.wikipedia.org"] {
        assert_eq!(get(&world.node, host, Some(WORLD_V4[1])), format!("dialled {host}"));
    }
    assert_eq!(get(&world.node, "example.org", Some(WORLD_V4[1])), "dialled example.org");
    let wild = "outbound|443||*.wikipedia.org";
    let wanted = ["outbound|443||wikipedia.org", wild, wild, "PassthroughCluster"];
    assert_eq!(clusters(&daemon, 4), wanted);
    daemon.stop();

    let builder = world.node.daemon().config(NO_VIPS);
    let daemon = builder.resource(seed!("005-tls-routing")).start();
    assert_eq!(get(&world.node, "en.wikipedia.org", Some(WORLD_V4[1])), "curl 35");
    let record = daemon.wait_record();
    assert_eq!(record.flags, "NC", "{}", record.line);
    let firewall = "outbound|443||internal-egress-firewall.ns1.svc.cluster.local";
    assert_eq!(record.upstream_cluster, firewall);
}

#[test]
fn the_applications_own_tls_passes_through() {
    let (host, address) = ("external-api.example.com", "203.0.113.9");
    let (world, ca) = (World::new(&[(host, address)]), Authority::new());
    let _server = secure(&world, &ca, "api", address);
    let daemon = world.daemon().resource(seed!("016-external-service")).start();
    assert_eq!(get(&world.node, host, None), format!("api {host}"));
    // At its real address the name decides.
    assert_eq!(get(&world.node, host, Some(address)), format!("api {host}"));
    assert_eq!(clusters(&daemon, 2), vec![format!("outbound|443||{host}"); 2]);
    let records = daemon.records();
    assert!(records[0].downstream_local.starts_with("240.240."), "{}", records[0].line);
    assert!(records[1].downstream_local.starts_with(address), "{}", records[1].line);
}

#[test]
fn both_ports_of_the_database_reach_their_endpoints_and_wait_for_nothing() {
    let node = Node::new();
    let endpoints = ["192.168.1.100", "192.168.1.101"];
    endpoints.iter().for_each(|address| lead_to_world(&node, address));
    // MariaDB speaks first on one; on the other port, which declares TLS, the application does.
    let _plain = endpoints.map(|address| Database::mariadb(&node.world, address, 3306));
    let ca = Authority::new();
    let issued = ca.issue("db", "DNS:db.example").for_nginx();
    let told = format!("{issued} return 200 '$server_addr';");
    let _secure = endpoints.map(|address| Nginx::tls(&node.world, address, 3307, &told));
    let daemon = node.daemon().resource(seed!("017-external-database-without-selector")).start();
    for _ in 0..4 {
        let words = ["mariadb", "--no-defaults", "--host=240.0.0.1", "--user=app"];
        let client = node.app(words).arg("--password=secret").arg("--skip-column-names");
        assert_eq!(client.arg("--execute=SELECT 6 * 7").run().text(), "42");
        let address = node.curl("https://240.0.0.1:3307/").arg("--insecure").run().text();
        assert!(endpoints.contains(&address.as_str()), "{address}");
    }
    let records = daemon.wait_records(8);
    let mysql = "outbound|3306||mysql.database.example";
    let of_mysql: Vec<_> = records.iter().filter(|one| one.upstream_cluster == mysql).collect();
    assert_eq!(of_mysql.len(), 4);
    assert!(of_mysql.iter().all(|record| record.duration < 3_000), "{of_mysql:#?}");
}

#[test]
fn four_protocols_of_one_host() {
    let (host, address) = ("api.multi.example", "203.0.113.20");
    let (world, ca) = (World::new(&[(host, address)]), Authority::new());
    let node = &world.node;
    let _web = world.named("web", address, 80);
    let _secure = secure(&world, &ca, "secure", address);
    let _grpc =
        Nginx::listening(&node.world, address, 9090, "http2", "return 200 '$server_protocol';");
    let _redis = Database::redis(&node.world, address, 6379, &[]);
    let daemon = world.daemon().resource(seed!("018-external-api-multi-protocol")).start();
    assert_eq!(
        world.get(&format!("http://{host}/x"), &[]).told(),
        (200, "web api.multi.example /x")
    );
    assert_eq!(get(node, host, None), format!("secure {host}"));
    let h2 = node.curl(&format!("http://{host}:9090/")).arg("--ipv4");
    assert_eq!(h2.arg("--http2-prior-knowledge").run().text(), "HTTP/2.0");
    let redis = node.app(["redis-cli", "-h", host, "-p", "6379", "PING"]).run().text();
    assert_eq!(redis, "PONG");
    let ports: std::collections::BTreeSet<_> = clusters(&daemon, 4).into_iter().collect();
    let wanted = [443, 6379, 80, 9090].map(|port| format!("outbound|{port}||{host}"));
    assert_eq!(ports, wanted.into_iter().collect());
}

/// Ten connections are held while an eleventh is tried.
const ELEVEN: &str = "
import socket
held = [socket.create_connection(('postgres.database.example', 5432), timeout=15)
        for _ in range(10)]
for sock in held:
    sock.sendall(bytes.fromhex('0000000804d2162f'))
    assert sock.recv(1) == b'N'
family, _, _, _, address = socket.getaddrinfo('postgres.database.example', 5432)[0]
one_more = socket.socket(family)
one_more.settimeout(15)
try:
    # One address, where create_connection would go on to the next.
    one_more.connect(address)
    print('ended' if not one_more.recv(1) else 'open')
except ConnectionResetError:
    print('reset')
";

#[test]
fn the_eleventh_connection_to_postgresql_is_closed() {
    let (host, address) = ("postgres.database.example", "203.0.113.30");
    let world = World::new(&[(host, address)]);
    let _server = Database::postgres(&world.node.world, address, 5432);
    let daemon = world.daemon().resource(seed!("022-external-postgres")).start();
    let psql = world.node.app(["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname"]);
    let psql = psql.arg(format!("host={host} user=postgres dbname=postgres"));
    assert_eq!(psql.arg("--command").arg("SELECT 6 * 7").run().text(), "42");
    // Until it is recorded it counts as one of the ten.
    daemon.wait_record();
    assert_eq!(world.node.python(ELEVEN).run().text(), "reset");
    let records = daemon.wait_records(12);
    let over: Vec<_> = records.iter().filter(|record| record.flags == "UO").collect();
    assert_eq!(over.len(), 1, "{records:#?}");
}

#[test]
fn the_remote_cluster_fails_closed_without_an_identity() {
    let node = Node::new();
    lead_to_world(&node, "10.1.1.100");
    let server = Servers::one(&node.world, "10.1.1.100:8080", Behaviour::Page("plain".to_owned()));
    let daemon = node.daemon().resource(seed!("024-remote-cluster-service")).start();
    let spawn = node.curl("http://service.remote.global:8080/").arg("--output").arg("/dev/null");
    let spawn = spawn.arg("--resolve").arg("service.remote.global:8080:10.77.0.2");
    assert_eq!(spawn.arg("--write-out").arg("%{http_code}").run().stdout, "503");
    let record = daemon.wait_record();
    assert!(record.flags.starts_with("UF"), "{}", record.line);
    assert_eq!(record.failure, "TLS_error:_no_mesh_identity", "{}", record.line);
    assert_eq!(server.accepted(), 0);
}
