//! Prometheus' text format, with Istio's labels.

use std::{
    collections::HashMap,
    fmt::{Display, Write as _},
    sync::Arc,
};

use egressd_proxy::ResponseFlags;
use egressd_tables::{ClusterKind, Node, Tables};
use serde_json::Value;

use super::numbers::{ClusterNumbers, Histogram, Numbers};

type Clusters<'a> = [(&'a Arc<str>, &'a Arc<Numbers>)];

/// A text in the making.
pub(super) struct Exposition<'a> {
    source: &'a str,
    tables: Option<&'a Tables>,
    out: String,
}

/// Who we are, as labels. What only Kubernetes knows is `unknown`.
pub(super) fn source(node: &Node) -> String {
    let label = |key: &str| node.labels.get(key).map(String::as_str);
    let app = label("app").unwrap_or(UNKNOWN);
    let version = label("version").unwrap_or(UNKNOWN);
    let service = label("service.istio.io/canonical-name").unwrap_or(app);
    let revision = label("service.istio.io/canonical-revision").or(label("version"));
    labels(&[
        ("reporter", "source"),
        ("source_workload", UNKNOWN),
        ("source_workload_namespace", &node.namespace),
        ("source_principal", UNKNOWN),
        ("source_app", app),
        ("source_version", version),
        ("source_cluster", UNKNOWN),
        ("source_canonical_service", service),
        ("source_canonical_revision", revision.unwrap_or("latest")),
    ])
}

const UNKNOWN: &str = "unknown";

/// One of Envoy's counters.
type ClusterCounter = (&'static str, fn(&ClusterNumbers) -> u64);

const OF_CLUSTERS: [ClusterCounter; 9] = [
    ("upstream_cx_total", |numbers| numbers.connections.get()),
    ("upstream_cx_connect_fail", |numbers| numbers.connect_fail.get()),
    ("upstream_cx_connect_timeout", |numbers| numbers.connect_timeout.get()),
    ("upstream_cx_overflow", |numbers| numbers.overflow.get()),
    ("upstream_cx_tx_bytes_total", |numbers| numbers.sent.get()),
    ("upstream_cx_rx_bytes_total", |numbers| numbers.received.get()),
    ("upstream_rq_pending_overflow", |numbers| numbers.pending_overflow.get()),
    ("upstream_rq_timeout", |numbers| numbers.timeout.get()),
    ("upstream_rq_retry_limit_exceeded", |numbers| numbers.retry_limit_exceeded.get()),
];

impl<'a> Exposition<'a> {
    pub(super) fn new(source: &'a str, tables: Option<&'a Tables>) -> Self {
        Self { source, tables, out: String::new() }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    /// Envoy's numbers.
    pub(super) fn clusters(&mut self, clusters: &Clusters<'_>, active: &HashMap<Arc<str>, u32>) {
        for (name, read) in OF_CLUSTERS {
            let name = format!("envoy_cluster_{name}");
            self.kind(&name, "counter");
            for (cluster, numbers) in clusters {
                self.line(&name, &cluster_name(cluster), read(&numbers.cluster));
            }
        }
        self.kind("envoy_cluster_upstream_rq_total", "counter");
        for (cluster, numbers) in clusters {
            let total: u64 = numbers.requests().iter().map(|(_, one)| one.duration.count).sum();
            self.line("envoy_cluster_upstream_rq_total", &cluster_name(cluster), total);
        }
        self.kind("envoy_cluster_upstream_rq_xx", "counter");
        for (cluster, numbers) in clusters {
            for class in 1..=5 {
                let requests = numbers.requests();
                let same = requests.iter().filter(|(key, _)| key.status / 100 == class);
                let count: u64 = same.map(|(_, one)| one.duration.count).sum();
                let class = [("envoy_response_code_class", &*class.to_string())];
                let labels = format!("{},{}", labels(&class), cluster_name(cluster));
                self.line("envoy_cluster_upstream_rq_xx", &labels, count);
            }
        }
        self.kind("envoy_cluster_upstream_cx_active", "gauge");
        let mut active: Vec<_> = active.iter().collect();
        active.sort_unstable();
        for (cluster, count) in active {
            self.line("envoy_cluster_upstream_cx_active", &cluster_name(cluster), count);
        }
    }

    /// Istio's numbers.
    pub(super) fn flows(&mut self, clusters: &Clusters<'_>, active: &HashMap<Arc<str>, u32>) {
        let requests: Vec<_> = clusters
            .iter()
            .flat_map(|(cluster, numbers)| {
                numbers.requests().into_iter().map(|(key, requests)| {
                    let grpc = key.grpc_status.map(|status| status.to_string());
                    let what = labels(&[
                        ("request_protocol", if grpc.is_some() { "grpc" } else { "http" }),
                        ("response_code", &key.status.to_string()),
                        ("grpc_response_status", grpc.as_deref().unwrap_or("")),
                        ("response_flags", &key.flags.to_string()),
                        ("connection_security_policy", UNKNOWN),
                    ]);
                    (format!("{},{},{what}", self.source, self.destination(cluster)), requests)
                })
            })
            .collect();
        self.kind("istio_requests_total", "counter");
        for (labels, requests) in &requests {
            self.line("istio_requests_total", labels, requests.duration.count);
        }
        self.kind("istio_request_duration_milliseconds", "histogram");
        for (labels, requests) in &requests {
            self.histogram("istio_request_duration_milliseconds", labels, &requests.duration);
        }
        self.kind("istio_request_bytes", "histogram");
        for (labels, requests) in &requests {
            self.histogram("istio_request_bytes", labels, &requests.request_bytes);
        }
        self.kind("istio_response_bytes", "histogram");
        for (labels, requests) in &requests {
            self.histogram("istio_response_bytes", labels, &requests.response_bytes);
        }
        self.connections(clusters, active);
    }

    fn connections(&mut self, clusters: &Clusters<'_>, active: &HashMap<Arc<str>, u32>) {
        let mut opened = Vec::new();
        let mut ended = Vec::new();
        for (cluster, numbers) in clusters {
            let of = |flags: &str| {
                let what = labels(&[
                    ("request_protocol", "tcp"),
                    ("response_flags", flags),
                    ("connection_security_policy", UNKNOWN),
                ]);
                format!("{},{},{what}", self.source, self.destination(cluster))
            };
            let connections = numbers.connections();
            // Flags are known at the end; until then there are none.
            let under_way = u64::from(active.get(&**cluster).copied().unwrap_or(0));
            let none = connections.iter().find(|(flags, _)| *flags == ResponseFlags::NONE);
            let none = none.map_or(0, |(_, same)| same.closed) + under_way;
            if none > 0 {
                opened.push((of("-"), none));
            }
            for (flags, same) in connections {
                let labels = of(&flags.to_string());
                if flags != ResponseFlags::NONE {
                    opened.push((labels.clone(), same.closed));
                }
                ended.push((labels, same));
            }
        }
        self.kind("istio_tcp_connections_opened_total", "counter");
        for (labels, count) in &opened {
            self.line("istio_tcp_connections_opened_total", labels, count);
        }
        self.kind("istio_tcp_connections_closed_total", "counter");
        for (labels, same) in &ended {
            self.line("istio_tcp_connections_closed_total", labels, same.closed);
        }
        self.kind("istio_tcp_sent_bytes_total", "counter");
        for (labels, same) in &ended {
            self.line("istio_tcp_sent_bytes_total", labels, same.sent);
        }
        self.kind("istio_tcp_received_bytes_total", "counter");
        for (labels, same) in &ended {
            self.line("istio_tcp_received_bytes_total", labels, same.received);
        }
    }

    /// The daemon's own numbers, as `egressd status` has them: `egressd_counters_captured`.
    pub(super) fn daemon(&mut self, status: &Value) {
        self.numbers("egressd", status);
    }

    fn numbers(&mut self, name: &str, value: &Value) {
        match value {
            Value::Number(number) => {
                self.kind(name, "untyped");
                self.line(name, "", number);
            }
            Value::Object(fields) => {
                for (key, value) in fields {
                    let key: String = key.chars().map(plain).collect();
                    self.numbers(&format!("{name}_{key}"), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
        }
    }

    /// Whom a cluster stands for, as labels.
    fn destination(&self, cluster: &str) -> String {
        let service = self.tables.and_then(|tables| tables.cluster(cluster));
        let service = service.and_then(|cluster| match &cluster.kind {
            ClusterKind::Service(service) => Some(service),
            ClusterKind::Passthrough | ClusterKind::BlackHole | ClusterKind::DynamicDns => None,
        });
        let host = cluster.strip_prefix("outbound|").and_then(|rest| rest.splitn(3, '|').nth(2));
        let namespace = service.map_or(UNKNOWN, |service| &*service.namespace);
        labels(&[
            ("destination_workload", UNKNOWN),
            ("destination_workload_namespace", UNKNOWN),
            ("destination_principal", UNKNOWN),
            ("destination_app", UNKNOWN),
            ("destination_version", UNKNOWN),
            ("destination_service", host.unwrap_or(UNKNOWN)),
            ("destination_service_name", host.unwrap_or(cluster)),
            ("destination_service_namespace", namespace),
            ("destination_cluster", UNKNOWN),
            ("destination_canonical_service", UNKNOWN),
            ("destination_canonical_revision", "latest"),
        ])
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.line(&bucket, &format!("{labels},le=\"{bound}\""), count);
        }
        self.line(&bucket, &format!("{labels},le=\"+Inf\""), histogram.count);
        self.line(&format!("{name}_sum"), labels, histogram.sum);
        self.line(&format!("{name}_count"), labels, histogram.count);
    }

    fn kind(&mut self, name: &str, kind: &str) {
        // Writing to memory does not fail.
        writeln!(self.out, "# TYPE {name} {kind}").ok();
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let line = match labels {
            "" => writeln!(self.out, "{name} {value}"),
            labels => writeln!(self.out, "{name}{{{labels}}} {value}"),
        };
        line.ok();
    }
}

fn cluster_name(cluster: &str) -> String {
    labels(&[("cluster_name", cluster)])
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<_> =
        pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
    pairs.join(",")
}

/// The characters of names.
fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}
