//! Rules that hand over to a VirtualService which is not there.

use std::collections::HashSet;

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::World;

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let services = world.subject.model.virtual_services();
    let known: HashSet<(&str, &str)> =
        services.iter().map(|one| (&*one.meta.namespace, &*one.meta.name)).collect();
    for service in services {
        for (index, rule) in service.http.iter().enumerate() {
            let Some(delegate) = &rule.delegate else { continue };
            let namespace = match delegate.namespace.as_str() {
                "" => &*service.meta.namespace,
                written => written,
            };
            let name = delegate.name.as_str();
            if !known.contains(&(namespace, name)) {
                let field = format!("spec.http[{index}].delegate.name");
                findings.warn(
                    "unknown-delegate",
                    Place::new(&service.meta, field, delegate.name.span),
                    format!("there is no VirtualService {namespace}/{name}: the rule does nothing"),
                    "add it, without `hosts` and `gateways`, or correct the name".to_owned(),
                );
            }
        }
    }
}
