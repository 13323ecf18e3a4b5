//! Databases with their own clients, and TLS from end to end, with nothing in between.

use egressd_tests::{Authority, Daemon, Database, Nginx, Node, WORLD_V4, WORLD_V6};

use super::world::{VIP, VIP_V6, proxied};
use crate::services::{rule, tcp};

fn at(port: u16) -> String {
    format!("{}:{port}", WORLD_V4[0])
}

fn direct(node: &Node, service: String, policy: &str) -> Daemon {
    let daemon = node.daemon().config("path: direct").resource(service);
    daemon.resource(rule("db", policy)).start()
}

const POOL: &str = "connectionPool: {tcp: {maxConnections: 10, connectTimeout: 5s, \
                    tcpKeepalive: {time: 600s, interval: 60s}}}, \
                    outlierDetection: {consecutive5xxErrors: 3}";

#[test]
fn postgresql() {
    let node = Node::new();
    let _server = Database::postgres(&node.world, WORLD_V4[0], 15432);
    let daemon = direct(&node, tcp("db", &[VIP], 5432, &[&at(15432)]), POOL);
    let psql = |command: &str| {
        let words = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname"];
        let spawn = node.app(words).arg("host=192.0.2.10 user=postgres dbname=postgres");
        spawn.arg("--command").arg(command).run().text()
    };
    assert_eq!(psql("SELECT 6 * 7"), "42");
    let much = psql("SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
    assert_eq!(much.lines().filter(|line| line.len() == 1000).count(), 5000);
    let records = daemon.wait_records(2);
    assert!(records.iter().all(|record| record.flags == "-"), "{records:#?}");
    assert_eq!(records[0].upstream_cluster, "outbound|5432||db.example");
    assert!(records[1].bytes_sent > 5_000_000, "{}", records[1].line);
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
}

#[test]
fn mariadb_speaks_first() {
    let node = Node::new();
    let _server = Database::mariadb(&node.world, WORLD_V4[0], 13306);
    let service = tcp("db", &[VIP], 3306, &[&at(13306)]).replace("TCP", "MYSQL");
    let daemon = direct(&node, service, POOL);
    let words = ["mariadb", "--no-defaults", "--host=192.0.2.10", "--user=app"];
    let client = node.app(words).arg("--password=secret").arg("--skip-column-names");
    assert_eq!(client.arg("--execute=SELECT 6 * 7").run().text(), "42");
    assert_eq!(daemon.wait_record().upstream_cluster, "outbound|3306||db.example");
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
}

#[test]
fn redis_over_both_families() {
    let node = Node::new();
    for (vip, address, endpoint) in
        [(VIP, WORLD_V4[0], at(16379)), (VIP_V6, WORLD_V6[0], format!("[{}]:16379", WORLD_V6[0]))]
    {
        let _server = Database::redis(&node.world, address, 16379, &[]);
        let service = tcp("db", &[vip], 6379, &[&endpoint]).replace("TCP", "REDIS");
        let daemon = direct(&node, service, POOL);
        let redis = |words: &[&str]| {
            let spawn = node.app(["redis-cli", "-h", vip, "-p", "6379"]);
            words.iter().fold(spawn, |spawn, word| spawn.arg(word)).run().text()
        };
        assert_eq!(redis(&["SET", "key", "value"]), "OK");
        assert_eq!(redis(&["GET", "key"]), "value");
        let records = daemon.wait_records(2);
        assert!(records.iter().all(|record| record.upstream_host == endpoint), "{records:#?}");
        assert_eq!(proxied(&daemon), 0);
        daemon.stop();
    }
}

#[test]
fn curl_speaks_tls_to_the_endpoint() {
    let (node, authority) = (Node::new(), Authority::new());
    let shown = authority.issue("server", "DNS:db.example").for_nginx();
    let told = "location / { return 200 \"$ssl_server_name $server_protocol\\n\"; }";
    let _server = Nginx::tls(&node.world, WORLD_V4[0], 8443, &format!("{shown} {told}"));
    let service = tcp("db", &[VIP], 443, &[&at(8443)]).replace("protocol: TCP", "protocol: HTTPS");
    let daemon = direct(&node, service, POOL);
    let client = node.curl("https://db.example/").arg("--cacert").arg(authority.roots());
    let client = client.arg("--resolve").arg(format!("db.example:443:{VIP}"));
    assert!(client.run().text().starts_with("db.example HTTP/"));
    assert_eq!(daemon.wait_record().upstream_cluster, "outbound|443||db.example");
    assert_eq!(proxied(&daemon), 0);
    daemon.stop();
}
