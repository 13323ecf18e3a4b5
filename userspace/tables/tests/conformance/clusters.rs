//! Clusters, endpoints, virtual hosts and the DNS table of `routing/`: the facts that Istio's own
//! configuration and our tables both state.
//!
//! Both sides are turned into the same list of lines, and the lists are compared. Left out: Envoy's
//! plumbing (filters, resolvers, metadata), BlackHoleCluster's and PassthroughCluster's internals,
//! and endpoints that Istio lists twice for a host with two addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use egressd_tables::{
    Cluster, Discovery, LbPolicy, NameTable, Sni, Tables, UNLIMITED, UpstreamHttp, UpstreamTls,
    Verification,
};
use serde_json::Value;

use crate::data::routing_cases;
use crate::folder::{conformance, say};

type Facts = BTreeSet<String>;

#[test]
fn clusters_state_what_istio_does() {
    let Some(folder) = conformance() else { return };
    let mut wrong = Vec::new();
    let mut clusters = 0_usize;
    for case in routing_cases(&folder) {
        let tables = case.compile();
        let istio: Value = serde_json::from_str(&case.read("clusters.json").unwrap()).unwrap();
        let expected: BTreeMap<String, Facts> = istio["clusters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cluster| of_istio(cluster, &istio["eds"]))
            .filter(|(name, _)| name.starts_with("outbound"))
            .collect();
        let found: BTreeMap<String, Facts> = tables
            .clusters()
            .filter(|cluster| cluster.name.starts_with("outbound"))
            .map(|cluster| (cluster.name.to_string(), of_ours(cluster)))
            .collect();
        clusters += expected.len();
        for name in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
            match (expected.get(name), found.get(name)) {
                (Some(a), Some(b)) => {
                    let missing: Vec<_> = a.difference(b).collect();
                    let more: Vec<_> = b.difference(a).collect();
                    if !(missing.is_empty() && more.is_empty()) {
                        wrong.push(format!(
                            "{} {name}: Istio {missing:?}, ours {more:?}",
                            case.name
                        ));
                    }
                }
                (a, b) => wrong.push(format!(
                    "{} {name}: Istio has it: {}, we: {}",
                    case.name,
                    a.is_some(),
                    b.is_some()
                )),
            }
        }
    }
    say(&format_args!(
        "routing: {} of {clusters} clusters agree",
        clusters.saturating_sub(wrong.len())
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(clusters > 0);
}

#[test]
fn names_resolve_as_istio_has_them() {
    let Some(folder) = conformance() else { return };
    let mut names = 0;
    for case in routing_cases(&folder) {
        let tables = case.compile();
        let istio: Value = serde_json::from_str(&case.read("clusters.json").unwrap()).unwrap();
        let mut expected: BTreeMap<String, Vec<String>> =
            serde_json::from_value(istio["dns_table"].clone()).unwrap();
        expected.values_mut().for_each(|addresses| addresses.sort());
        names += expected.len();
        assert_eq!(of_names(tables.names()), expected, "{}", case.name);
    }
    say(&format_args!("routing: {names} of {names} names of DNS agree"));
    assert!(names > 0);
}

#[test]
fn virtual_hosts_have_istios_domains() {
    let Some(folder) = conformance() else { return };
    let mut tables_seen = 0;
    for case in routing_cases(&folder) {
        let tables = case.compile();
        let istio: Value = serde_json::from_str(&case.read("clusters.json").unwrap()).unwrap();
        let unstable = istio["nondeterministic_fields"].as_array().unwrap();
        if unstable.iter().any(|field| field == "routes") {
            continue;
        }
        let expected: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> =
            istio.get("route_domains").map_or_else(
                || of_routes(&istio["routes"]),
                |domains| serde_json::from_value(domains.clone()).unwrap(),
            );
        let found = of_tables(&tables);
        for (table, hosts) in expected {
            tables_seen += 1;
            // A block is no Host header that anybody sends; Istio lists it all the same.
            let hosts: BTreeMap<_, BTreeSet<_>> = hosts
                .into_iter()
                .map(|(host, domains)| {
                    (host, domains.into_iter().filter(|domain| !domain.contains('/')).collect())
                })
                .collect();
            assert_eq!(found.get(&table), Some(&hosts), "{} table {table}", case.name);
        }
    }
    say(&format_args!("routing: {tables_seen} of {tables_seen} route tables have the domains"));
    assert!(tables_seen > 0);
}

fn of_names(names: &NameTable) -> BTreeMap<String, Vec<String>> {
    let text = |entry: &egressd_tables::NameEntry| {
        let v4 = entry.v4.iter().map(ToString::to_string);
        let mut all: Vec<_> = v4.chain(entry.v6.iter().map(ToString::to_string)).collect();
        all.sort();
        all
    };
    names.entries().iter().map(|entry| (entry.host.to_string(), text(entry))).collect()
}

fn of_routes(routes: &Value) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let set = |domains: &Value| serde_json::from_value(domains.clone()).unwrap();
    let hosts = |table: &Value| {
        let hosts = table["virtualHosts"].as_array().unwrap().iter();
        hosts.map(|host| (text(&host["name"]), set(&host["domains"]))).collect()
    };
    let tables = routes.as_array().into_iter().flatten();
    tables
        .filter(|table| table["name"] != "http_proxy")
        .map(|table| (text(&table["name"]), hosts(table)))
        .collect()
}

fn of_tables(tables: &Tables) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let mut found = BTreeMap::new();
    for chain in tables.listeners().iter().flat_map(|listener| &listener.chains) {
        if let egressd_tables::ChainAction::Http(table) = &chain.action {
            let hosts = table.virtual_hosts.iter().map(|host| {
                let domains = host.domains.iter().map(ToString::to_string).collect();
                (host.name.to_string(), domains)
            });
            found.insert(table.name.to_string(), hosts.collect());
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn of_istio(cluster: &Value, eds: &Value) -> (String, Facts) {
    let mut facts = Facts::new();
    let name = text(&cluster["name"]);
    let dynamic = cluster["clusterType"]["name"] == "envoy.clusters.dynamic_forward_proxy";
    let kind = if dynamic { "DYNAMIC_FORWARD_PROXY".to_owned() } else { text(&cluster["type"]) };
    facts.insert(format!("type {kind}"));
    facts.insert(format!("connect {}", text(&cluster["connectTimeout"])));
    // The zero value is not printed.
    facts.insert(format!("lb {}", cluster["lbPolicy"].as_str().unwrap_or("ROUND_ROBIN")));
    for (key, field) in [("ringHashLbConfig", "minimumRingSize"), ("maglevLbConfig", "tableSize")] {
        if let Some(size) = cluster[key][field].as_str() {
            facts.insert(format!("hash size {size}"));
        }
    }
    let slow = &cluster["roundRobinLbConfig"]["slowStartConfig"];
    if let Some(window) = slow["slowStartWindow"].as_str() {
        facts.insert(format!(
            "warmup {window} {} {}",
            slow["minWeightPercent"]["value"], slow["aggression"]["defaultValue"]
        ));
    }
    let limits = &cluster["circuitBreakers"]["thresholds"][0];
    for key in ["maxConnections", "maxPendingRequests", "maxRequests", "maxRetries"] {
        let value = limits[key].as_u64().unwrap_or(u64::from(UNLIMITED));
        facts.insert(format!("{key} {value}"));
    }
    if let Some(budget) = limits.get("retryBudget") {
        facts.insert(format!(
            "budget {} {}",
            budget["budgetPercent"]["value"], budget["minRetryConcurrency"]
        ));
    }
    let panic = cluster["commonLbConfig"]["healthyPanicThreshold"]["value"].as_u64().unwrap_or(0);
    facts.insert(format!("panic {panic}"));
    if let Some(port) = cluster["originalDstLbConfig"]["upstreamPortOverride"].as_u64() {
        facts.insert(format!("port override {port}"));
    }
    if let Some(family) = cluster["dnsLookupFamily"].as_str().filter(|_| kind.ends_with("DNS")) {
        facts.insert(format!("family {family}"));
    }
    outlier_of_istio(&cluster["outlierDetection"], &mut facts);
    http_of_istio(&cluster["typedExtensionProtocolOptions"], &mut facts);
    tls_of_istio(cluster, &mut facts);
    let listed = cluster["loadAssignment"]["endpoints"].as_array();
    let from_eds = eds[&name].as_array();
    for group in listed.or(from_eds).into_iter().flatten() {
        let place = &group["locality"];
        let part = |key: &str| text(&place[key]);
        let place = format!("{}/{}/{}", part("region"), part("zone"), part("subZone"));
        for endpoint in group["lbEndpoints"].as_array().into_iter().flatten() {
            let at = &endpoint["endpoint"]["address"];
            let at = match at.get("pipe") {
                Some(pipe) => text(&pipe["path"]),
                None => {
                    let at = &at["socketAddress"];
                    format!("{}:{}", text(&at["address"]), at["portValue"])
                }
            };
            let weight = endpoint["loadBalancingWeight"].as_u64().unwrap_or(1);
            facts.insert(format!("endpoint {at} weight {weight} in {place}"));
        }
    }
    (name, facts)
}

fn outlier_of_istio(outlier: &Value, facts: &mut Facts) {
    if outlier.is_null() {
        return;
    }
    let number = |key: &str, default: u64| outlier[key].as_u64().unwrap_or(default);
    let duration = |key: &str, default: &str| outlier[key].as_str().unwrap_or(default).to_owned();
    facts.insert(format!("5xx {}", number("consecutive5xx", 5)));
    facts.insert(format!("gateway {}", number("consecutiveGatewayFailure", 0)));
    facts.insert(format!("local {}", number("consecutiveLocalOriginFailure", 0)));
    facts.insert(format!("interval {}", duration("interval", "10s")));
    facts.insert(format!("base {}", duration("baseEjectionTime", "30s")));
    facts.insert(format!("percent {}", number("maxEjectionPercent", 10)));
}

fn http_of_istio(options: &Value, facts: &mut Facts) {
    let options = &options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let version = if options.get("useDownstreamProtocolConfig").is_some() {
        "as downstream"
    } else if options["explicitHttpConfig"].get("http2ProtocolOptions").is_some() {
        "2"
    } else {
        "1"
    };
    facts.insert(format!("http {version}"));
    if let Some(idle) = options["commonHttpProtocolOptions"]["idleTimeout"].as_str() {
        facts.insert(format!("idle {idle}"));
    }
}

fn tls_of_istio(cluster: &Value, facts: &mut Facts) {
    let options = &cluster["typedExtensionProtocolOptions"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
        ["upstreamHttpProtocolOptions"];
    let by_endpoint = &cluster["transportSocketMatches"][0]["transportSocket"];
    let (kind, socket) = match cluster.get("transportSocket") {
        Some(socket) => ("originate", socket),
        None if by_endpoint.is_object() => ("auto", by_endpoint),
        None => {
            facts.insert("tls plaintext".to_owned());
            return;
        }
    };
    facts.insert(format!("tls {kind}"));
    let tls = &socket["typedConfig"];
    let sni = if options["autoSni"] == true { "by host".to_owned() } else { text(&tls["sni"]) };
    facts.insert(format!("sni {sni}"));
    facts.insert(format!("match sni {}", options["autoSanValidation"] == true));
    let common = &tls["commonTlsContext"];
    let names = &common["combinedValidationContext"]["defaultValidationContext"];
    for name in names["matchSubjectAltNames"].as_array().into_iter().flatten() {
        facts.insert(format!("san {}", text(&name["exact"])));
    }
    for alpn in common["alpnProtocols"].as_array().into_iter().flatten() {
        facts.insert(format!("alpn {}", text(alpn)));
    }
}

fn of_ours(cluster: &Cluster) -> Facts {
    let mut facts = Facts::new();
    facts.insert(format!("type {}", cluster.discovery.envoy_type()));
    facts.insert(format!("connect {}", seconds(cluster.connect_timeout)));
    facts.insert(format!("lb {}", cluster.load_balancer.policy.envoy_name()));
    match cluster.load_balancer.policy {
        LbPolicy::RingHash { minimum_size } => {
            facts.insert(format!("hash size {minimum_size}"));
        }
        LbPolicy::Maglev { table_size } => {
            facts.insert(format!("hash size {table_size}"));
        }
        LbPolicy::LeastRequest
        | LbPolicy::RoundRobin
        | LbPolicy::Random
        | LbPolicy::ClusterProvided => {}
    }
    if let Some(warmup) = cluster.load_balancer.warmup {
        facts.insert(format!(
            "warmup {} {} {}",
            seconds(warmup.duration),
            warmup.minimum_percent,
            warmup.aggression
        ));
    }
    let pool = &cluster.pool;
    facts.insert(format!("maxConnections {}", pool.max_connections));
    facts.insert(format!("maxPendingRequests {}", pool.max_pending_requests));
    facts.insert(format!("maxRequests {}", pool.max_requests));
    facts.insert(format!("maxRetries {}", pool.max_retries));
    if let Some(budget) = pool.retry_budget {
        facts.insert(format!("budget {} {}", budget.percent, budget.min_concurrency));
    }
    if pool.http_idle_timeout != Some(Duration::from_secs(3600)) {
        facts.insert(format!("idle {}", seconds(pool.http_idle_timeout.unwrap_or_default())));
    }
    facts.insert(format!("panic {}", cluster.load_balancer.panic_threshold));
    match cluster.discovery {
        Discovery::OriginalDst { port: Some(port) } => {
            facts.insert(format!("port override {port}"));
        }
        Discovery::StrictDns(_) | Discovery::LogicalDns(_) => {
            facts.insert("family V4_ONLY".to_owned());
        }
        Discovery::Static
        | Discovery::OriginalDst { port: None }
        | Discovery::DynamicForwardProxy { .. } => {}
    }
    if let Some(outlier) = &cluster.outlier {
        facts.insert(format!("5xx {}", outlier.consecutive_5xx.unwrap_or(0)));
        facts.insert(format!("gateway {}", outlier.consecutive_gateway_errors.unwrap_or(0)));
        facts.insert(format!("local {}", outlier.consecutive_local_failures.unwrap_or(0)));
        facts.insert(format!("interval {}", seconds(outlier.interval)));
        facts.insert(format!("base {}", seconds(outlier.base_ejection_time)));
        facts.insert(format!("percent {}", outlier.max_ejection_percent));
    }
    facts.insert(match cluster.http {
        UpstreamHttp::Http1 => "http 1".to_owned(),
        UpstreamHttp::Http2 => "http 2".to_owned(),
        UpstreamHttp::AsDownstream => "http as downstream".to_owned(),
    });
    tls_of_ours(&cluster.tls, &mut facts);
    for group in &cluster.endpoints {
        let place = &group.locality;
        let place = format!("{}/{}/{}", place.region, place.zone, place.subzone);
        for endpoint in &group.endpoints {
            let (address, port, weight) = (&endpoint.address, endpoint.port, endpoint.weight);
            let at = match address.to_string().strip_prefix("unix://") {
                Some(path) => path.to_owned(),
                None => format!("{address}:{port}"),
            };
            facts.insert(format!("endpoint {at} weight {weight} in {place}"));
        }
    }
    facts
}

fn tls_of_ours(tls: &UpstreamTls, facts: &mut Facts) {
    let (kind, tls) = match tls {
        UpstreamTls::Plaintext => {
            facts.insert("tls plaintext".to_owned());
            return;
        }
        UpstreamTls::Originate(tls) => ("originate", tls),
        UpstreamTls::Auto(tls) => ("auto", tls),
    };
    facts.insert(format!("tls {kind}"));
    facts.insert(match &tls.sni {
        Sni::Fixed(name) => format!("sni {name}"),
        Sni::RequestHost { .. } => "sni by host".to_owned(),
    });
    let matches = matches!(&tls.verification, Verification::Verify { match_sni: true, .. });
    facts.insert(format!("match sni {matches}"));
    if let Verification::Verify { names, .. } = &tls.verification {
        facts.extend(names.iter().map(|name| format!("san {name}")));
    }
    facts.extend(tls.alpn.iter().map(|alpn| format!("alpn {alpn}")));
}

fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        millis => format!("{}.{millis:03}s", duration.as_secs()),
    }
}
