//! Pods: only what a workloadSelector needs. Their other fields are Kubernetes' business.

use crate::decode::{At, written};
use crate::resource::Pod;
use crate::yaml::{Node, Value};

/// Reads a Pod; fields that do not parse count as not written.
pub(super) fn read(at: &At<'_>) -> Pod {
    let (spec, status) = (at.field("spec"), at.field("status"));
    let text = |at: &At<'_>| written(at).map(|text| text.value.to_owned());
    let ips = status.field("podIPs");
    let mut pod = Pod {
        ips: items(&ips)
            .filter_map(|(i, node)| text(&ips.item(i, node).field("ip"))?.parse().ok())
            .collect(),
        service_account: text(&spec.field("serviceAccountName")).unwrap_or_default(),
        node_name: text(&spec.field("nodeName")).unwrap_or_default(),
        ports: std::collections::BTreeMap::new(),
    };
    if pod.ips.is_empty() {
        pod.ips.extend(
            text(&status.field("podIP")).and_then(|ip| ip.parse::<std::net::IpAddr>().ok()),
        );
    }
    let containers = spec.field("containers");
    for (index, node) in items(&containers) {
        let container = containers.item(index, node);
        let ports = container.field("ports");
        for (index, node) in items(&ports) {
            let port = ports.item(index, node);
            let number = text(&port.field("containerPort")).and_then(|number| number.parse().ok());
            pod.ports.extend(text(&port.field("name")).zip(number));
        }
    }
    pod
}

fn items<'a>(at: &At<'a>) -> impl Iterator<Item = (usize, &'a Node<'a>)> {
    let items: &[Node<'_>] = match at.node().map(|node| &node.value) {
        Some(Value::List(items)) => items,
        Some(Value::Scalar(_) | Value::Map(_)) | None => &[],
    };
    items.iter().enumerate()
}
