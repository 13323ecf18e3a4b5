//! Rules and matches that never act, because an earlier one takes all they would.
//!
//! The webhook warns of three cases: a second rule without conditions, a match written twice, and a path prefix
//! behind a shorter one. Anything else behind a rule without conditions gets an info.

use std::collections::{BTreeMap, HashMap};

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{HttpMatch, VirtualService};
use crate::value::StringMatch;

/// Most path prefixes that are compared with each other.
const MOST_COMPARED: usize = 2_000;

/// Reports rules that never act.
pub(super) fn unreachable_rules(service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    let nameless = |matches: &HttpMatch| HttpMatch { name: Spanned::default(), ..matches.clone() };
    let key = |matches: &Spanned<HttpMatch>| format!("{:?}", nameless(matches));
    let http: Vec<Vec<String>> =
        service.http.iter().map(|rule| rule.matches.iter().map(key).collect()).collect();
    rules(&http, &at.field("http"), cx);
    let tls =
        service.tls.iter().map(|rule| rule.matches.iter().map(|m| format!("{m:?}")).collect());
    rules(&tls.collect::<Vec<_>>(), &at.field("tls"), cx);
    let tcp =
        service.tcp.iter().map(|rule| rule.matches.iter().map(|m| format!("{m:?}")).collect());
    rules(&tcp.collect::<Vec<_>>(), &at.field("tcp"), cx);
    prefixes(service, &at.field("http"), cx);
}

/// Each rule as its matches, each match as a text that is equal where the match is.
fn rules(rules: &[Vec<String>], at: &At<'_>, cx: &mut Cx) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut catch_all: Option<usize> = None;
    for (index, matches) in rules.iter().enumerate() {
        let at = at.index(index);
        match (catch_all, matches.is_empty()) {
            (Some(first), true) => {
                let message = format!("never acts: rule {first} already takes everything");
                cx.warning(&at, "unreachable-rule", message)
                    .help("only the last rule can do without a match");
            }
            (Some(first), false) => {
                let message = format!("never acts: rule {first} has no match and takes everything");
                cx.info(&at, "unreachable-rule", message).help("put it before that rule");
            }
            (None, _) => {}
        }
        if matches.is_empty() {
            catch_all = catch_all.or(Some(index));
            continue;
        }
        let mut repeated = 0;
        for (number, matches) in matches.iter().enumerate() {
            if let Some(first) = seen.get(matches.as_str()) {
                repeated += 1;
                let message = format!("never acts: rule {first} has the same match");
                cx.warning(&at.field("match").index(number), "unreachable-match", message);
            } else {
                seen.insert(matches, index);
            }
        }
        if repeated == matches.len() {
            cx.warning(&at, "unreachable-rule", "never acts: earlier rules have all its matches");
        }
    }
}

/// A match by path prefix, reduced to what is compared.
struct Prefix<'a> {
    rule: usize,
    number: usize,
    path: &'a str,
    port: u16,
    method: String,
    authority: String,
    maps: [BTreeMap<&'a str, String>; 3],
}

fn prefixes(service: &VirtualService, at: &At<'_>, cx: &mut Cx) {
    let mut found = Vec::new();
    for (rule, http) in service.http.iter().enumerate() {
        for (number, matches) in http.matches.iter().enumerate() {
            if let Some(StringMatch::Prefix(path)) = matches.uri.as_deref()
                && !path.is_empty()
            {
                found.push(Prefix::new(rule, number, path, matches));
            }
        }
    }
    found.truncate(MOST_COMPARED);
    for (index, later) in found.iter().enumerate() {
        if let Some(earlier) = found[..index].iter().find(|earlier| earlier.covers(later)) {
            let message = format!(
                "never acts: prefix {:?} of rule {} takes {:?}",
                earlier.path, earlier.rule, later.path
            );
            let at = at.index(later.rule);
            cx.warning(&at.field("match").index(later.number), "unreachable-match", message)
                .help("put the longer prefix first");
        }
    }
}

impl<'a> Prefix<'a> {
    fn new(rule: usize, number: usize, path: &'a str, matches: &'a HttpMatch) -> Self {
        let map = |map: &'a BTreeMap<String, Spanned<StringMatch>>| {
            map.iter().map(|(name, value)| (name.as_str(), plain(Some(value)))).collect()
        };
        let method = plain(matches.method.as_ref());
        Self {
            rule,
            number,
            path,
            port: matches.port.value,
            // Istio takes GET where no method is written.
            method: if method.is_empty() { "exact:GET".to_owned() } else { method },
            authority: plain(matches.authority.as_ref()),
            maps: [
                map(&matches.headers),
                map(&matches.query_params),
                map(&matches.without_headers),
            ],
        }
    }

    /// Whether everything that `later` matches is taken by `self`, as far as Istio's webhook looks.
    fn covers(&self, later: &Self) -> bool {
        let text = |a: &str, b: &str| a == b || a.starts_with(b);
        let map = |a: &BTreeMap<&str, String>, b: &BTreeMap<&str, String>| {
            a.len() == b.len()
                && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| text(value, other)))
        };
        self.path != later.path
            && later.path.starts_with(self.path)
            && self.port == later.port
            && text(&self.method, &later.method)
            && text(&self.authority, &later.authority)
            && self.maps.iter().zip(&later.maps).all(|(a, b)| map(a, b))
    }
}

/// The condition as a text; regular expressions and mere presence are not looked at.
fn plain(condition: Option<&Spanned<StringMatch>>) -> String {
    match condition.map(|condition| &condition.value) {
        Some(StringMatch::Exact(text)) if !text.is_empty() => format!("exact:{text}"),
        Some(StringMatch::Prefix(text)) if !text.is_empty() => format!("prefix:{text}"),
        Some(
            StringMatch::Exact(_)
            | StringMatch::Prefix(_)
            | StringMatch::Regex(_)
            | StringMatch::Present,
        )
        | None => String::new(),
    }
}
