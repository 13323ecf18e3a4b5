//! The table of `primitives.json` that is about gateways: which of a server's hosts the rules of a
//! namespace get. The other tables are `model`'s.

use std::collections::BTreeSet;
use std::fs;

use egressd_tables::{ChainAction, Options, Tables, VipAllocation};
use serde_json::{Value, json};

use crate::data::{mesh, model, node};
use crate::folder::{conformance, say};

#[test]
fn a_server_has_hosts_for_a_namespace() {
    let Some(folder) = conformance() else { return };
    let text = fs::read_to_string(folder.join("primitives.json")).unwrap();
    let tables: Value = serde_json::from_str(&text).unwrap();
    let rows = tables["TestNamesForNamespace"].as_array().unwrap();
    for row in rows {
        let wanted = row["want"].as_array().unwrap().iter().map(|host| host.as_str().unwrap());
        let wanted: BTreeSet<_> = wanted.map(str::to_owned).collect();
        assert_eq!(served(&row["hosts"], row["namespace"].as_str().unwrap()), wanted, "{row}");
    }
    say(&format_args!("primitives: TestNamesForNamespace: {0} of {0} rows agree", rows.len()));
}

/// The hosts of a gateway's server that a rule for every host gets.
fn served(hosts: &Value, namespace: &str) -> BTreeSet<String> {
    let port = json!({ "number": 80, "name": "http", "protocol": "HTTP" });
    let gateway = document(
        "Gateway",
        "elsewhere",
        &json!({
            "servers": [{ "port": port, "hosts": hosts }],
        }),
    );
    let rule = document(
        "VirtualService",
        namespace,
        &json!({
            "hosts": ["*"],
            "gateways": ["elsewhere/table"],
            "http": [{ "route": [{ "destination": { "host": "a.example" } }] }],
        }),
    );
    let model = model(&format!("{gateway}\n---\n{rule}\n"));
    let vips = VipAllocation::default();
    let tables = Tables::compile(&model, &mesh(""), &node(), &Options::default(), &vips);
    let chains = tables.gateway_servers().iter().flat_map(|server| &server.listener.chains);
    let routes = chains.filter_map(|chain| match &chain.action {
        ChainAction::Http(table) => Some(table),
        ChainAction::Tcp(_) => None,
    });
    let hosts = routes.flat_map(|table| &table.virtual_hosts);
    hosts.map(|host| host.domains[0].to_string()).collect()
}

fn document(kind: &str, namespace: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": { "name": "table", "namespace": namespace },
        "spec": spec,
    })
}
