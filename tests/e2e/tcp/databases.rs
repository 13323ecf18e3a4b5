//! Databases as people run them, spoken to with their own clients through virtual addresses
//! (seeds.md 2, 17, 18, 22).

use egressd_tests::{Authority, Database, Node, WORLD_V4};

use crate::services::{rule, tcp};

const VIP: &str = "192.0.2.10";

fn at(port: u16) -> String {
    format!("{}:{port}", WORLD_V4[0])
}

#[test]
fn postgresql() {
    let node = Node::new();
    let _server = Database::postgres(&node.world, WORLD_V4[0], 15432);
    let pool = rule(
        "db",
        "connectionPool: {tcp: {maxConnections: 10, connectTimeout: 30s, \
         tcpKeepalive: {time: 600s, interval: 60s}}}",
    );
    let service = tcp("db", &[VIP], 5432, &[&at(15432)]);
    let daemon = node.daemon().resource(service).resource(pool).start();
    let psql = |command: &str| {
        let words = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname"];
        let spawn = node.app(words).arg("host=192.0.2.10 user=postgres dbname=postgres");
        spawn.arg("--command").arg(command).run().text()
    };
    assert_eq!(psql("SELECT 6 * 7"), "42");
    assert_eq!(psql("SELECT count(*) FROM generate_series(1, 100000)"), "100000");
    let much = psql("SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
    assert_eq!(much.lines().filter(|line| line.len() == 1000).count(), 5000);
    let records = daemon.wait_records(3);
    assert!(records.iter().all(|record| record.flags == "-"), "{records:#?}");
    assert_eq!(records[0].upstream_cluster, "outbound|5432||db.example");
    assert!(records[2].bytes_sent > 5_000_000, "{}", records[2].line);
}

/// MariaDB speaks first: a port declared as TCP or MYSQL waits for no byte of the application.
#[test]
fn mariadb() {
    let node = Node::new();
    let _server = Database::mariadb(&node.world, WORLD_V4[0], 13306);
    for protocol in ["TCP", "MYSQL"] {
        let service = tcp("db", &[VIP], 3306, &[&at(13306)]).replace("TCP", protocol);
        let daemon = node.daemon().resource(service).start();
        let words = ["mariadb", "--no-defaults", "--host=192.0.2.10", "--user=app"];
        let client = node.app(words).arg("--password=secret").arg("--skip-column-names");
        let text = client.arg("--execute=SELECT 6 * 7; SELECT repeat('x', 100000)").run().text();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("42"));
        assert_eq!(lines.next().map(str::len), Some(100_000));
        let record = daemon.wait_record();
        assert_eq!(record.upstream_cluster, "outbound|3306||db.example");
        assert!(record.duration < 5_000, "{}", record.line);
        daemon.stop();
    }
}

/// On a port without a protocol egressd looks, and no longer than it may.
#[test]
fn mariadb_on_an_undeclared_port() {
    let node = Node::new();
    let _server = Database::mariadb(&node.world, WORLD_V4[0], 13306);
    let service = tcp("db", &[VIP], 3306, &[&at(13306)]).replace(", protocol: TCP", "");
    let service = service.replace("name: tcp", "name: main").replace("{tcp:", "{main:");
    let detection = "meshConfig: {protocolDetectionTimeout: 1s}";
    let daemon = node.daemon().config(detection).resource(service).start();
    let words = ["mariadb", "--no-defaults", "--host=192.0.2.10", "--user=app"];
    let client = node.app(words).arg("--password=secret").arg("--skip-column-names");
    assert_eq!(client.arg("--execute=SELECT 6 * 7").run().text(), "42");
    let record = daemon.wait_record();
    assert_eq!(record.upstream_cluster, "outbound|3306||db.example");
    assert!((1_000..5_000).contains(&record.duration), "{}", record.line);
}

fn redis_cli(node: &Node, words: &[&str]) -> String {
    let spawn = node.app(["redis-cli", "-h", VIP, "-p", "6379"]);
    words.iter().fold(spawn, |spawn, word| spawn.arg(word)).run().text()
}

#[test]
fn redis() {
    let node = Node::new();
    let _server = Database::redis(&node.world, WORLD_V4[0], 16379, &[]);
    let service = tcp("cache", &[VIP], 6379, &[&at(16379)]).replace("TCP", "REDIS");
    let daemon = node.daemon().resource(service).start();
    assert_eq!(redis_cli(&node, &["SET", "key", "value"]), "OK");
    assert_eq!(redis_cli(&node, &["GET", "key"]), "value");
    assert!(daemon.wait_records(2).iter().all(|record| record.flags == "-"));
}

/// redis-cli speaks plaintext; Redis lets nobody in without a certificate.
#[test]
fn redis_behind_mutual_tls() {
    let (node, ca) = (Node::new(), Authority::new());
    let (server, client) = (ca.issue("redis", "DNS:redis.example"), ca.issue("us", "DNS:us"));
    let file = |path: &std::path::Path| path.display().to_string();
    let options = ["--port", "0", "--tls-port", "16380", "--tls-auth-clients", "yes"];
    let mut options: Vec<_> = options.map(str::to_owned).into();
    for (name, path) in [
        ("--tls-cert-file", &server.certificate),
        ("--tls-key-file", &server.key),
        ("--tls-ca-cert-file", &ca.roots()),
    ] {
        options.extend([name.to_owned(), file(path)]);
    }
    let _server = Database::redis(&node.world, WORLD_V4[0], 16380, &options);
    let policy = format!(
        "tls: {{mode: MUTUAL, sni: redis.example, subjectAltNames: [redis.example], \
         caCertificates: {}, clientCertificate: {}, privateKey: {}}}",
        file(&ca.roots()),
        file(&client.certificate),
        file(&client.key)
    );
    let service = tcp("cache", &[VIP], 6379, &[&at(16380)]);
    let daemon = node.daemon().resource(service).resource(rule("cache", &policy)).start();
    assert_eq!(redis_cli(&node, &["SET", "key", "value"]), "OK");
    assert_eq!(redis_cli(&node, &["GET", "key"]), "value");
    assert!(daemon.wait_records(2).iter().all(|record| record.flags == "-"));
}
