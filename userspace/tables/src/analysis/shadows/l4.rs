//! Whether one block of tls or tcp conditions takes everything that another one would.
//!
//! Names and blocks are chosen by how specific they are, whatever their order; only equal ones hide each other.

use egressd_model::Spanned;
use egressd_model::resource::{L4Match, TlsMatch};
use egressd_model::value::IpRange;

use crate::analysis::shadows::Common;

/// Whether every connection that fulfils `b` has found `a` before.
pub(super) fn tls_covers(a: &TlsMatch, b: &TlsMatch, gateways: &[Spanned<String>]) -> bool {
    b.sni_hosts.iter().all(|name| a.sni_hosts.contains(name))
        && subnets_cover(&a.destination_subnets, &b.destination_subnets)
        && tls_common(a).covers(&tls_common(b), gateways)
}

/// Whether every connection that fulfils `b` has found `a` before.
pub(super) fn tcp_covers(a: &L4Match, b: &L4Match, gateways: &[Spanned<String>]) -> bool {
    subnets_cover(&a.destination_subnets, &b.destination_subnets)
        && tcp_common(a).covers(&tcp_common(b), gateways)
}

fn tls_common(one: &TlsMatch) -> Common<'_> {
    Common {
        port: one.port.value,
        labels: &one.source_labels,
        gateways: &one.gateways,
        namespace: &one.source_namespace,
    }
}

fn tcp_common(one: &L4Match) -> Common<'_> {
    Common {
        port: one.port.value,
        labels: &one.source_labels,
        gateways: &one.gateways,
        namespace: &one.source_namespace,
    }
}

fn subnets_cover(a: &[Spanned<IpRange>], b: &[Spanned<IpRange>]) -> bool {
    let has = |one: &IpRange| a.iter().any(|other| other.masked() == one.masked());
    a.is_empty() == b.is_empty() && b.iter().all(|one| has(one))
}
