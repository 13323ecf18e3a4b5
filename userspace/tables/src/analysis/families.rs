//! Rules for one family of protocols on hosts whose ports are all of another: they never act (semantics.md §3).

use std::collections::BTreeMap;

use egressd_model::resource::{Resource, VirtualService};
use egressd_model::value::{Protocol, ProtocolFamily};

use crate::analysis::destinations::gateways;
use crate::analysis::findings::{Findings, Place};
use crate::analysis::gateways::MESH;
use crate::analysis::world::World;

/// The ports of the hosts of a VirtualService, with what is spoken there.
type Ports<'a> = BTreeMap<u16, Vec<(&'a str, Protocol)>>;

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for service in world.subject.model.virtual_services() {
        let ports = ports(world, service);
        if service.applies_to_mesh() && !ports.is_empty() {
            http(service, &ports, findings);
            tls(service, &ports, findings);
            tcp(service, &ports, findings);
        }
    }
}

fn ports<'a>(world: &World<'a>, service: &'a Resource<VirtualService>) -> Ports<'a> {
    let mut ports = Ports::new();
    for host in &service.hosts {
        let found = world.find(host.as_str(), &service.meta.namespace);
        let under = world.under(host.as_str()).flatten();
        for one in found.entries.iter().chain(under) {
            for port in &one.entry.ports {
                let spoken = (one.host.as_str(), port.protocol.value);
                ports.entry(port.number.value).or_default().push(spoken);
            }
        }
    }
    ports
}

fn http(service: &Resource<VirtualService>, ports: &Ports<'_>, findings: &mut Findings) {
    let on_mesh: Vec<_> = service
        .http
        .iter()
        .enumerate()
        .filter(|(_, rule)| {
            let own = rule.matches.iter().map(|one| one.gateways.as_slice());
            gateways(&service.gateways, own).contains(MESH)
        })
        .collect();
    let Some((first, rule)) = on_mesh.first() else { return };
    if !ports.values().flatten().any(|(_, protocol)| takes_http(*protocol)) {
        let place = Place::new(&service.meta, format!("spec.http[{first}]"), rule.span);
        let which =
            if on_mesh.len() == 1 { "this http rule never acts" } else { "http rules never act" };
        return tell_http(which, place, ports, findings);
    }
    for (index, rule) in on_mesh {
        for (match_index, one) in rule.matches.iter().enumerate() {
            let number = one.port.value;
            let field = format!("spec.http[{index}].match[{match_index}].port");
            let place = || Place::new(&service.meta, field.clone(), one.port.span);
            match ports.get_key_value(&number) {
                _ if number == 0 => {}
                None => findings.warn(
                    "unknown-port",
                    place(),
                    format!(
                        "no service of these hosts has port {number}: the condition never holds"
                    ),
                    format!("the ports are {}", list(ports)),
                ),
                Some((_, spoken)) if spoken.iter().any(|(_, p)| takes_http(*p)) => {}
                Some((number, spoken)) => {
                    let only = Ports::from([(*number, spoken.clone())]);
                    tell_http("this condition never holds", place(), &only, findings);
                }
            }
        }
    }
}

fn tell_http(which: &str, place: Place<'_>, ports: &Ports<'_>, findings: &mut Findings) {
    let Some((number, host, protocol)) = ports
        .iter()
        .find_map(|(number, all)| all.first().map(|(host, protocol)| (number, host, protocol)))
    else {
        return;
    };
    if protocol.is_tls() {
        findings.warn(
            "http-rule-on-tls-port",
            place,
            format!("{which}: {host} has no port for HTTP, and what passes through port {number} ({protocol}) is TLS"),
            format!(
                "let the application use http://{host}: port 80 with `protocol: HTTP` and `targetPort: {number}` in \
                 the ServiceEntry, and a DestinationRule for {host} with `trafficPolicy.tls.mode: SIMPLE`"
            ),
        );
    } else {
        findings.warn(
            "http-rule-on-tcp-port",
            place,
            format!("{which}: port {number} of {host} is {protocol}, where requests are not seen"),
            "declare the port as HTTP if HTTP is spoken on it, or write tcp rules".to_owned(),
        );
    }
}

fn tls(service: &Resource<VirtualService>, ports: &Ports<'_>, findings: &mut Findings) {
    let acts = |protocol: Protocol| protocol.is_tls() || protocol.family() == ProtocolFamily::Unset;
    let Some(rule) = service.tls.first() else { return };
    if !ports.values().flatten().any(|(_, protocol)| acts(*protocol)) {
        findings.warn(
            "tls-rule-without-tls-port",
            Place::new(&service.meta, "spec.tls[0]", rule.span),
            format!("tls rules never act: none of the ports {} is HTTPS or TLS", list(ports)),
            "declare the port as TLS if TLS is spoken on it, or write http or tcp rules".to_owned(),
        );
    }
}

fn tcp(service: &Resource<VirtualService>, ports: &Ports<'_>, findings: &mut Findings) {
    let acts = |protocol: Protocol| {
        matches!(protocol.family(), ProtocolFamily::Tcp | ProtocolFamily::Unset)
    };
    let Some(rule) = service.tcp.first() else { return };
    if !ports.values().flatten().any(|(_, protocol)| acts(*protocol)) {
        findings.warn(
            "tcp-rule-without-tcp-port",
            Place::new(&service.meta, "spec.tcp[0]", rule.span),
            format!("tcp rules never act: none of the ports {} is TCP", list(ports)),
            "write http rules for HTTP ports and tls rules for HTTPS and TLS ports".to_owned(),
        );
    }
}

fn takes_http(protocol: Protocol) -> bool {
    matches!(protocol.family(), ProtocolFamily::Http | ProtocolFamily::Unset)
}

/// `80 (HTTP), 443 (HTTPS)`.
fn list(ports: &Ports<'_>) -> String {
    let one = |(number, spoken): (&u16, &Vec<(&str, Protocol)>)| {
        let protocol = spoken.first().map_or("", |(_, protocol)| protocol.as_str());
        if protocol.is_empty() { number.to_string() } else { format!("{number} ({protocol})") }
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}
