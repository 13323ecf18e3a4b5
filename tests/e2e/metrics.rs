//! Metrics, as Prometheus reads them.

use std::collections::BTreeMap;

use egressd_tests::{Behaviour, Daemon, Node, Running, Servers, Spawn, WORLD_V4, until};

use crate::{clients::dial, services};

const VIP: &str = "192.0.2.10";
const DEAD: &str = "192.0.2.20";
const PORT: u16 = 27018;

/// What is read: series with their labels, and their values.
fn read(node: &Node) -> BTreeMap<String, f64> {
    let words = ["curl", "--silent", "--show-error", "--fail", "--max-time", "15"];
    let spawn = Spawn::new(words).netns(&node.netns).arg("http://127.0.0.1:15090/metrics");
    let text = spawn.run().text();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

/// The sum of the series that have this name and all of these labels.
fn sum(series: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let same = series.iter().filter(|(key, _)| {
        key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label))
    });
    same.map(|(_, value)| value).sum()
}

fn start(node: &Node, yaml: &[String]) -> Daemon {
    let builder = node.daemon().config("metricsAddress: 127.0.0.1:15090");
    yaml.iter().fold(builder, |builder, yaml| builder.resource(yaml.as_str())).start()
}

#[test]
fn connections_are_counted_by_cluster() {
    let node = Node::new();
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let dead = format!("{}:9001", WORLD_V4[0]);
    let _server = Servers::one(&node.world, &endpoint, Behaviour::named("server"));
    let limited = format!(
        "{}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: one}}\n\
         spec: {{host: one.example, \
         trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}}}}}\n",
        services::tcp("one", &[VIP], PORT, &[&endpoint])
    );
    let daemon = start(&node, &[limited, services::tcp("dead", &[DEAD], PORT, &[&dead])]);
    let held = held(&node);
    // The second is one too many, the third finds nobody.
    dial(&node, VIP, PORT, &[]).run();
    dial(&node, DEAD, PORT, &[]).run();
    let (one, dead) = ("cluster_name=\"outbound|27018||one.example\"", "||dead.example\"");
    let series = until("both records", || {
        let series = read(&node);
        let failed = sum(&series, "envoy_cluster_upstream_cx_connect_fail", &[dead]) > 0.0;
        let over = sum(&series, "envoy_cluster_upstream_cx_overflow", &[one]) > 0.0;
        (failed && over).then_some(series)
    });
    assert_eq!(sum(&series, "envoy_cluster_upstream_cx_active", &[one]), 1.0);
    assert_eq!(sum(&series, "envoy_cluster_upstream_cx_overflow", &[one]), 1.0);
    assert_eq!(sum(&series, "envoy_cluster_upstream_cx_connect_fail", &[one]), 0.0);
    let service = "destination_service=\"one.example\"";
    let opened = "istio_tcp_connections_opened_total";
    assert_eq!(sum(&series, opened, &[service, "response_flags=\"-\""]), 1.0);
    assert_eq!(sum(&series, opened, &[service, "response_flags=\"UO\""]), 1.0);
    drop(held);
    let series = until("the end of the first", || {
        let series = read(&node);
        let closed = "istio_tcp_connections_closed_total";
        (sum(&series, closed, &[service]) == 2.0).then_some(series)
    });
    assert_eq!(sum(&series, opened, &[service]), 2.0);
    let labels = [service, "reporter=\"source\"", "destination_service_namespace=\"default\""];
    assert!(sum(&series, "istio_tcp_sent_bytes_total", &labels) > 0.0);
    assert!(sum(&series, "egressd_counters_captured", &[]) >= 3.0);
    daemon.stop();
}

/// A connection to the service that stays until it is dropped.
fn held(node: &Node) -> Running {
    let script = "import socket, sys, time\n\
                  held = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n\
                  held.sendall(b'hello\\n')\n\
                  print(held.recv(100).decode(), flush=True)\n\
                  time.sleep(600)\n";
    let mut held = node.python(script).arg(VIP).arg(PORT.to_string()).start();
    held.wait_stdout("what the server says", |line| line.contains("server"));
    held
}

#[test]
fn requests_are_counted_by_status_and_the_command_prints_the_same() {
    let node = Node::new();
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let _server = Servers::one(&node.world, &endpoint, Behaviour::Page("page".to_owned()));
    let yaml =
        services::tcp("one", &[VIP], 80, &[&endpoint]).replace("protocol: TCP", "protocol: HTTP");
    let daemon = start(&node, &[yaml]);
    let url = format!("http://{VIP}/");
    for host in ["Host: one.example", "Host: one.example"] {
        node.curl(&url).arg("--header").arg(host).run().expect_code(0);
    }
    daemon.wait_records(2);
    let series = read(&node);
    let ok = [
        "destination_service=\"one.example\"",
        "response_code=\"200\"",
        "request_protocol=\"http\"",
    ];
    assert_eq!(sum(&series, "istio_requests_total", &ok), 2.0);
    assert_eq!(sum(&series, "istio_request_duration_milliseconds_count", &ok), 2.0);
    let all = [&ok[..], &["le=\"+Inf\""]].concat();
    assert_eq!(sum(&series, "istio_request_duration_milliseconds_bucket", &all), 2.0);
    let class = ["||one.example\"", "envoy_response_code_class=\"2\""];
    assert_eq!(sum(&series, "envoy_cluster_upstream_rq_xx", &class), 2.0);
    let socket = daemon.folder().join("admin.sock");
    let printed = Spawn::new([egressd_tests::egressd()]).arg("metrics").arg("--admin").arg(&socket);
    assert!(printed.run().text().contains("istio_requests_total{reporter=\"source\""));
    let unix = ["curl", "--silent", "--fail", "http://egressd/metrics", "--unix-socket"];
    assert!(Spawn::new(unix).arg(&socket).run().text().contains("# TYPE istio_requests_total"));
    daemon.stop();
}
