//! Doors open and shut as resources say, and nothing else notices.

use std::fs;

use egressd_tests::{Behaviour, Daemon, Servers, until};

use super::world::{GATEWAY, Hops, entry, gateway, last, rule};

const HOST: &str = "a.example";

fn server(port: u16) -> String {
    format!("{{port: {{number: {port}, name: http-{port}, protocol: HTTP}}, hosts: [a.example]}}")
}

fn put(daemon: &Daemon, name: &str, yaml: &str) {
    let new = daemon.folder().join("new");
    fs::write(&new, yaml).unwrap();
    fs::rename(&new, daemon.folder().join("resources").join(name)).unwrap();
}

/// The status of a request, 0 where nobody listens.
fn status(hops: &Hops, port: u16) -> String {
    let url = format!("http://{GATEWAY}:{port}/x");
    let finished = hops.curl(&["--header", "Host: a.example", &url]);
    let said = finished.stdout.trim_end();
    said[said.len() - 3..].to_owned()
}

#[test]
fn they_follow_the_resources() {
    let hops = Hops::new(&[HOST]);
    let _server = hops.server(80);
    let daemon = hops
        .gateway()
        .resource(gateway(&server(80)))
        .resource(entry("a", HOST, "{number: 80, name: http, protocol: HTTP}"))
        .resource(rule("a", HOST, "http: [{route: [{destination: {host: a.example}}]}]"))
        .start();
    assert_eq!((status(&hops, 80).as_str(), status(&hops, 8080).as_str()), ("200", "000"));
    // A connection that stands is not touched when its door is shut.
    let mut kept = hops.stranger(&["/usr/bin/python3", "-u", "-c", KEPT, GATEWAY]).start();
    kept.wait_stdout("the first answer", |line| line.contains("first 200"));
    put(&daemon, "0.yaml", &gateway(&server(8080)));
    until("the other door", || (status(&hops, 8080) == "200").then_some(()));
    assert_eq!(status(&hops, 80), "000");
    kept.signal(egressd_tests::Signal::SIGUSR1);
    kept.wait_stdout("the second answer", |line| line.contains("second 200"));
    drop(kept);
    daemon.stop();
}

/// Two requests on one connection, the second when it is told to.
const KEPT: &str = r#"
import http.client, signal, sys
connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=15)
def ask(name):
    connection.request("GET", "/x", headers={"Host": "a.example"})
    answer = connection.getresponse()
    answer.read()
    print(name, answer.status)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
ask("first")
connection.connect = None
signal.sigwait({signal.SIGUSR1})
ask("second")
"#;

#[test]
fn a_taken_port_is_one_error() {
    let hops = Hops::new(&[HOST]);
    let _server = hops.server(80);
    let taken = Servers::one(&hops.node.world, &format!("{GATEWAY}:80"), Behaviour::Close);
    let mut daemon = hops
        .gateway()
        .resource(gateway(&format!("{}, {}", server(80), server(8080))))
        .resource(entry("a", HOST, "{number: 80, name: http, protocol: HTTP}"))
        .resource(rule("a", HOST, "http: [{route: [{destination: {host: a.example}}]}]"))
        .start();
    assert_eq!(status(&hops, 8080), "200");
    let log = daemon.log();
    assert!(log.contains("Address already in use"), "{log}");
    assert!(log.contains("Gateway istio-system/edge"), "{log}");
    drop(taken);
    daemon.wait_log("that the port is open", |line| {
        line.contains("door=*:80 ") && line.contains("open")
    });
    assert_eq!(status(&hops, 80), "200");
    let errors = daemon.log().matches("cannot listen").count();
    assert_eq!(errors, 1, "{}", daemon.log());
    last(&daemon, 2);
    daemon.stop();
}

#[test]
fn a_rule_that_leads_back_to_the_gateway_is_refused() {
    let hops = Hops::new(&[]);
    let daemon = hops
        .gateway()
        .resource(gateway(&server(80)))
        .resource(format!(
            "apiVersion: networking.istio.io/v1\n\
             kind: ServiceEntry\n\
             metadata: {{name: a, namespace: istio-system}}\n\
             spec:\n  hosts: [a.example]\n  resolution: STATIC\n\
             \x20 ports: [{{number: 80, name: http, protocol: HTTP}}]\n\
             \x20 endpoints: [{{address: {GATEWAY}}}]\n"
        ))
        .resource(rule(
            "a",
            HOST,
            "http: [{retries: {attempts: 0}, route: [{destination: {host: a.example}}]}]",
        ))
        .start();
    assert_eq!(status(&hops, 80), "503");
    let records = until("the loop's record", || {
        let records = daemon.records();
        records.iter().any(|one| one.code == "503").then_some(records)
    });
    let refused = records.iter().find(|one| one.code == "503").unwrap();
    assert!(refused.line.contains("upstream_leads_back_to_egressd"), "{}", refused.line);
    daemon.stop();
}

#[test]
fn a_server_at_a_unix_socket() {
    let hops = Hops::new(&[HOST]);
    let _server = hops.server(80);
    let builder = hops.gateway();
    let path = builder.folder().join("door");
    let path = path.to_str().unwrap().to_owned();
    let server = |bind: &str| {
        format!(
            "{{port: {{number: 0, name: http, protocol: HTTP}}, bind: 'unix://{bind}', \
               hosts: [a.example]}}"
        )
    };
    let daemon = builder
        .resource(gateway(&server(&path)))
        .resource(entry("a", HOST, "{number: 80, name: http, protocol: HTTP}"))
        .resource(rule("a", HOST, "http: [{route: [{destination: {host: a.example}}]}]"))
        .start();
    let ask = |arguments: &[&str]| {
        let finished = hops.curl(&[arguments, &["http://a.example/x"]].concat());
        finished.stdout
    };
    assert_eq!(ask(&["--unix-socket", &path]), "outside a.example /x\n200\n");
    let record = last(&daemon, 1);
    assert_eq!(record.upstream_cluster, "outbound|80||a.example");
    assert_eq!(record.downstream_local, "127.0.0.1:0");
    // It moves to a name without a file, and takes its file with it.
    put(&daemon, "0.yaml", &gateway(&server("@egressd-e2e-door")));
    // Such names are those of a network namespace.
    let words = ["curl", "--silent", "--max-time", "15", "--noproxy", "", "http://a.example/x"];
    let other = || {
        let spawn = egressd_tests::Spawn::new(words).netns(&hops.node.world);
        spawn.arg("--abstract-unix-socket").arg("egressd-e2e-door").run().stdout
    };
    until("the other door", || (other() == "outside a.example /x\n").then_some(()));
    assert!(!std::path::Path::new(&path).exists());
    daemon.stop();
}
