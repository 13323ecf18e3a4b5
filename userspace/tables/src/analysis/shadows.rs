//! Rules that are never reached, because an earlier one takes everything they would match.
//!
//! What Istio's webhook says of a single resource (rules without conditions, conditions that are repeated, path
//! prefixes behind shorter ones) is found while that is read, and is not repeated here.

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
        unreached("http", meta, http, &http_any, findings, |a, b| http::relation(a, b, own));
        let tls = service.tls.iter().map(|rule| Rule {
            span: rule.span,
            matches: &rule.matches,
            hides: true,
        });
        unreached("tls", meta, tls, &TlsMatch::default(), findings, |a, b| {
            l4::tls_covers(a, b, own).into()
        });
        let tcp = service.tcp.iter().map(|rule| Rule {
            span: rule.span,
            matches: &rule.matches,
            hides: true,
        });
        unreached("tcp", meta, tcp, &tcp_any, findings, |a, b| l4::tcp_covers(a, b, own).into());
    }
}

/// A rule, whatever its family.
struct Rule<'a, M> {
    span: egressd_model::Span,
    matches: &'a [Spanned<M>],
    /// Whether what matches it goes no further.
    hides: bool,
}

fn unreached<'a, M: PartialEq + 'a>(
    family: &str,
    meta: &Meta,
    rules: impl Iterator<Item = Rule<'a, M>>,
    any: &'a M,
    findings: &mut Findings,
    relation: impl Fn(&M, &M) -> Relation,
) {
    let mut earlier: Vec<(usize, &'a M)> = Vec::new();
    for (index, rule) in rules.enumerate() {
        let field = format!("spec.{family}[{index}]");
        let matches: Vec<&'a M> = match rule.matches {
            [] => vec![any],
            matches => matches.iter().map(|one| &one.value).collect(),
        };
        let by = |one: &'a M| {
            let mut hiding = earlier.iter().filter_map(|(at, other)| {
                let known = std::ptr::eq(*other, any) || **other == *one;
                match relation(other, one) {
                    Relation::Apart => None,
                    Relation::Covers => Some((*at, known)),
                    Relation::CoversPlainly => Some((*at, true)),
                }
            });
            // What is known already is not said in other words.
            let first = hiding.next()?;
            Some(if first.1 { first } else { hiding.find(|(_, known)| *known).unwrap_or(first) })
        };
        let hidden: Vec<Option<(usize, bool)>> = matches.iter().map(|one| by(one)).collect();
        let fresh: Vec<_> = hidden
            .iter()
            .enumerate()
            .filter_map(|(at, by)| by.filter(|(_, known)| !known).map(|(by, _)| (at, by)))
            .collect();
        match fresh.first() {
            Some((_, by)) if hidden.iter().all(Option::is_some) => {
                tell(Place::new(meta, field, rule.span), family, *by, findings);
            }
            _ => {
                for (at, by) in fresh {
                    let span = rule.matches.get(at).map(|one| one.span).unwrap_or_default();
                    let place = Place::new(meta, format!("{field}.match[{at}]"), span);
                    tell(place, family, by, findings);
                }
            }
        }
        if rule.hides && earlier.len() < COMPARED {
            earlier.extend(matches.into_iter().map(|one| (index, one)));
        }
    }
}

/// How one block of conditions stands to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// Some of what fulfils the later one does not fulfil this one, as far as one can tell.
    Apart,
    /// All that fulfils the later one fulfils this one too.
    Covers,
    /// The same, in a way that is found while a single resource is read.
    CoversPlainly,
}

impl From<bool> for Relation {
    fn from(covers: bool) -> Self {
        if covers { Self::Covers } else { Self::Apart }
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
