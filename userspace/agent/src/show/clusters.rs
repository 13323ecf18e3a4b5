//! Clusters.

use std::time::Duration;

use egressd_tables::{
    ClientIdentity, Cluster, Discovery, HashKey, LbPolicy, NotDirect, Path, Probe, ProxyProtocol,
    Sni, Tables, TlsMode, TlsOrigination, TlsVersion, TrustAnchors, UNLIMITED, UpstreamHttp,
    UpstreamTls, Verification,
};
use serde_json::{Map, Value, json};

use super::{Filter, Table, endpoints};

/// The columns of `istioctl proxy-config clusters`, and which path is taken: `proxy: WHY`.
pub(super) fn table(tables: &Tables, filter: &Filter) -> Table {
    let mut table = Table::new(&[
        "SERVICE FQDN",
        "PORT",
        "SUBSET",
        "DIRECTION",
        "TYPE",
        "DESTINATION RULE",
        "PATH",
    ]);
    let taken = tables.paths_taken();
    for cluster in chosen(tables, filter) {
        let path = match taken.of_cluster(cluster) {
            Path::Direct(_) => "direct".to_owned(),
            Path::Proxied(why) => format!("proxy: {}", why.code()),
            Path::LeftAlone(why) => format!("none: {}", why.code()),
        };
        let kind = envoy_type(cluster).to_owned();
        let rules: Vec<_> =
            cluster.rules.iter().map(|rule| format!("{}.{}", rule.name, rule.namespace)).collect();
        let dash = || "-".to_owned();
        table.add(match cluster.service() {
            Some(service) => [
                service.host.to_string(),
                service.port.to_string(),
                if service.subset.is_empty() { dash() } else { service.subset.to_string() },
                "outbound".to_owned(),
                kind,
                rules.join(","),
                path,
            ],
            None => [cluster.name.to_string(), dash(), dash(), dash(), kind, dash(), path],
        });
    }
    table
}

/// Everything that governs connections to them; what is not set is left out.
pub(super) fn json(tables: &Tables, filter: &Filter) -> Value {
    let taken = tables.paths_taken();
    chosen(tables, filter).map(|cluster| one(cluster, &taken.of_cluster(cluster))).collect()
}

fn chosen<'a>(tables: &'a Tables, filter: &'a Filter) -> impl Iterator<Item = &'a Cluster> {
    let wanted = |cluster: &&Cluster| {
        filter.cluster(&cluster.name, cluster.service())
            && (filter.address.is_none() || filter.addresses(endpoints::addresses(cluster)))
    };
    tables.clusters().map(|cluster| &**cluster).filter(wanted)
}

/// The type that istioctl shows.
fn envoy_type(cluster: &Cluster) -> &'static str {
    if cluster.is_black_hole() { "STATIC" } else { cluster.discovery.envoy_type() }
}

fn one(cluster: &Cluster, path: &Path) -> Value {
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| {
        if !is_empty(&value) {
            all.insert(key.to_owned(), value);
        }
    };
    put("name", json!(*cluster.name));
    put("type", json!(envoy_type(cluster)));
    if let Some(service) = cluster.service() {
        put("host", json!(*service.host));
        put("namespace", json!(*service.namespace));
        put("port", json!(service.port));
        put("subset", json!(*service.subset));
        put("external", json!(service.external));
    }
    put("destinationRules", cluster.rules.iter().map(|rule| json!(rule.to_string())).collect());
    put("targetPort", target_port(cluster.discovery));
    put(
        "path",
        match path {
            Path::Direct(_) => json!({"taken": "direct"}),
            Path::Proxied(why) => not_direct("proxy", why),
            Path::LeftAlone(why) => not_direct("none", why),
        },
    );
    put("lbPolicy", json!(cluster.load_balancer.policy.envoy_name()));
    put("loadBalancer", load_balancer(cluster));
    put("connectTimeout", duration(Some(cluster.connect_timeout)));
    put("connectionPool", pool(cluster));
    put("outlierDetection", outlier(cluster));
    put("healthCheck", health_check(cluster));
    put("tls", tls(&cluster.tls));
    put("http", http(cluster.http));
    if let Some(tunnel) = &cluster.tunnel {
        let method = if tunnel.post { "POST" } else { "CONNECT" };
        put("tunnel", json!({"method": method, "host": *tunnel.host, "port": tunnel.port}));
    }
    put(
        "proxyProtocol",
        match cluster.proxy_protocol {
            None => Value::Null,
            Some(ProxyProtocol::V1) => json!("V1"),
            Some(ProxyProtocol::V2) => json!("V2"),
        },
    );
    put("endpoints", endpoints::of_cluster(cluster));
    Value::Object(all)
}

fn not_direct(taken: &str, why: &NotDirect) -> Value {
    json!({"taken": taken, "notDirect": why.code(), "because": why.to_string()})
}

/// What says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let filled = fields.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(filled.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn target_port(discovery: Discovery) -> Value {
    match discovery {
        Discovery::OriginalDst { port: Some(port) }
        | Discovery::DynamicForwardProxy { port, .. } => json!(port),
        Discovery::OriginalDst { port: None }
        | Discovery::Static
        | Discovery::StrictDns(_)
        | Discovery::LogicalDns(_) => Value::Null,
    }
}

/// Seconds, as Envoy writes them: `10s`, `0.025s`.
fn duration(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Null, |duration| json!(format!("{}s", duration.as_secs_f64())))
}

fn limit(limit: u32) -> Value {
    if limit == UNLIMITED { Value::Null } else { json!(limit) }
}

fn load_balancer(cluster: &Cluster) -> Value {
    let balancer = &cluster.load_balancer;
    let key = balancer.hash.as_ref().map(|hash| match &hash.key {
        HashKey::Header(name) => json!({"header": **name}),
        HashKey::Cookie { name, path, ttl, .. } => json!({"cookie": object([
            ("name", json!(**name)),
            ("path", path.as_ref().map_or(Value::Null, |path| json!(**path))),
            ("ttl", duration(*ttl)),
        ])}),
        HashKey::SourceIp => json!("sourceIp"),
        HashKey::QueryParameter(name) => json!({"queryParameter": **name}),
    });
    let warmup = balancer.warmup.map(|warmup| {
        object([
            ("duration", duration(Some(warmup.duration))),
            ("minimumPercent", json!(warmup.minimum_percent)),
            ("aggression", json!(warmup.aggression)),
        ])
    });
    let (ring, table) = match balancer.policy {
        LbPolicy::RingHash { minimum_size } => (json!(minimum_size), Value::Null),
        LbPolicy::Maglev { table_size } => (Value::Null, json!(table_size)),
        LbPolicy::LeastRequest
        | LbPolicy::RoundRobin
        | LbPolicy::Random
        | LbPolicy::ClusterProvided => (Value::Null, Value::Null),
    };
    object([
        ("minimumRingSize", ring),
        ("tableSize", table),
        ("hash", key.unwrap_or_default()),
        ("localityWeighted", if balancer.locality_weighted { json!(true) } else { Value::Null }),
        ("warmup", warmup.unwrap_or_default()),
    ])
}

fn pool(cluster: &Cluster) -> Value {
    let pool = &cluster.pool;
    let keepalive = pool.tcp_keepalive.map(|keepalive| {
        object([
            ("probes", keepalive.probes.map_or(Value::Null, |probes| json!(probes))),
            ("time", duration(keepalive.time)),
            ("interval", duration(keepalive.interval)),
        ])
    });
    let budget = pool.retry_budget.map(
        |budget| json!({"percent": budget.percent, "minRetryConcurrency": budget.min_concurrency}),
    );
    let h2 = pool.http2_keepalive.map(|(interval, timeout)| {
        object([("interval", duration(Some(interval))), ("timeout", duration(Some(timeout)))])
    });
    let streams = match pool.max_concurrent_streams {
        MAX_STREAMS => Value::Null,
        streams => json!(streams),
    };
    let requests = pool.max_requests_per_connection.map_or(Value::Null, |number| json!(number));
    object([
        ("maxConnections", limit(pool.max_connections)),
        ("maxPendingRequests", limit(pool.max_pending_requests)),
        ("maxRequests", limit(pool.max_requests)),
        ("maxRetries", limit(pool.max_retries)),
        ("retryBudget", budget.unwrap_or_default()),
        ("maxRequestsPerConnection", requests),
        ("maxConcurrentStreams", streams),
        ("httpIdleTimeout", duration(pool.http_idle_timeout)),
        ("tcpIdleTimeout", duration(pool.tcp_idle_timeout)),
        ("maxConnectionDuration", duration(pool.max_connection_duration)),
        ("tcpKeepalive", keepalive.unwrap_or_default()),
        ("http2Keepalive", h2.unwrap_or_default()),
    ])
}

fn outlier(cluster: &Cluster) -> Value {
    let Some(outlier) = &cluster.outlier else { return Value::Null };
    let number = |number: Option<u32>| number.map_or(Value::Null, |number| json!(number));
    object([
        ("consecutive5xxErrors", number(outlier.consecutive_5xx)),
        ("consecutiveGatewayErrors", number(outlier.consecutive_gateway_errors)),
        ("consecutiveLocalOriginFailures", number(outlier.consecutive_local_failures)),
        ("splitExternalLocalOriginErrors", json!(outlier.split_local_errors)),
        ("interval", duration(Some(outlier.interval))),
        ("baseEjectionTime", duration(Some(outlier.base_ejection_time))),
        ("maxEjectionTime", duration(Some(outlier.max_ejection_time))),
        ("maxEjectionPercent", json!(outlier.max_ejection_percent)),
        ("httpErrorCodes", json!(outlier.error_codes)),
    ])
}

fn health_check(cluster: &Cluster) -> Value {
    let Some(check) = &cluster.health_check else { return Value::Null };
    let (path, headers) = match &check.probe {
        Probe::Tcp => (Value::Null, Value::Null),
        Probe::Http { path, headers } => {
            let headers =
                headers.iter().map(|(name, value)| json!({"name": **name, "value": **value}));
            (json!(**path), headers.collect())
        }
    };
    object([
        ("interval", duration(Some(check.interval))),
        ("timeout", duration(Some(check.timeout))),
        ("unhealthyThreshold", json!(check.unhealthy_threshold)),
        ("healthyThreshold", json!(check.healthy_threshold)),
        ("path", path),
        ("headers", headers),
    ])
}

fn tls(tls: &UpstreamTls) -> Value {
    match tls {
        UpstreamTls::Plaintext => Value::Null,
        UpstreamTls::Originate(origination) => origination_of(origination, false),
        UpstreamTls::Auto(origination) => origination_of(origination, true),
    }
}

fn origination_of(origination: &TlsOrigination, auto: bool) -> Value {
    let mode = match origination.mode {
        TlsMode::Simple => "SIMPLE",
        TlsMode::Mutual => "MUTUAL",
        TlsMode::IstioMutual => "ISTIO_MUTUAL",
    };
    let sni = match &origination.sni {
        Sni::Fixed(name) => json!(**name),
        Sni::RequestHost { .. } => Value::Null,
    };
    let identity = match &origination.identity {
        None => Value::Null,
        Some(ClientIdentity::Mesh) => json!("mesh"),
        Some(ClientIdentity::Credential(name)) => json!({"credentialName": **name}),
        Some(ClientIdentity::Files { certificate, key }) => {
            json!({"clientCertificate": **certificate, "privateKey": **key})
        }
    };
    let version = |version: TlsVersion| match version {
        TlsVersion::V1_2 => json!("TLSV1_2"),
        TlsVersion::V1_3 => json!("TLSV1_3"),
    };
    let alpn: Vec<_> = origination.alpn.iter().map(|name| &**name).collect();
    object([
        ("mode", json!(mode)),
        ("onlyToMeshEndpoints", if auto { json!(true) } else { Value::Null }),
        ("sni", sni),
        ("verify", verification(&origination.verification)),
        ("identity", identity),
        ("alpn", json!(alpn)),
        ("minVersion", version(origination.min_version)),
        ("maxVersion", version(origination.max_version)),
    ])
}

fn verification(verification: &Verification) -> Value {
    let Verification::Verify { roots, names, match_sni, crl } = verification else {
        return json!("nothing");
    };
    let roots = match roots {
        TrustAnchors::System => json!("system"),
        TrustAnchors::Mesh => json!("mesh"),
        TrustAnchors::File(path) => json!({"caCertificates": **path}),
        TrustAnchors::Credential(name) => json!({"credentialName": **name}),
    };
    let names: Vec<_> = names.iter().map(|name| &**name).collect();
    object([
        ("roots", roots),
        ("subjectAltNames", json!(names)),
        ("matchServerName", json!(match_sni)),
        ("caCrl", crl.as_ref().map_or(Value::Null, |path| json!(**path))),
    ])
}

fn http(http: UpstreamHttp) -> Value {
    json!(match http {
        UpstreamHttp::Http1 => "HTTP/1.1",
        UpstreamHttp::Http2 => "HTTP/2",
        UpstreamHttp::AsDownstream => "as the client",
    })
}

/// The most streams that HTTP/2 can number, which is no limit.
const MAX_STREAMS: u32 = (1 << 31) - 1;
