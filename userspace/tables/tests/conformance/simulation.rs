//! Istio's own traffic cases (`simulation.json`), as far as a node's outbound side has them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::MeshConfig;
use egressd_tables::{Answers, Node, Options, Tables, VipAllocation, hashed_vips, requests};
use serde::Deserialize;
use serde_json::Value;

use crate::calls::CallRow;
use crate::data::{mesh, model, node};
use crate::folder::{conformance, say};

#[derive(Deserialize)]
struct Case {
    test: String,
    relevant: String,
    #[serde(default)]
    config: String,
    #[serde(default)]
    mesh: Value,
    proxy: Proxy,
    autoalloc_new: bool,
    calls: Option<Vec<Expectation>>,
}

#[derive(Deserialize)]
struct Proxy {
    labels: Option<BTreeMap<String, String>>,
    ns: String,
}

#[derive(Deserialize)]
struct Expectation {
    name: String,
    call: CallRow,
    expect: Expected,
}

#[derive(Deserialize)]
struct Expected {
    cluster: Option<String>,
    listener: Option<String>,
    virtual_host: Option<String>,
    route: Option<String>,
    error: Option<String>,
}

#[test]
fn outbound_cases_end_where_istio_says() {
    let Some(folder) = conformance() else { return };
    let text = fs::read_to_string(folder.join("simulation.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    let mut calls = 0_usize;
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| case.relevant == "sidecar-outbound") {
        let tables = compile(case);
        for one in case.calls.iter().flatten() {
            calls += 1;
            let answer = one.call.answer(&tables);
            let host = answer.request.as_ref().and_then(|request| request.virtual_host.as_ref());
            let result = answer.result();
            let cluster = result.strip_suffix("(inline route)").unwrap_or(&result);
            let listener = answer.listener();
            let seen = [
                (&one.expect.cluster, cluster),
                (&one.expect.listener, &*listener),
                (&one.expect.virtual_host, host.map_or("", |host| &host.name)),
                (&one.expect.route, answer.route()),
            ];
            assert!(one.expect.error.is_none(), "{}: no outbound case expects an error", case.test);
            for (expected, found) in seen {
                if expected.as_deref().is_some_and(|expected| expected != found) {
                    wrong.push(format!("{} {}: {expected:?}, got {found}", case.test, one.name));
                }
            }
        }
    }
    say(&format_args!(
        "simulation: {} of {calls} outbound expectations agree",
        calls.saturating_sub(wrong.len())
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(calls > 0);
}

fn compile(case: &Case) -> Tables {
    let model = model(&case.config);
    let mesh = if case.mesh.is_null() {
        MeshConfig::default()
    } else {
        mesh(&with_zero_values(&case.mesh).to_string())
    };
    let or_default = |namespace: &str| match namespace {
        "" => "default".to_owned(),
        namespace => namespace.to_owned(),
    };
    let node = Node {
        namespace: or_default(&case.proxy.ns),
        labels: case.proxy.labels.clone().unwrap_or_default(),
        ..node()
    };
    // The cases of the older allocator run with DNS capture, the others without.
    let old = !case.autoalloc_new;
    let options = Options { dns_capture: old, answers: Answers::Istio, ..Options::default() };
    let vips = if old { hashed(&model) } else { VipAllocation::default() };
    Tables::compile(&model, &mesh, &node, &options, &vips)
}

/// The settings were printed by Go, which leaves out the first value of an enumeration.
fn with_zero_values(settings: &Value) -> Value {
    let mut settings = settings.clone();
    if let Some(policy) = settings.get_mut("outboundTrafficPolicy").and_then(Value::as_object_mut) {
        policy.entry("mode").or_insert_with(|| Value::from("REGISTRY_ONLY"));
    }
    settings
}

/// What Istio's older allocator gives to each ServiceEntry.
fn hashed(model: &Model) -> VipAllocation {
    let wanted = requests(model);
    let hosts = wanted
        .iter()
        .flat_map(|request| request.hosts.iter().map(|host| (&*request.entry.namespace, &**host)));
    let pairs = hashed_vips(hosts);
    let mut vips = VipAllocation::default();
    for request in &wanted {
        for host in &request.hosts {
            let pair = pairs[&(&*request.entry.namespace, &**host)];
            vips.given.entry(request.entry.clone()).or_default().insert(Arc::clone(host), pair);
        }
    }
    vips
}
