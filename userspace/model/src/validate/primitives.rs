//! Istio's small tables of host names, ports, durations, addresses and localities, from the conformance data.

use std::time::Duration;

use serde_json::Value;

use crate::decode::{At, Cx, Decode};
use crate::resource::{LocalityLoadBalancer, MeshConfig, ZoneAwareLoadBalancer};
use crate::validate::primitives::folder::{conformance, say};
use crate::validate::{domain, header, locality};
use crate::value::{HostPattern, IpRange};
use crate::{Diagnostic, Severity, parse, parse_mesh_config};

#[path = "../../../../tests/conformance/folder.rs"]
mod folder;

/// Runs every row of a table, and says how many there are.
fn each(table: &str, check: impl Fn(&Value)) {
    let Some(folder) = conformance() else { return };
    let text = std::fs::read_to_string(folder.join("primitives.json")).unwrap();
    let tables: Value = serde_json::from_str(&text).unwrap();
    let rows = tables[table].as_array().unwrap();
    for row in rows {
        check(row);
    }
    say(&format_args!("primitives: {table}: {0} of {0} rows agree", rows.len()));
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap()
}

fn host(row: &Value, key: &str) -> HostPattern {
    HostPattern::new(text(row, key))
}

fn hosts(row: &Value, key: &str) -> Vec<HostPattern> {
    row[key]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| HostPattern::new(host.as_str().unwrap()))
        .collect()
}

#[test]
fn names() {
    each("TestValidateFQDN", |row| {
        assert_eq!(domain::name(text(row, "fqdn")).is_ok(), row["valid"] == true, "{row}");
    });
    each("TestValidateWildcardDomain", |row| {
        let valid = text(row, "out").is_empty();
        assert_eq!(domain::wildcard_name(text(row, "in")).is_ok(), valid, "{row}");
    });
    each("TestValidateWildcardDomainForVirtualServiceBoundToGateway", |row| {
        let check = if row["sni"] == true { domain::generated_sni } else { domain::wildcard_name };
        assert_eq!(check(text(row, "in")).is_ok(), text(row, "out").is_empty(), "{row}");
    });
    each("TestValidatePortName", |row| {
        assert_eq!(domain::is_dns_label(text(row, "name")), row["valid"] == true, "{row}");
    });
}

#[test]
fn hosts_against_each_other() {
    each("TestNameMatches", |row| {
        assert_eq!(host(row, "a").overlaps(&host(row, "b")), row["out"] == true, "{row}");
    });
    each("TestNameSubsetOf", |row| {
        assert_eq!(host(row, "a").is_subset_of(&host(row, "b")), row["out"] == true, "{row}");
    });
    each("TestNamesIntersection", |row| {
        let common = HostPattern::intersection(&hosts(row, "a"), &hosts(row, "b"));
        assert_eq!(common, hosts(row, "intersection"), "{row}");
    });
    each("TestNamesSortOrder", |row| {
        let mut sorted = hosts(row, "in");
        sorted.sort_by(HostPattern::cmp_specific);
        assert_eq!(sorted, hosts(row, "want"), "{row}");
    });
    each("TestMoreSpecific", |row| {
        let order = host(row, "host1").cmp_specific(&host(row, "host2"));
        assert_eq!(order.is_le(), row["expected"] == true, "{row}");
    });
}

#[test]
fn addresses() {
    each("TestValidationIPAddress", |row| {
        assert_eq!(domain::is_ip(text(row, "addr")), row["ok"] == true, "{row}");
    });
    each("TestValidationIPSubnet", |row| {
        assert_eq!(IpRange::parse(text(row, "subnet")).is_ok(), row["ok"] == true, "{row}");
    });
}

#[test]
fn headers() {
    each("TestValidateHTTPHeaderName", |row| {
        assert_eq!(header::is_matchable(text(row, "name")), row["valid"] == true, "{row}");
    });
    each("TestValidateHTTPHeaderValue", |row| {
        let valid = row["expected"].is_null();
        assert_eq!(header::check_value(text(row, "input")).is_ok(), valid, "{row}");
    });
    each("TestStrictValidateHTTPHeaderName", |row| {
        let name = &row["name"];
        let policy = serde_json::json!({ "allowHeaders": [name] });
        let rule = serde_json::json!({ "corsPolicy": policy });
        assert_eq!(rule_errors(rule).is_empty(), row["valid"] == true, "{row}");
    });
}

/// The fields of one document that are wrong.
fn errors(kind: &str, spec: &Value) -> Vec<String> {
    let document = serde_json::json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": { "name": "table", "namespace": "default" },
        "spec": spec,
    });
    let file = parse("table.yaml", &document.to_string());
    let wrong = file.diagnostics().filter(|found| found.severity == Severity::Error);
    wrong.map(|found| found.field.clone()).collect()
}

/// The same of a VirtualService with this http rule.
fn rule_errors(mut rule: Value) -> Vec<String> {
    rule["route"] = serde_json::json!([{ "destination": { "host": "a.example" } }]);
    errors("VirtualService", &serde_json::json!({ "hosts": ["a.example"], "http": [rule] }))
}

#[test]
fn statuses() {
    each("TestValidateHTTPStatus", |row| {
        let abort = serde_json::json!({ "httpStatus": row["in"], "percentage": { "value": 1 } });
        let rule = serde_json::json!({ "fault": { "abort": abort } });
        assert_eq!(rule_errors(rule).is_empty(), row["valid"] == true, "{row}");
    });
}

#[test]
fn gateway_ports() {
    each("TestValidateServerPort", |row| {
        let server = serde_json::json!({ "port": row["in"], "bind": row["bind"], "hosts": ["*"] });
        let wrong = errors("Gateway", &serde_json::json!({ "servers": [server] }));
        let valid = !wrong.iter().any(|field| field.starts_with("spec.servers[0].port"));
        assert_eq!(valid, text(row, "out").is_empty(), "{row}: {wrong:?}");
    });
}

/// Reads one field of MeshConfig, whose rules the tables are about, and returns the findings.
fn mesh(field: &str, value: &Value) -> Vec<Diagnostic> {
    let settings = serde_json::json!({ field: value });
    match parse_mesh_config("mesh.yaml", &settings.to_string(), &[]) {
        Ok((_, diagnostics)) | Err(diagnostics) => diagnostics,
    }
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

#[test]
fn ports_and_durations() {
    each("TestValidatePort", |row| {
        // Zero switches the mesh's port off; everywhere else it is refused by the same function as here.
        let valid = row["value"] == true || row["key"] == 0;
        assert_eq!(has_error(&mesh("proxyHttpPort", &row["key"])), !valid, "{row}");
    });
    each("TestValidateDuration", |row| {
        let found = mesh("dnsRefreshRate", &row["duration"]);
        let absent = row["duration"].is_null();
        assert_eq!(has_error(&found), row["isValid"] == false && !absent, "{row}");
    });
    each("TestValidateConnectTimeout", |row| {
        assert_eq!(
            has_error(&mesh("connectTimeout", &row["duration"])),
            row["isValid"] == false,
            "{row}"
        );
    });
    each("TestValidateProtocolDetectionTimeout", |row| {
        let found = mesh("protocolDetectionTimeout", &row["duration"]);
        assert_eq!(has_error(&found), row["isValid"] == false, "{row}: {found:?}");
    });
    assert_eq!(MeshConfig::default().connect_timeout(), Duration::from_secs(10));
}

/// Reads a setting and runs its rule; `outlier` says whether the policy has outlier detection.
fn setting<T: Decode>(
    row: &Value,
    check: impl Fn(Option<&T>, bool, &At<'_>, &mut Cx),
) -> Vec<Diagnostic> {
    let text = row["in"].to_string();
    let chunk = crate::yaml::chunks(&text).remove(0);
    let (nodes, _, error) = crate::yaml::read(chunk);
    assert!(error.is_none(), "{error:?}");
    let mut cx = Cx::new(&"table".into());
    let at = At::root(&nodes[0]);
    let setting: Option<T> = Decode::decode(&at, &mut cx);
    check(setting.as_ref(), !row["outlier"].is_null(), &at, &mut cx);
    cx.finish()
}

#[test]
fn localities() {
    let verdict = |found: &[Diagnostic], row: &Value| {
        let warned = found.iter().any(|diagnostic| diagnostic.severity == Severity::Warning);
        assert_eq!(has_error(found), row["err"] == true, "{row}: {found:?}");
        assert_eq!(warned, row["warn"] == true, "{row}: {found:?}");
    };
    each("TestValidateLocalityLbSetting", |row| {
        verdict(&setting::<LocalityLoadBalancer>(row, locality::locality), row);
    });
    each("TestValidateZoneAwareLbSetting", |row| {
        verdict(&setting::<ZoneAwareLoadBalancer>(row, locality::zone_aware), row);
    });
    each("TestValidateLocalities", |row| {
        let list =
            row["localities"].as_array().unwrap().iter().map(|locality| locality.as_str().unwrap());
        assert_eq!(locality::overlap(list).is_ok(), row["valid"] == true, "{row}");
    });
}
