//! Ports that two services fight for: what compiling left out.

use std::collections::BTreeSet;

use egressd_model::resource::{Resource, ServiceEntry, VirtualService};
use egressd_model::value::HostPattern;

use crate::analysis::findings::{Findings, Place};
use crate::analysis::owners::why_older;
use crate::analysis::world::{World, port_of};
use crate::{Bind, Conflict, Listener, Service};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let mut told = BTreeSet::new();
    for listener in world.subject.tables.listeners() {
        for conflict in &listener.conflicts {
            tell(world, &listener, conflict, &mut told, findings);
        }
    }
}

fn tell<'w>(
    world: &'w World<'_>,
    listener: &Listener,
    conflict: &Conflict,
    told: &mut BTreeSet<(u32, u32, u16)>,
    findings: &mut Findings,
) {
    let tables = world.subject.tables;
    // A service with several addresses loses all of them to the same winner.
    if !told.insert((conflict.winner.0, conflict.loser.0, listener.port)) {
        return;
    }
    let (winner, loser) = (tables.service(conflict.winner), tables.service(conflict.loser));
    let (Some(winner), Some(loser)) = (winner, loser) else { return };
    let entry = |service: &Service| -> Option<&'w Resource<ServiceEntry>> {
        let declared = service.port(listener.port).map(|port| &port.entry);
        let key = declared.or(service.entries.first())?;
        let mut entries = world.declared(&service.host).iter().map(|one| one.entry);
        entries.find(|entry| entry.meta.key() == *key)
    };
    let (Some(first), Some(second)) = (entry(winner), entry(loser)) else { return };
    if are_routed_together(world, winner, loser) {
        return;
    }
    let place = match port_of(second, listener.port) {
        Some((index, port)) => Place::new(&second.meta, format!("spec.ports[{index}]"), port.span),
        None => Place::new(&second.meta, "spec.ports", egressd_model::Span::default()),
    };
    let on = match listener.bind {
        Bind::Address(address) => format!(" of {address}"),
        Bind::Wildcard | Bind::Socket(_) => String::new(),
    };
    findings.warn(
        "port-conflict",
        place,
        format!(
            "port {}{on} is {}'s (ServiceEntry {}): {}; {}",
            listener.port,
            winner.host,
            first.meta.key(),
            conflict.reason,
            why_older(&first.meta, &second.meta)
        ),
        format!(
            "give {} an address of its own (`addresses` or `dns.allocateVips`), or another port",
            loser.host
        ),
    );
}

/// Whether one VirtualService has rules below HTTP for both: then these are the same rules.
fn are_routed_together(world: &World<'_>, winner: &Service, loser: &Service) -> bool {
    let covers = |service: &VirtualService, host: &str| {
        let host = HostPattern::new(host);
        service.hosts.iter().any(|pattern| host.is_subset_of(pattern))
    };
    world.subject.model.virtual_services().iter().any(|service| {
        !(service.tls.is_empty() && service.tcp.is_empty())
            && covers(service, &winner.host)
            && covers(service, &loser.host)
    })
}
