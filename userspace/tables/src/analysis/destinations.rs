//! What VirtualServices name as hosts and destinations, and whether it is there, for whom, and under which name.

use std::collections::BTreeSet;

use egressd_model::Spanned;
use egressd_model::resource::{Destination, Resource, VirtualService};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::gateways::{MESH, parts};
use crate::analysis::world::{Entry, Found, World, port_of};

/// A destination, where it stands, and the gateways (or `mesh`) whose traffic goes there.
struct Used<'a> {
    field: String,
    destination: &'a Spanned<Destination>,
    gateways: BTreeSet<&'a str>,
}

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for service in world.subject.model.virtual_services() {
        let mut shorts = Shorts::default();
        hosts(world, service, &mut shorts, findings);
        let mut told = BTreeSet::new();
        for used in destinations(service) {
            let Destination { host, subset, .. } = &used.destination.value;
            let number = used.destination.port_number();
            if told.insert((host.as_str(), subset.as_str(), number, used.gateways.clone())) {
                let found = world.find(host.as_str(), &service.meta.namespace);
                shorts.tell(&found, &used.field, host.span, service, findings);
                destination(world, service, &used, &found, findings);
            }
        }
    }
}

/// Hosts that no service has: such rules act on port 80 alone (semantics.md §3).
fn hosts<'a>(
    world: &World<'a>,
    service: &'a Resource<VirtualService>,
    shorts: &mut Shorts,
    findings: &mut Findings,
) {
    if !service.applies_to_mesh() {
        return;
    }
    let namespace = &*service.meta.namespace;
    for (index, host) in service.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        let place = || Place::new(&service.meta, field.clone(), host.span);
        let found = world.find(host.as_str(), namespace);
        shorts.tell(&found, &field, host.span, service, findings);
        let declared = || found.entries.iter().chain(world.under(host.as_str()).flatten());
        let Some(first) = declared().next() else {
            let covering = match world.wildcard_over(host.as_str()) {
                Some(wide) => format!("; {} is a service of its own", wide.host),
                None => String::new(),
            };
            findings.warn(
                "unknown-host",
                place(),
                format!(
                    "no ServiceEntry has the host {}{covering}: rules for it act on port 80 only, where another \
                     service opens that port for HTTP",
                    host.value
                ),
                format!("add a ServiceEntry with the host {}", host.value),
            );
            continue;
        };
        if declared().all(|one| !world.sees(namespace, one.entry)) {
            not_exported(first, namespace, place(), findings);
        }
    }
}

/// A host that the namespace of a rule does not see.
pub(super) fn not_exported(
    entry: &Entry<'_>,
    namespace: &str,
    place: Place<'_>,
    findings: &mut Findings,
) {
    let (host, key) = (entry.host, entry.entry.meta.key());
    findings.warn(
        "not-exported",
        place,
        format!(
            "{host} of ServiceEntry {key} is not exported to namespace {namespace}, where this rule is"
        ),
        format!("add {namespace:?} to the entry's `exportTo`, or move this rule"),
    );
}

fn destination(
    world: &World<'_>,
    service: &Resource<VirtualService>,
    used: &Used<'_>,
    found: &Found<'_, '_>,
    findings: &mut Findings,
) {
    let Destination { host, subset, port } = &used.destination.value;
    let place =
        |field: &str, span| Place::new(&service.meta, format!("{}.{field}", used.field), span);
    let Some(first) = found.entries.first() else {
        findings.warn(
            "unknown-host",
            place("host", host.span),
            unknown(world, found),
            format!("add a ServiceEntry with the host {}", found.host),
        );
        return;
    };
    for (client, whose) in clients(world, service, used) {
        if found.entries.iter().all(|one| !world.sees(client, one.entry)) {
            findings.warn(
                "not-exported",
                place("host", host.span),
                format!(
                    "{} of ServiceEntry {} is not exported to namespace {client}, {whose}",
                    found.host,
                    first.entry.meta.key()
                ),
                format!("add {client:?} to the entry's `exportTo`"),
            );
        }
    }
    if let Some(port) = port {
        let number = port.number.value;
        if found.entries.iter().all(|one| port_of(one.entry, number).is_none()) {
            let known: BTreeSet<u16> = found
                .entries
                .iter()
                .flat_map(|one| one.entry.ports.iter().map(|port| port.number.value))
                .collect();
            let known: Vec<_> = known.iter().map(u16::to_string).collect();
            findings.warn(
                "unknown-port",
                place("port.number", port.number.span),
                format!("{} has no port {number}: nothing can be sent there (503 NC)", found.host),
                format!("its ports are {}", known.join(", ")),
            );
        }
    }
    if !subset.is_empty() {
        let rules = || world.rules_over(&found.host).chain(world.rules_over(host.as_str()));
        let mut names = rules().flat_map(|rule| &rule.subsets);
        if !names.any(|known| known.name.value == subset.value) {
            findings.warn(
                "unknown-subset",
                place("subset", subset.span),
                format!("no DestinationRule for {} has the subset {subset} (503 NC)", found.host),
                "define it under `subsets` of a DestinationRule for this host".to_owned(),
            );
        }
    }
}

fn unknown(world: &World<'_>, found: &Found<'_, '_>) -> String {
    let covering = match world.wildcard_over(&found.host) {
        Some(wide) => format!(" ({} is a service of its own)", wide.host),
        None => String::new(),
    };
    format!(
        "no ServiceEntry has the host {}{covering}: requests are answered 503 and connections closed (NC)",
        found.host
    )
}

/// The namespaces from which a destination is used, and in which words.
fn clients<'a>(
    world: &World<'a>,
    service: &'a Resource<VirtualService>,
    used: &Used<'a>,
) -> Vec<(&'a str, String)> {
    let exports = world.subject.mesh.default_virtual_service_export_to();
    let own = &*service.meta.namespace;
    let node = &*world.subject.node.namespace;
    let mut clients = Vec::new();
    for gateway in &used.gateways {
        if *gateway == MESH {
            clients.push(match service.export_to.is_visible(own, node, &exports) {
                true => (node, "the namespace of this node".to_owned()),
                false => (own, "whose nodes alone this rule is for".to_owned()),
            });
            continue;
        }
        let (namespace, name) = parts(gateway, &service.meta);
        // Where the name is wrong, the Gateway that was meant, if that is clear.
        let namespace = match world.gateways_named(name) {
            known if known.contains(&namespace) => namespace,
            [only] => only,
            _ => continue,
        };
        clients.push((namespace, format!("where Gateway {namespace}/{name} is")));
    }
    clients
}

/// Every destination of a VirtualService in the order of the text.
fn destinations(service: &Resource<VirtualService>) -> Vec<Used<'_>> {
    let mut all = Vec::new();
    let written = &service.gateways;
    for (index, rule) in service.http.iter().enumerate() {
        let own = rule.matches.iter().map(|one| one.gateways.as_slice());
        let gateways = gateways(written, own);
        let rule_field = format!("spec.http[{index}]");
        let mut add = |field: String, destination| {
            let field = format!("{rule_field}.{field}");
            all.push(Used { field, destination, gateways: gateways.clone() });
        };
        for (index, route) in rule.route.iter().enumerate() {
            add(format!("route[{index}].destination"), &route.destination);
        }
        if let Some(mirror) = &rule.mirror {
            add("mirror".to_owned(), mirror);
        }
        for (index, mirror) in rule.mirrors.iter().enumerate() {
            add(format!("mirrors[{index}].destination"), &mirror.destination);
        }
    }
    for (index, rule) in service.tls.iter().enumerate() {
        let gateways = gateways(written, rule.matches.iter().map(|one| one.gateways.as_slice()));
        for (route_index, route) in rule.route.iter().enumerate() {
            let field = format!("spec.tls[{index}].route[{route_index}].destination");
            let gateways = gateways.clone();
            all.push(Used { field, destination: &route.destination, gateways });
        }
    }
    for (index, rule) in service.tcp.iter().enumerate() {
        let gateways = gateways(written, rule.matches.iter().map(|one| one.gateways.as_slice()));
        for (route_index, route) in rule.route.iter().enumerate() {
            let field = format!("spec.tcp[{index}].route[{route_index}].destination");
            let gateways = gateways.clone();
            all.push(Used { field, destination: &route.destination, gateways });
        }
    }
    all
}

/// The gateways that a rule is for: those of its conditions, or else of the resource, or else the mesh.
pub(super) fn gateways<'a>(
    resource: &'a [Spanned<String>],
    conditions: impl Iterator<Item = &'a [Spanned<String>]>,
) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    let mut any = false;
    for own in conditions {
        any = true;
        all.extend(or_mesh(if own.is_empty() { resource } else { own }));
    }
    if !any {
        all.extend(or_mesh(resource));
    }
    all
}

fn or_mesh(names: &[Spanned<String>]) -> impl Iterator<Item = &str> {
    let mesh = names.is_empty().then_some(MESH);
    names.iter().map(|name| name.value.as_str()).chain(mesh)
}

/// Names without a dot that are taken as written: said once for each name in a resource.
#[derive(Default)]
pub(super) struct Shorts(BTreeSet<String>);

impl Shorts {
    fn tell(
        &mut self,
        found: &Found<'_, '_>,
        field: &str,
        span: egressd_model::Span,
        service: &Resource<VirtualService>,
        findings: &mut Findings,
    ) {
        if is_short(found) && self.0.insert(found.host.to_string()) {
            let field =
                if field.ends_with("destination") { format!("{field}.host") } else { field.into() };
            short(found, Place::new(&service.meta, field, span), findings);
        }
    }
}

/// Whether a name without a dot is literally the host of a service.
pub(super) fn is_short(found: &Found<'_, '_>) -> bool {
    found.expanded.as_ref().is_some_and(|name| *name != found.host) && !found.entries.is_empty()
}

pub(super) fn short(found: &Found<'_, '_>, place: Place<'_>, findings: &mut Findings) {
    let (Some(name), Some(first)) = (&found.expanded, found.entries.first()) else { return };
    findings.inform(
        "short-host",
        place,
        format!(
            "Istio would expand {} to {name}; here it is the host of ServiceEntry {}",
            found.host,
            first.entry.meta.key()
        ),
        "give the service a name with a dot, so that it means the same everywhere".to_owned(),
    );
}
