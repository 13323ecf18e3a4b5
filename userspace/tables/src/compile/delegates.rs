//! Delegation: a root VirtualService takes http rules from another one (semantics.md §3).
//!
//! A delegate's rule acts where the root's conditions and its own both hold. A rule whose conditions
//! contradict the root's is dropped; so is a root rule whose delegate does not exist or is not
//! exported to the root's namespace.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use egressd_model::Spanned;
use egressd_model::resource::{HttpMatch, HttpRoute, Resource, VirtualService};
use egressd_model::value::{ExportTarget, StringMatch};

/// Whether a VirtualService takes part in delegation.
pub(crate) fn is_part(rule: &VirtualService) -> bool {
    rule.hosts.is_empty() || rule.http.iter().any(|http| http.delegate.is_some())
}

/// VirtualServices without hosts, by namespace and name.
pub(crate) struct Delegates<'m>(HashMap<(&'m str, &'m str), &'m Resource<VirtualService>>);

impl<'m> Delegates<'m> {
    pub(crate) fn new(all: &'m [Arc<Resource<VirtualService>>]) -> Self {
        let without_hosts = all.iter().filter(|rule| rule.hosts.is_empty());
        Self(
            without_hosts
                .map(|rule| ((&*rule.meta.namespace, &*rule.meta.name), &**rule))
                .collect(),
        )
    }

    /// The http rules of a root with its delegates' in place.
    pub(crate) fn expand(
        &self,
        root: &'m Resource<VirtualService>,
        default_export: &[ExportTarget],
    ) -> Vec<Cow<'m, HttpRoute>> {
        let mut rules = Vec::with_capacity(root.http.len());
        for rule in &root.http {
            let Some(delegate) = &rule.delegate else {
                rules.push(Cow::Borrowed(&rule.value));
                continue;
            };
            let own: &str = &root.meta.namespace;
            let namespace = Some(delegate.namespace.as_str()).filter(|ns| !ns.is_empty());
            let found = self.0.get(&(namespace.unwrap_or(own), delegate.name.as_str()));
            let exported = found.filter(|found| {
                found.export_to.is_visible(&found.meta.namespace, own, default_export)
            });
            for sub in exported.iter().flat_map(|found| &found.http) {
                rules.extend(merge(rule, sub).map(Cow::Owned));
            }
        }
        rules
    }
}

fn merge(root: &HttpRoute, sub: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = sub.clone();
    merged.matches = merge_all(&root.matches, &sub.matches)?;
    merged.name = join(&root.name, &sub.name);
    fn or<T: Clone>(own: &mut Option<T>, root: &Option<T>) {
        if own.is_none() {
            own.clone_from(root);
        }
    }
    or(&mut merged.rewrite, &root.rewrite);
    or(&mut merged.timeout, &root.timeout);
    or(&mut merged.retries, &root.retries);
    or(&mut merged.fault, &root.fault);
    or(&mut merged.mirror, &root.mirror);
    or(&mut merged.mirror_percent, &root.mirror_percent);
    or(&mut merged.mirror_percentage, &root.mirror_percentage);
    or(&mut merged.cors_policy, &root.cors_policy);
    or(&mut merged.headers, &root.headers);
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
    }
    Some(merged)
}

type Matches = Vec<Spanned<HttpMatch>>;

/// Every alternative of the delegate with every one of the root that it does not contradict; nothing
/// if one contradicts all of them.
fn merge_all(root: &Matches, sub: &Matches) -> Option<Matches> {
    if root.is_empty() {
        return Some(sub.clone());
    }
    if sub.is_empty() {
        return Some(root.clone());
    }
    let mut merged = Vec::new();
    for own in sub {
        let before = merged.len();
        let fitting = root.iter().filter(|from| !contradict(from, own));
        merged.extend(fitting.map(|from| Spanned::new(merge_match(from, own), own.span)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merge_match(root: &HttpMatch, own: &HttpMatch) -> HttpMatch {
    let over = |root: &BTreeMap<String, Spanned<StringMatch>>,
                own: &BTreeMap<String, Spanned<StringMatch>>| {
        let mut all = root.clone();
        all.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    };
    let mut merged = own.clone();
    merged.name = join(&root.name, &own.name);
    merged.uri = own.uri.clone().or_else(|| root.uri.clone());
    merged.scheme = own.scheme.clone().or_else(|| root.scheme.clone());
    merged.method = own.method.clone().or_else(|| root.method.clone());
    merged.authority = own.authority.clone().or_else(|| root.authority.clone());
    merged.headers = over(&root.headers, &own.headers);
    merged.without_headers = over(&root.without_headers, &own.without_headers);
    merged.query_params = over(&root.query_params, &own.query_params);
    if own.port.value == 0 {
        merged.port = root.port.clone();
    }
    // A delegate has none of these; the root's hold for it.
    merged.source_labels.clone_from(&root.source_labels);
    merged.source_namespace = root.source_namespace.clone();
    merged.gateways.clone_from(&root.gateways);
    merged
}

fn join(root: &Spanned<String>, own: &Spanned<String>) -> Spanned<String> {
    match (root.is_empty(), own.is_empty()) {
        (_, true) => root.clone(),
        (true, false) => own.clone(),
        (false, false) => Spanned::new(format!("{}-{}", root.value, own.value), own.span),
    }
}

fn contradict(root: &HttpMatch, own: &HttpMatch) -> bool {
    let texts = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let maps = [
        (&root.headers, &own.headers),
        (&root.headers, &own.without_headers),
        (&root.query_params, &own.query_params),
    ];
    texts.into_iter().any(|(root, own)| match (root, own) {
        (Some(root), Some(own)) => texts_contradict(root, own),
        (None, _) | (_, None) => false,
    }) || maps.into_iter().any(|(root, own)| {
        own.iter().any(|(name, own)| root.get(name).is_some_and(|root| texts_contradict(root, own)))
    }) || root.ignore_uri_case != own.ignore_uri_case
        || (root.port.value > 0 && own.port.value > 0 && root.port != own.port)
}

/// Whether the delegate's condition is not a narrower form of the root's. Regular expressions are
/// never taken for that.
fn texts_contradict(root: &StringMatch, own: &StringMatch) -> bool {
    match (root, own) {
        (StringMatch::Regex(_), _) | (_, StringMatch::Regex(_)) => true,
        (StringMatch::Exact(root), StringMatch::Exact(own)) => root != own,
        (StringMatch::Prefix(root), StringMatch::Prefix(own) | StringMatch::Exact(own)) => {
            !own.starts_with(root.as_str())
        }
        (StringMatch::Exact(_), StringMatch::Prefix(_) | StringMatch::Present)
        | (StringMatch::Prefix(_), StringMatch::Present)
        | (StringMatch::Present, _) => true,
    }
}
