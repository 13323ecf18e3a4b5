//! Gateways that a VirtualService names and that do not exist.

use egressd_model::resource::{Meta, Resource, VirtualService};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::World;

/// The name that stands for the proxies beside workloads: for this node.
pub(super) const MESH: &str = "mesh";

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for service in world.subject.model.virtual_services() {
        for (index, written) in service.gateways.iter().enumerate() {
            if written.value == MESH {
                continue;
            }
            let (namespace, name) = parts(&written.value, &service.meta);
            let others = world.gateways_named(name);
            if !others.contains(&namespace) {
                let place =
                    Place::new(&service.meta, format!("spec.gateways[{index}]"), written.span);
                tell(service, place, (namespace, name), others, findings);
            }
        }
    }
}

fn tell(
    service: &Resource<VirtualService>,
    place: Place<'_>,
    (namespace, name): (&str, &str),
    others: &[&str],
    findings: &mut Findings,
) {
    let help = match others {
        [] => format!("add a Gateway {name} to namespace {namespace}, or remove the name"),
        [other] => format!("write `{other}/{name}`: that Gateway exists"),
        several => {
            let names: Vec<_> = several.iter().map(|other| format!("`{other}/{name}`")).collect();
            format!("one of these exists: {}", names.join(", "))
        }
    };
    let why = if namespace == &*service.meta.namespace {
        "; a name without a namespace is of the VirtualService's own"
    } else {
        ""
    };
    let message = format!("there is no Gateway {namespace}/{name}{why}");
    findings.warn("unknown-gateway", place, message, help);
}

/// Namespace and name of a gateway as a VirtualService writes it: `name`, `namespace/name`, or the old
/// `name.namespace.svc.…`.
pub(super) fn parts<'a>(written: &'a str, own: &'a Meta) -> (&'a str, &'a str) {
    if let Some((namespace, name)) = written.split_once('/') {
        return (if namespace == "." { &own.namespace } else { namespace }, name);
    }
    let mut labels = written.split('.');
    let name = labels.next().unwrap_or(written);
    match labels.next().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => (namespace, name),
        None => (&own.namespace, name),
    }
}
