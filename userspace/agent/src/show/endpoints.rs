//! Endpoints.

use egressd_model::value::EndpointAddress;
use egressd_tables::{Cluster, Endpoint, EndpointGroup, Tables};
use serde_json::{Map, Value, json};

use super::{Filter, Table};

/// The columns of `istioctl proxy-config endpoints`. Without a daemon nothing is known of health.
pub(super) fn table(tables: &Tables, filter: &Filter) -> Table {
    let mut table = Table::new(&["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]);
    for (cluster, _, endpoint) in chosen(tables, filter) {
        let unknown = || "-".to_owned();
        table.add([text(endpoint), unknown(), unknown(), cluster.name.to_string()]);
    }
    table
}

/// Every endpoint with its cluster.
pub(super) fn json(tables: &Tables, filter: &Filter) -> Value {
    let all = chosen(tables, filter).map(|(cluster, group, endpoint)| {
        let mut fields = object(group, endpoint);
        fields.insert("cluster".to_owned(), json!(*cluster.name));
        Value::Object(fields)
    });
    all.collect()
}

/// The endpoints of one cluster.
pub(super) fn of_cluster(cluster: &Cluster) -> Value {
    let groups = cluster.endpoints.iter();
    let all = groups.flat_map(|group| group.endpoints.iter().map(move |one| (group, one)));
    all.map(|(group, one)| Value::Object(object(group, one))).collect()
}

/// The addresses of one cluster, for filters.
pub(super) fn addresses(cluster: &Cluster) -> impl Iterator<Item = &EndpointAddress> {
    cluster.endpoints.iter().flat_map(|group| &group.endpoints).map(|endpoint| &endpoint.address)
}

fn chosen<'a>(
    tables: &'a Tables,
    filter: &'a Filter,
) -> impl Iterator<Item = (&'a Cluster, &'a EndpointGroup, &'a Endpoint)> {
    tables
        .clusters()
        .filter(|cluster| filter.cluster(&cluster.name, cluster.service()))
        .flat_map(|cluster| {
            cluster.endpoints.iter().flat_map(move |group| {
                group.endpoints.iter().map(move |endpoint| (&**cluster, group, endpoint))
            })
        })
        .filter(|(_, _, endpoint)| filter.addresses([&endpoint.address]))
}

fn object(group: &EndpointGroup, endpoint: &Endpoint) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("address", json!(endpoint.address.to_string()));
    if endpoint.port != 0 {
        put("port", json!(endpoint.port));
    }
    put("weight", json!(endpoint.weight));
    put("priority", json!(group.priority));
    if !group.locality.is_empty() {
        put("locality", json!(group.locality.to_string()));
        put("localityWeight", json!(group.weight));
    }
    if !endpoint.labels.is_empty() {
        put("labels", json!(*endpoint.labels));
    }
    if endpoint.mesh_tls {
        put("meshTls", json!(true));
    }
    if let Some(account) = &endpoint.service_account {
        put("serviceAccount", json!(**account));
    }
    if let Some(workload) = &endpoint.workload {
        put("workload", json!(**workload));
    }
    fields
}

/// `10.0.0.1:80`, `[::1]:80`, `name:80`, `unix:///run/x`.
fn text(endpoint: &Endpoint) -> String {
    match &endpoint.address {
        EndpointAddress::Ip(ip) => std::net::SocketAddr::new(*ip, endpoint.port).to_string(),
        EndpointAddress::Name(name) => format!("{name}:{}", endpoint.port),
        other @ (EndpointAddress::Unix(_) | EndpointAddress::Unset) => other.to_string(),
    }
}
