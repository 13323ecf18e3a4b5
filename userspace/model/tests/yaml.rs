//! What a text means as YAML: Kubernetes' reading of it, and limits.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use expect_test::{Expect, expect};

use egressd_model::resource::{ClientTlsMode, MeshPolicyMode, OnProxyDown, Resolution};
use egressd_model::{MAX_DEPTH, Model, Verdict, load, parse, parse_bytes, parse_mesh_config};

fn findings(text: &str, expected: Expect) {
    let file = parse("x.yaml", text);
    expected.assert_eq(
        &file.diagnostics().map(|diagnostic| format!("{diagnostic}\n")).collect::<String>(),
    );
}

fn model(text: &str) -> Model {
    load([("x.yaml", text)]).unwrap()
}

const ENTRY: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: a
spec:
  hosts: [a.example.com]
  addresses: [1.2.3.4, 001:db8::]
  resolution: NONE
";

#[test]
fn a_flow_list_is_read_as_kubernetes_reads_it() {
    let model = model(ENTRY);
    let addresses: Vec<String> =
        model.service_entries()[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["1.2.3.4", "1:db8::"]);
}

#[test]
fn line_ends_and_byte_order_marks_change_nothing() {
    let plain = model(ENTRY);
    assert_eq!(model(&ENTRY.replace('\n', "\r\n")), plain);
    assert_eq!(model(&format!("\u{feff}{ENTRY}")), plain);
    assert_eq!(model(&format!("\u{feff}---\n{ENTRY}...\n")), plain);
    let marked = parse("x.yaml", "\u{feff}a: é\nkind: é\napiVersion: ü");
    let diagnostic = marked.diagnostics().next().unwrap();
    assert_eq!((diagnostic.line(), diagnostic.bytes().start), (1, 3));
}

#[test]
fn json_is_yaml() {
    let model = model(
        r#"{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"a"},
	"spec":{"host":"a.example.com","trafficPolicy":{"loadBalancer":{"consistentHash":{"httpHeaderName":"x",
	"ringHash":{"minimumRingSize":"2048"}}},"tls":{"mode":"SIMPLE"}}}}"#,
    );
    let rule = &model.destination_rules()[0];
    let policy = rule.traffic_policy.as_ref().unwrap();
    assert_eq!(policy.tls.as_ref().unwrap().mode.value, ClientTlsMode::Simple);
    let hash = policy.load_balancer.as_ref().unwrap().consistent_hash.as_ref().unwrap();
    assert_eq!(hash.ring_hash.as_ref().unwrap().minimum_ring_size.value, 2048);
}

#[test]
fn anchors_and_merge_keys() {
    let model = model(
        "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - &one {address: 10.0.0.1, weight: 2, labels: {v: x}}
  - <<: *one
    address: 10.0.0.2
  - <<: [{weight: 7}, *one]
",
    );
    let endpoints = &model.service_entries()[0].endpoints;
    let shown: Vec<String> = endpoints
        .iter()
        .map(|endpoint| format!("{} {}", endpoint.address, endpoint.weight))
        .collect();
    assert_eq!(shown, ["10.0.0.1 2", "10.0.0.2 2", "10.0.0.1 7"]);
}

#[test]
fn aliases_do_not_explode() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let last = level - 1;
        text += &format!(
            "a{level}: &a{level} [*a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}]\n"
        );
    }
    findings(
        &text,
        expect![[r#"
            x.yaml:6:30: error[syntax]: anchors and aliases make more than 100000 copies
        "#]],
    );
    findings(
        "a: &a [*a]\n",
        expect![[r#"
        x.yaml:1:8: error[syntax]: an alias inside the very node that it stands for
    "#]],
    );
    findings(
        "exportTo: [*]\n",
        expect![[r#"
            x.yaml:1:12: error[syntax]: not YAML: while scanning an anchor or alias, did not find expected alphabetic or numeric character
              help: put `*` in quotes: alone it begins an alias
        "#]],
    );
}

#[test]
fn nesting_has_a_limit() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(parse("x", &deep(MAX_DEPTH)).diagnostics().next().unwrap().code, "wrong-type");
    assert_eq!(parse("x", &deep(MAX_DEPTH + 1)).diagnostics().next().unwrap().code, "syntax");
    assert_eq!(parse("x", &deep(100_000)).verdict(), Verdict::Reject);
    let block: String = (0..1000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert_eq!(parse("x", &block).diagnostics().next().unwrap().code, "syntax");
}

#[test]
fn bytes_that_are_no_text() {
    let file = parse_bytes("x", b"a: 1\nb: \xff\n");
    let shown: String = file.diagnostics().map(ToString::to_string).collect();
    expect![[r#"
        x:2:1: error[not-utf8]: invalid utf-8 sequence of 1 bytes from index 8
          help: save the file as UTF-8"#]]
    .assert_eq(&shown);
}

#[test]
fn nulls_count_as_not_written_but_not_in_lists() {
    let text = ENTRY.replace(
        "resolution: NONE",
        "resolution: NONE\n  exportTo: ~\n  endpoints:\n  ports: null",
    );
    assert_eq!(model(&text), model(ENTRY));
    findings(
        &ENTRY.replace("resolution: NONE", "resolution: NONE\n  exportTo: [~]"),
        expect![[r#"
            x.yaml:9:14: error[wrong-type]: spec.exportTo[0]: an item is empty (null)
              help: put `~` in quotes: alone it means null
        "#]],
    );
}

#[test]
fn words_that_yaml_takes_for_something_else() {
    findings(
        &ENTRY.replace(
            "name: a",
            "name: on\n  labels: {version: 1.0, ready: yes, none: ~, zip: 007, ok: \"1\"}",
        ),
        expect![[r#"
            x.yaml:4:9: error[wrong-type]: metadata.name: expected a string, found the boolean on
              help: put it in quotes: "on"
            x.yaml:5:21: error[wrong-type]: metadata.labels[version]: expected a string, found the number 1.0
              help: put it in quotes: "1.0"
            x.yaml:5:33: error[wrong-type]: metadata.labels[ready]: expected a string, found the boolean yes
              help: put it in quotes: "yes"
            x.yaml:5:52: error[wrong-type]: metadata.labels[zip]: expected a string, found the number 007
              help: put it in quotes: "007"
        "#]],
    );
}

#[test]
fn the_oldest_resource_comes_first() {
    let named = |name: &str, namespace: &str, time: &str| {
        let time =
            if time.is_empty() { String::new() } else { format!("\n  creationTimestamp: {time}") };
        ENTRY.replace("name: a", &format!("name: {name}\n  namespace: {namespace}{time}"))
    };
    let texts = [
        named("c", "n2", "2024-05-01T12:00:00Z"),
        named("b", "n1", "2024-05-01T12:00:00Z"),
        named("a", "n1", "2024-05-01T14:00:00+02:00"),
        named("z", "n1", "2023-01-01T00:00:00.5Z"),
        named("v", "n2", ""),
        named("x", "n9", ""),
    ];
    let model = load(texts.iter().map(|text| ("x.yaml", text.as_str()))).unwrap();
    let order: Vec<String> =
        model.service_entries().iter().map(|entry| entry.meta.key().to_string()).collect();
    assert_eq!(order, ["n2/v", "n9/x", "n1/z", "n1/a", "n1/b", "n2/c"]);
}

#[test]
fn one_resource_twice() {
    let found = load([("b.yaml", ENTRY), ("a.yaml", ENTRY)]).unwrap_err();
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    expect![[r#"
        b.yaml:4:9: error[duplicate-resource]: metadata.name: ServiceEntry default/a is already defined in a.yaml:4
          help: give one of them another name or namespace"#]].assert_eq(&shown.join("\n"));
}

#[test]
fn mesh_settings_inside_another_file() {
    let text = "\
node: {namespace: default}
meshConfig:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  connectTimeout: 3s
  ingressClass: istio
  defaultConfig:
    concurrency: 2
    proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}
";
    let (mesh, findings) = parse_mesh_config("egressd.yaml", text, &["meshConfig"]).unwrap();
    assert_eq!(mesh.outbound_traffic_policy.mode(), MeshPolicyMode::RegistryOnly);
    assert_eq!(mesh.connect_timeout().as_secs(), 3);
    assert_eq!((mesh.dns_capture(), mesh.dns_auto_allocate()), (Some(true), None));
    assert!(findings.is_empty());
    let (mesh, _) = parse_mesh_config("egressd.yaml", "node: {}\n", &["meshConfig"]).unwrap();
    assert_eq!(mesh.outbound_traffic_policy.mode(), MeshPolicyMode::AllowAny);
    let wrong = text
        .replace("REGISTRY_ONLY", "REGISTRY")
        .replace("3s", "2h")
        .replace("ingressClass", "ingresClass");
    let found = parse_mesh_config("egressd.yaml", &wrong, &["meshConfig"]).unwrap_err();
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    expect![[r#"
        egressd.yaml:3:33: error[unknown-value]: meshConfig.outboundTrafficPolicy.mode: unknown value "REGISTRY"
          help: one of REGISTRY_ONLY, ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS
        egressd.yaml:5:3: error[unknown-field]: meshConfig.ingresClass: unknown field `ingresClass`
          help: known fields: outboundTrafficPolicy, connectTimeout, tcpKeepalive, accessLogFile, accessLogFormat, accessLogEncoding, protocolDetectionTimeout, defaultServiceExportTo, defaultVirtualServiceExportTo, defaultDestinationRuleExportTo, localityLbSetting, zoneAwareLbSetting, defaultHttpRetryPolicy, defaultTrafficPolicy, proxyHttpPort, dnsRefreshRate, rootNamespace, h2UpgradePolicy, pathNormalization, trustDomain, defaultConfig, enableAutoMtls
        egressd.yaml:4:19: error[out-of-range]: meshConfig.connectTimeout: 7200s is too long: at most 1h"#]].assert_eq(&shown.join("\n"));
}

#[test]
fn status_and_annotations_are_read() {
    let text = ENTRY
        .replace("resolution: NONE", "resolution: DNS")
        .replace("  addresses: [1.2.3.4, 001:db8::]\n", "")
        + "status:\n  addresses:\n  - {value: 240.240.0.1, host: a.example.com}\n  - {value: nonsense}\n  whatever: 1\n";
    let text =
        text.replace("name: a", "name: a\n  annotations: {egressd.io/on-proxy-down: reject}");
    let model = model(&text);
    let entry = &model.service_entries()[0];
    assert_eq!(entry.assigned.len(), 1);
    assert_eq!(entry.assigned[0].address.to_string(), "240.240.0.1");
    assert_eq!(entry.meta.on_proxy_down(), Some(OnProxyDown::Reject));
    assert_eq!(entry.resolution.value, Resolution::Dns);
    assert_eq!((entry.hosts[0].span.line, entry.hosts[0].span.column), (7, 11));
}
