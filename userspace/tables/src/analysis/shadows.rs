//! Rules that are never reached, because an earlier one takes everything they would match.

mod http;
mod l4;

use std::collections::BTreeSet;

use egressd_model::Spanned;
use egressd_model::resource::{HttpMatch, L4Match, Meta, TlsMatch};
use egressd_model::value::{Labels, selects};

use crate::analysis::destinations::gateways;
use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::World;

/// Conditions are compared with at most this many earlier ones, so that long lists stay cheap.
const COMPARED: usize = 1000;

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let (http_any, tcp_any) = (HttpMatch::default(), L4Match::default());
    for service in world.subject.model.virtual_services() {
        let (meta, own) = (&service.meta, service.gateways.as_slice());
        let http = service.http.iter().map(|rule| Rule {
            span: rule.span,
            matches: &rule.matches,
            // What a delegate's own rules leave over goes on to the next rule.
            hides: rule.delegate.is_none(),
        });
        unreached("http", meta, http, &http_any, findings, |a, b| http::covers(a, b, own));
        let tls = service.tls.iter().map(|rule| Rule {
            span: rule.span,
            matches: &rule.matches,
            hides: true,
        });
        unreached("tls", meta, tls, &TlsMatch::default(), findings, |a, b| {
            l4::tls_covers(a, b, own)
        });
        let tcp = service.tcp.iter().map(|rule| Rule {
            span: rule.span,
            matches: &rule.matches,
            hides: true,
        });
        unreached("tcp", meta, tcp, &tcp_any, findings, |a, b| l4::tcp_covers(a, b, own));
    }
}

/// A rule, whatever its family.
struct Rule<'a, M> {
    span: egressd_model::Span,
    matches: &'a [Spanned<M>],
    /// Whether what matches it goes no further.
    hides: bool,
}

fn unreached<'a, M: 'a>(
    family: &str,
    meta: &Meta,
    rules: impl Iterator<Item = Rule<'a, M>>,
    any: &'a M,
    findings: &mut Findings,
    covers: impl Fn(&M, &M) -> bool,
) {
    let mut earlier: Vec<(usize, &'a M)> = Vec::new();
    for (index, rule) in rules.enumerate() {
        let field = format!("spec.{family}[{index}]");
        let matches: Vec<&'a M> = match rule.matches {
            [] => vec![any],
            matches => matches.iter().map(|one| &one.value).collect(),
        };
        let by = |one: &M| earlier.iter().find(|(_, other)| covers(other, one)).map(|(at, _)| *at);
        let hidden: Vec<Option<usize>> = matches.iter().map(|one| by(one)).collect();
        if let (true, Some(Some(by))) = (hidden.iter().all(Option::is_some), hidden.first()) {
            tell(Place::new(meta, field, rule.span), family, *by, findings);
        } else {
            for (at, (by, one)) in hidden.iter().zip(rule.matches).enumerate() {
                if let Some(by) = by {
                    let place = Place::new(meta, format!("{field}.match[{at}]"), one.span);
                    tell(place, family, *by, findings);
                }
            }
        }
        if rule.hides && earlier.len() < COMPARED {
            earlier.extend(matches.into_iter().map(|one| (index, one)));
        }
    }
}

fn tell(place: Place<'_>, family: &str, by: usize, findings: &mut Findings) {
    findings.warn(
        "unreachable-rule",
        place,
        format!("never reached: whatever it matches is matched by spec.{family}[{by}] before"),
        format!("move it before spec.{family}[{by}], or narrow that rule"),
    );
}

/// Conditions that rules of every family have.
struct Common<'a> {
    port: u16,
    labels: &'a Labels,
    gateways: &'a [Spanned<String>],
    namespace: &'a str,
}

impl Common<'_> {
    /// Whether all that fulfils `other` fulfils this too.
    fn covers(&self, other: &Self, resource: &[Spanned<String>]) -> bool {
        let all = |one: &Self| -> BTreeSet<String> {
            let own = std::iter::once(one.gateways);
            gateways(resource, own).into_iter().map(str::to_owned).collect()
        };
        let same_gateways = self.gateways.is_empty() && other.gateways.is_empty();
        (self.port == 0 || self.port == other.port)
            && selects(self.labels, other.labels)
            && (self.namespace.is_empty() || self.namespace == other.namespace)
            && (same_gateways || all(self).is_superset(&all(other)))
    }
}
