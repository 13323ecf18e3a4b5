//! Each finding, and what does not lead to it.

use std::path::Path;

use egressd_model::resource::MeshConfig;
use egressd_model::{Diagnostic, Model, Verdict};

use super::{Subject, analyse};
use crate::{Node, Options, Tables, VipAllocation, requests};

/// A document's head: kind, `[namespace/]name`, and the indented lines of its spec.
fn document(kind: &str, name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let api = if kind == "Pod" { "v1" } else { "networking.istio.io/v1" };
    format!(
        "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n{spec}\n---\n"
    )
}

fn entry(name: &str, spec: &str) -> String {
    document("ServiceEntry", name, &format!("spec: {spec}"))
}

fn rule(name: &str, spec: &str) -> String {
    document("DestinationRule", name, &format!("spec: {spec}"))
}

fn service(name: &str, spec: &str) -> String {
    document("VirtualService", name, &format!("spec: {spec}"))
}

struct Setting {
    vips: bool,
    complete: bool,
    node: Node,
}

fn find_with(setting: &Setting, documents: &[String]) -> Vec<Diagnostic> {
    let text = documents.concat();
    let file = egressd_model::parse("x.yaml", &text);
    let rejected: Vec<_> =
        file.documents().iter().filter(|d| d.verdict() == Verdict::Reject).collect();
    assert!(rejected.is_empty(), "{rejected:#?}\n{text}");
    let model = Model::assemble([&file]).unwrap();
    let mesh = MeshConfig::default();
    let options = Options { dns_capture: setting.vips, ..Options::default() };
    let (vips, _) = VipAllocation::default().allocate(&requests(&model));
    let tables = Tables::compile(&model, &mesh, &setting.node, &options, &vips);
    analyse(&Subject {
        model: &model,
        mesh: &mesh,
        node: &setting.node,
        tables: &tables,
        vips: setting.vips.then_some(&vips),
        exhausted: &[],
        complete: setting.complete,
        file_exists: &|path| path == Path::new("/there"),
    })
}

fn find(documents: &[String]) -> Vec<Diagnostic> {
    find_with(&Setting { vips: true, complete: true, node: Node::default() }, documents)
}

/// `code field` of each finding, in the order of the text.
fn words(found: &[Diagnostic]) -> Vec<String> {
    found.iter().map(|one| format!("{} {}", one.code, one.field)).collect()
}

#[track_caller]
fn check(documents: &[String], expected: &[&str]) {
    let found = find(documents);
    assert_eq!(words(&found), expected, "{found:#?}");
    for one in &found {
        assert!(one.span.is_written(), "{one:?}");
        assert!(one.help.is_some(), "{one:?}");
        assert!(!one.message.ends_with('.'), "{one:?}");
    }
}

const HTTP: &str =
    "{hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}";
const HTTPS: &str =
    "{hosts: [a.example], ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS}";

#[test]
fn nothing_to_say() {
    check(&[entry("a", HTTP)], &[]);
    check(&[entry("a", HTTPS)], &[]);
    check(&[], &[]);
}

#[test]
fn ports_taken_as_a_whole() {
    let tcp = |host: &str, more: &str| {
        let ports = "ports: [{number: 5432, name: tcp, protocol: TCP}]";
        entry("a", &format!("{{hosts: [{host}], {ports}, {more}}}"))
    };
    check(&[tcp("a.example", "resolution: DNS")], &[]);
    let bare = Setting { vips: false, complete: true, node: Node::default() };
    let found = find_with(&bare, &[tcp("a.example", "resolution: DNS")]);
    assert_eq!(words(&found), ["tcp-takes-port spec.ports[0]"]);
    // Its own rules say so.
    check(&[tcp("a.example", "resolution: NONE")], &[]);
    check(&[tcp("'*.example.com'", "resolution: NONE")], &["wildcard-opens-port spec.hosts[0]"]);
    check(&[tcp("'*.example.com'", "resolution: NONE, addresses: [10.0.0.0/8]")], &[]);
}

#[test]
fn wide_wildcards() {
    let wide = |host: &str, resolution: &str, protocol: &str| {
        let port = format!("ports: [{{number: 443, name: p, protocol: {protocol}}}]");
        entry("a", &format!("{{hosts: ['{host}'], {port}, resolution: {resolution}}}"))
    };
    check(&[wide("*.com", "DYNAMIC_DNS", "TLS")], &["wildcard-too-broad spec.hosts[0]"]);
    check(&[wide("*.example.com", "DYNAMIC_DNS", "TLS")], &[]);
    check(&[wide("*.example.com", "NONE", "TLS")], &["wildcard-any-address spec.hosts[0]"]);
}

#[test]
fn alt_names_without_tls() {
    let names = "{hosts: [a.example], resolution: DNS, subjectAltNames: [a.example], \
                 ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]}";
    check(&[entry("a", names)], &["subject-alt-names-without-tls spec.subjectAltNames"]);
    let tls = "{host: '*.example', trafficPolicy: {tls: {mode: SIMPLE}}}";
    check(&[entry("a", names), rule("a", tls)], &[]);
}

#[test]
fn labels_are_no_places() {
    let workload = |spec: &str| document("WorkloadEntry", "w", &format!("spec: {spec}"));
    check(
        &[workload("{address: 1.1.1.1, labels: {region: a, app: x}}")],
        &["labels-set-no-locality spec.labels"],
    );
    check(&[workload("{address: 1.1.1.1, labels: {region: a}, locality: eu/x}")], &[]);
    check(&[workload("{address: 1.1.1.1, labels: {app: x}}")], &[]);
}

#[test]
fn nothing_selected() {
    let spec = "{hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, \
                workloadSelector: {labels: {app: x}}}";
    let workload = |name: &str, address: &str, labels: &str| {
        let spec = format!("spec: {{address: {address}, labels: {labels}}}");
        document("WorkloadEntry", name, &spec)
    };
    let nothing = ["selector-selects-nothing spec.workloadSelector"];
    check(&[entry("a", spec)], &nothing);
    check(&[entry("a", spec), workload("w", "1.1.1.1", "{app: other}")], &nothing);
    check(&[entry("a", spec), workload("other/w", "1.1.1.1", "{app: x}")], &nothing);
    check(&[entry("a", spec), workload("w", "name.example", "{app: x}")], &nothing);
    check(&[entry("a", spec), workload("w", "1.1.1.1", "{app: x, more: z}")], &[]);
    let subset = |labels: &str| {
        rule("a", &format!("{{host: a.example, subsets: [{{name: s, labels: {labels}}}]}}"))
    };
    let one = || [entry("a", spec), workload("w", "1.1.1.1", "{app: x, class: vm}")];
    let with = |labels: &str| [one().to_vec(), vec![subset(labels)]].concat();
    check(&with("{class: vm}"), &[]);
    check(&with("{class: docker}"), &["subset-selects-nothing spec.subsets[0]"]);
    check(&[entry("a", HTTP), subset("{class: vm}")], &["subset-selects-nothing spec.subsets[0]"]);
}

#[test]
fn pods_are_selected() {
    let spec = "{hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, \
                workloadSelector: {labels: {app: x}}}";
    let pod = |labels: &str, status: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: default, labels: {labels}}}\n{status}\n---\n"
        )
    };
    let nothing = ["selector-selects-nothing spec.workloadSelector"];
    check(&[entry("a", spec), pod("{app: x}", "status: {podIP: 10.1.1.1}")], &[]);
    check(&[entry("a", spec), pod("{app: z}", "status: {podIP: 10.1.1.1}")], &nothing);
    check(&[entry("a", spec), pod("{app: x}", "status: {}")], &nothing);
}

#[test]
fn hosts_in_two_places() {
    let twice = [entry("b/x", HTTP), entry("a/x", HTTP)];
    check(&twice, &["duplicate-host spec.hosts[0]"]);
    let found = find(&twice);
    let message = &found.first().unwrap().message;
    assert_eq!(message, "a.example is ServiceEntry a/x's: its namespace comes first");
    let own = find(&[entry("a/x", HTTP), entry("default/x", HTTP)]);
    let message = &own.first().unwrap().message;
    assert_eq!(message, "a.example is ServiceEntry default/x's: it is in this node's namespace");
    let other = HTTPS.replace("DNS", "STATIC");
    check(&[entry("a", HTTP), entry("b", &other)], &["resolution-of-oldest spec.resolution"]);
    let to = "{hosts: [a.example], http: [{route: [{destination: {host: a.example}}]}]}";
    let services = [entry("a", HTTP), service("v", to), service("w", to)];
    check(&services, &["host-taken spec.hosts[0]"]);
    let policy = "{host: a.example, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}";
    let rules = [entry("a", HTTP), rule("r", policy), rule("s", policy)];
    check(&rules, &["policy-ignored spec.trafficPolicy"]);
}

#[test]
fn fights_for_a_port() {
    let tcp = |name: &str, address: &str| {
        let port = "ports: [{number: 5432, name: tcp, protocol: TCP}]";
        let spec = format!(
            "{{hosts: [{name}.example], {port}, {address}resolution: STATIC, endpoints: [{{address: 1.1.1.1}}]}}"
        );
        entry(name, &spec)
    };
    let same = "addresses: [10.1.1.1], ";
    check(&[tcp("a", same), tcp("b", same)], &["port-conflict spec.ports[0]"]);
    let http = |name: &str, number: u16| {
        let port = format!("ports: [{{number: {number}, name: http, protocol: HTTP}}]");
        let spec = format!("{{hosts: [{name}.example], {port}, {same}resolution: NONE}}");
        entry(name, &spec)
    };
    check(&[http("a", 80), http("b", 80)], &["overlapping-addresses spec.addresses[0]"]);
    check(&[http("a", 80), http("b", 81)], &["overlapping-addresses spec.addresses[0]"]);
    check(&[tcp("a", ""), tcp("b", "")], &[]);
    let bare = Setting { vips: false, complete: true, node: Node::default() };
    let found = find_with(&bare, &[tcp("a", ""), tcp("b", "")]);
    assert_eq!(
        words(&found),
        [
            "tcp-takes-port spec.ports[0]",
            "port-conflict spec.ports[0]",
            "tcp-takes-port spec.ports[0]"
        ]
    );
    let block = |range: &str| format!("addresses: [{range}], ");
    check(
        &[tcp("a", &block("10.0.0.0/8")), tcp("b", &block("10.1.0.0/16"))],
        &["overlapping-addresses spec.addresses[0]"],
    );
    check(&[tcp("a", &block("10.0.0.0/16")), tcp("b", &block("10.1.0.0/16"))], &[]);
}

#[test]
fn unknown_names() {
    let to = |host: &str, more: &str| {
        let destination = format!("{{host: {host}{more}}}");
        service(
            "v",
            &format!("{{hosts: [a.example], http: [{{route: [{{destination: {destination}}}]}}]}}"),
        )
    };
    let with = |host: &str, more: &str| [entry("a", HTTP), to(host, more)];
    check(&with("a.example", ""), &[]);
    check(&with("b.example", ""), &["unknown-host spec.http[0].route[0].destination.host"]);
    check(
        &with("a.example", ", port: {number: 81}"),
        &["unknown-port spec.http[0].route[0].destination.port.number"],
    );
    check(
        &with("a.example", ", subset: s"),
        &["unknown-subset spec.http[0].route[0].destination.subset"],
    );
    check(
        &[to("a.example", "")],
        &["unknown-host spec.hosts[0]", "unknown-host spec.http[0].route[0].destination.host"],
    );
    let tls = "{host: b.example, trafficPolicy: {tls: {mode: SIMPLE}}}";
    check(&[entry("a", HTTP), rule("r", tls)], &["unknown-host spec.host"]);
    let port = "{host: a.example, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}}";
    check(
        &[entry("a", HTTP), rule("r", port)],
        &["unknown-port spec.trafficPolicy.portLevelSettings[0].port.number"],
    );
    let part = Setting { vips: true, complete: false, node: Node::default() };
    assert_eq!(words(&find_with(&part, &with("b.example", ""))), Vec::<String>::new());
}

#[test]
fn short_names() {
    let short = HTTP.replace("a.example", "a");
    let to = "{hosts: [a], http: [{route: [{destination: {host: a}}]}]}";
    let found = find(&[entry("a", &short), service("v", to), rule("r", "{host: a, subsets: []}")]);
    assert_eq!(words(&found), ["short-host spec.hosts[0]", "short-host spec.host"]);
    assert!(found.iter().all(|one| one.message.contains("a.default.svc.cluster.local")));
    let long = HTTP.replace("a.example", "a.default.svc.cluster.local");
    check(&[entry("a", &long), service("v", to)], &[]);
}

#[test]
fn exports() {
    let own = HTTP.replacen('{', "{exportTo: ['.'], ", 1);
    let to = "{hosts: [a.example], http: [{route: [{destination: {host: a.example}}]}]}";
    check(
        &[entry("x/a", &own), service("x/v", to)],
        &["not-exported spec.http[0].route[0].destination.host"],
    );
    check(&[entry("default/a", &own), service("default/v", to)], &[]);
    let found = find(&[entry("x/a", &own), service("other/v", to)]);
    assert_eq!(
        words(&found),
        ["not-exported spec.hosts[0]", "not-exported spec.http[0].route[0].destination.host"]
    );
}

#[test]
fn gateways() {
    let gateway = "spec: {selector: {app: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}";
    let gateway = || document("Gateway", "infra/gw", gateway);
    let to = |name: &str| {
        let spec = format!(
            "{{hosts: [a.example], gateways: [{name}, mesh], http: [{{route: [{{destination: {{host: a.example}}}}]}}]}}"
        );
        service("v", &spec)
    };
    let wrong = find(&[entry("a", HTTP), gateway(), to("gw")]);
    assert_eq!(words(&wrong), ["unknown-gateway spec.gateways[0]"]);
    assert_eq!(
        wrong.first().unwrap().help.as_deref(),
        Some("write `infra/gw`: that Gateway exists")
    );
    check(&[entry("a", HTTP), gateway(), to("infra/gw")], &[]);
    check(&[entry("a", HTTP), gateway(), to("gw.infra.svc.cluster.local")], &[]);
}

#[test]
fn rules_of_another_family() {
    let http = "{hosts: [a.example], http: [{route: [{destination: {host: a.example}}]}]}";
    let found = find(&[entry("a", HTTPS), service("v", http)]);
    assert_eq!(words(&found), ["http-rule-on-tls-port spec.http[0]"]);
    assert!(found.first().unwrap().help.as_ref().unwrap().contains("targetPort: 443"));
    let both = "{hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}, \
                {number: 443, name: https, protocol: HTTPS}]}";
    check(&[entry("a", both), service("v", http)], &[]);
    let port = |number: u16| {
        let spec = format!(
            "{{hosts: [a.example], http: [{{match: [{{port: {number}}}], route: [{{destination: {{host: a.example}}}}]}}]}}"
        );
        [entry("a", both), service("v", &spec)]
    };
    check(&port(80), &[]);
    check(&port(443), &["http-rule-on-tls-port spec.http[0].match[0].port"]);
    check(&port(81), &["unknown-port spec.http[0].match[0].port"]);
    let tls = "{hosts: [a.example], tls: [{match: [{sniHosts: [a.example]}], route: [{destination: {host: a.example}}]}]}";
    check(&[entry("a", HTTP), service("v", tls)], &["tls-rule-without-tls-port spec.tls[0]"]);
    check(&[entry("a", HTTPS), service("v", tls)], &[]);
    let tcp = "{hosts: [a.example], tcp: [{route: [{destination: {host: a.example}}]}]}";
    check(&[entry("a", HTTP), service("v", tcp)], &["tcp-rule-without-tcp-port spec.tcp[0]"]);
}

#[test]
fn rules_out_of_reach() {
    let rules = |rules: &str| {
        let route = "route: [{destination: {host: a.example}}]";
        let rules = rules.replace("ROUTE", route);
        [entry("a", HTTP), service("v", &format!("{{hosts: [a.example], http: [{rules}]}}"))]
    };
    let second = ["unreachable-rule spec.http[1]"];
    check(
        &rules("{match: [{uri: {regex: '.*'}}], ROUTE}, {match: [{uri: {prefix: /a}}], ROUTE}"),
        &second,
    );
    check(&rules("{match: [{uri: {prefix: /}}], ROUTE}, {ROUTE}"), &second);
    check(
        &rules(
            "{match: [{uri: {prefix: /a}}], ROUTE}, {match: [{uri: {exact: /abc}, method: {exact: GET}}], ROUTE}",
        ),
        &second,
    );
    check(
        &rules(
            "{match: [{headers: {x: {exact: a}}}], ROUTE}, {match: [{uri: {exact: /b}, headers: {x: {exact: a}}}], ROUTE}",
        ),
        &second,
    );
    check(
        &rules(
            "{match: [{uri: {prefix: /a}}], ROUTE}, {match: [{uri: {exact: /a/b}}, {uri: {prefix: /c}}], ROUTE}",
        ),
        &["unreachable-rule spec.http[1].match[0]"],
    );
    check(
        &rules(
            "{match: [{uri: {prefix: /a}, method: {exact: GET}}], ROUTE}, {match: [{uri: {exact: /a}}], ROUTE}",
        ),
        &[],
    );
    check(
        &rules(
            "{match: [{headers: {x: {exact: a}}}], ROUTE}, {match: [{headers: {x: {exact: b}}}], ROUTE}",
        ),
        &[],
    );
    check(&rules("{match: [{port: 80}], ROUTE}, {match: [{uri: {exact: /x}}], ROUTE}"), &[]);
    check(&rules("{match: [{gateways: [gw]}], ROUTE}, {ROUTE}"), &[]);
}

#[test]
fn rules_out_of_reach_are_not_reported_twice() {
    let rules = |rules: &str| {
        let route = "route: [{destination: {host: a.example}}]";
        let rules = rules.replace("ROUTE", route);
        [entry("a", HTTP), service("v", &format!("{{hosts: [a.example], http: [{rules}]}}"))]
    };
    check(&rules("{ROUTE}, {match: [{uri: {prefix: /a}}], ROUTE}"), &[]);
    check(
        &rules("{match: [{uri: {prefix: /a}}], ROUTE}, {match: [{uri: {prefix: /a/b}}], ROUTE}"),
        &[],
    );
    let same = "{match: [{uri: {exact: /a}}], ROUTE}";
    check(&rules(&format!("{same}, {same}")), &[]);
}

#[test]
fn tls_in_tls() {
    let simple = "{host: a.example, trafficPolicy: {tls: {mode: SIMPLE}}}";
    check(&[entry("a", HTTPS), rule("r", simple)], &["double-tls spec.trafficPolicy.tls.mode"]);
    check(&[entry("a", HTTP), rule("r", simple)], &[]);
    let off = "{host: a.example, trafficPolicy: {tls: {mode: DISABLE}}}";
    check(&[entry("a", HTTPS), rule("r", off)], &[]);
    let both = "{hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}, \
                {number: 443, name: https, protocol: HTTPS}]}";
    let level = |number: u16| {
        let settings = format!("[{{port: {{number: {number}}}, tls: {{mode: SIMPLE}}}}]");
        rule("r", &format!("{{host: a.example, trafficPolicy: {{portLevelSettings: {settings}}}}}"))
    };
    check(&[entry("a", both), level(80)], &[]);
    check(
        &[entry("a", both), level(443)],
        &["double-tls spec.trafficPolicy.portLevelSettings[0].tls.mode"],
    );
}

#[test]
fn credentials() {
    let named = "{host: a.example, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}";
    check(
        &[entry("a", HTTP), rule("r", named)],
        &["credential-name-ignored spec.trafficPolicy.tls.credentialName"],
    );
    let files = "{host: a.example, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /there, privateKey: /gone}}}";
    check(
        &[entry("a", HTTP), rule("r", files)],
        &["missing-file spec.trafficPolicy.tls.privateKey"],
    );
}

#[test]
fn delegates() {
    let to = "{hosts: [a.example], http: [{match: [{uri: {prefix: /x}}], delegate: {name: d}}]}";
    check(&[entry("a", HTTP), service("v", to)], &["unknown-delegate spec.http[0].delegate.name"]);
    let rest = "{http: [{route: [{destination: {host: a.example}}]}]}";
    check(&[entry("a", HTTP), service("v", to), service("d", rest)], &[]);
}

#[test]
fn what_does_nothing_is_said() {
    let telemetry = document(
        "Telemetry",
        "t",
        "spec: {metrics: [{}], tracing: [{}], accessLogging: [{filter: {expression: 'true'}, \
         providers: [{name: envoy}, {name: otel}]}]}",
    )
    .replace("networking", "telemetry");
    check(
        &[telemetry],
        &[
            "no-effect spec.metrics",
            "no-effect spec.tracing",
            "no-effect spec.accessLogging[0].filter",
            "no-effect spec.accessLogging[0].providers[1].name",
        ],
    );
    let plain = entry(
        "a",
        "{hosts: [a.example], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: DNS}",
    );
    let policy = "{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}, \
                  retryBudget: {budgetInterval: 5s}}";
    let subset = "{name: s, trafficPolicy: {tunnel: {protocol: POST, targetHost: b.example, targetPort: 1}}}";
    let rule =
        rule("a", &format!("{{host: a.example, trafficPolicy: {policy}, subsets: [{subset}]}}"));
    let old = "{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], \
               tls: {mode: SIMPLE, credentialName: x, minProtocolVersion: TLSV1_0}}";
    let gateway = document("Gateway", "g", &format!("spec: {{servers: [{old}]}}"));
    let sidecar = document(
        "Sidecar",
        "s",
        "spec: {egress: [{hosts: ['*/*']}], inboundConnectionPool: {tcp: {maxConnections: 1}}}",
    );
    let found = find(&[plain, rule, gateway, sidecar]);
    let mut said = words(&found);
    said.retain(|one| one.starts_with("no-effect"));
    assert_eq!(
        said,
        [
            "no-effect spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
            "no-effect spec.trafficPolicy.retryBudget.budgetInterval",
            "no-effect spec.subsets[0].trafficPolicy.tunnel.protocol",
            "no-effect spec.servers[0].tls.minProtocolVersion",
            "no-effect spec.inboundConnectionPool",
        ],
        "{found:#?}"
    );
}

#[test]
fn a_direct_path_that_cannot_be() {
    let annotated = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: a\n  \
             annotations: {{egressd.io/path: direct}}\nspec: {spec}\n---\n"
        )
    };
    let spec = |protocol: &str| {
        format!(
            "{{hosts: [a.example], addresses: [10.0.0.1], resolution: STATIC, \
             ports: [{{number: 90, name: p, protocol: {protocol}}}], \
             endpoints: [{{address: 192.0.2.1}}]}}"
        )
    };
    check(&[annotated(&spec("TCP"))], &[]);
    let found = find(&[annotated(&spec("HTTP"))]);
    assert_eq!(words(&found), ["path-not-direct metadata.annotations[egressd.io/path]"]);
    let [one] = &*found else { panic!("{found:#?}") };
    assert_eq!((one.severity, one.line()), (egressd_model::Severity::Error, 5));
    assert_eq!(
        one.message,
        "port 90 of a.example cannot take the direct path: its requests are routed one by one"
    );
    assert!(one.help.is_some());
}
