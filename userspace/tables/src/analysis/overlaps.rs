//! Addresses that two ServiceEntries write.

use egressd_model::Span;
use egressd_model::resource::{Resource, ServiceEntry};
use egressd_model::value::{IpRange, ProtocolFamily};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::owners::why_older;
use crate::analysis::world::{World, port_of};

/// One address or block of one entry.
#[derive(Clone, Copy)]
struct Written<'a> {
    entry: &'a Resource<ServiceEntry>,
    index: usize,
    span: Span,
    range: IpRange,
    age: usize,
}

/// Every address is compared with the nearest block around it, so the work and the findings stay in proportion
/// to the number of addresses.
pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let mut all: Vec<Written<'_>> = Vec::new();
    let node = &*world.subject.node.namespace;
    let entries = world.subject.model.service_entries().iter().enumerate();
    for (age, entry) in entries.filter(|(_, entry)| world.sees(node, entry)) {
        for (index, range) in entry.addresses.iter().enumerate() {
            let (span, range) = (range.span, range.masked());
            all.push(Written { entry, index, span, range, age });
        }
    }
    // Blocks come before what they hold.
    all.sort_by_key(|one| (one.range.address(), one.range.prefix(), one.age));
    let mut around: Vec<Written<'_>> = Vec::new();
    for one in all {
        while around.last().is_some_and(|outer| !holds(outer.range, one.range)) {
            around.pop();
        }
        let other = around.iter().rev().find(|outer| !std::ptr::eq(outer.entry, one.entry));
        if let Some(outer) = other {
            compare(outer, &one, findings);
        }
        around.push(one);
    }
}

fn holds(outer: IpRange, inner: IpRange) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.address())
}

/// `outer` holds `inner`; if they are the same, `outer` is the older one.
fn compare(outer: &Written<'_>, inner: &Written<'_>, findings: &mut Findings) {
    let place = || {
        let field = format!("spec.addresses[{}]", inner.index);
        Place::new(&inner.entry.meta, field, inner.span)
    };
    let (key, same) = (outer.entry.meta.key(), outer.range == inner.range);
    let mut shared = inner.entry.ports.iter().filter_map(|port| {
        let (_, other) = port_of(outer.entry, port.number.value)?;
        Some((port.number.value, [port.protocol.family(), other.protocol.family()]))
    });
    if same && shared.clone().next().is_none() {
        findings.inform(
            "overlapping-addresses",
            place(),
            format!(
                "{} is also written by ServiceEntry {key}; each keeps its own ports",
                inner.range
            ),
            SEPARATE.to_owned(),
        );
    }
    let http = |families: &[ProtocolFamily]| families.iter().all(|f| *f == ProtocolFamily::Http);
    if same {
        // Ports of other families are fought for, which is a finding of its own.
        if let Some((port, _)) = shared.find(|(_, families)| http(families)) {
            let why = why_older(&outer.entry.meta, &inner.entry.meta);
            findings.warn(
                "overlapping-addresses",
                place(),
                format!(
                    "{} on port {port} is also written by ServiceEntry {key}, which gets the requests whose Host \
                     is the address itself: {why}",
                    inner.range
                ),
                SEPARATE.to_owned(),
            );
        }
    } else if let Some((port, _)) = shared.find(|(_, families)| is_routed_by_block(families)) {
        findings.warn(
            "overlapping-addresses",
            place(),
            format!(
                "{} on port {port} lies in {} of ServiceEntry {key}; connections to it go here, as the longer \
                 prefix wins",
                inner.range, outer.range
            ),
            "make the blocks disjoint if this is not meant".to_owned(),
        );
    }
}

/// HTTP is routed by Host, and for UDP there is nothing.
fn is_routed_by_block(families: &[ProtocolFamily]) -> bool {
    let is_not = |family| !families.contains(&family);
    is_not(ProtocolFamily::Http) && is_not(ProtocolFamily::Udp)
}

const SEPARATE: &str = "give each service addresses of its own";
