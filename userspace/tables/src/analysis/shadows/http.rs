//! Whether one block of http conditions takes everything that another one would.

use std::collections::BTreeMap;

use egressd_model::Spanned;
use egressd_model::resource::HttpMatch;
use egressd_model::value::StringMatch;

use crate::analysis::shadows::{Common, Relation};

/// Whether every request that fulfils `b` fulfils `a`. Says no where it cannot tell.
pub(super) fn relation(a: &HttpMatch, b: &HttpMatch, gateways: &[Spanned<String>]) -> Relation {
    let covers = path_covers(a, b)
        && text_covers(a.scheme.as_ref(), b.scheme.as_ref())
        && text_covers(a.method.as_ref(), b.method.as_ref())
        && text_covers(a.authority.as_ref(), b.authority.as_ref())
        && map_covers(&a.headers, &b.headers)
        && map_covers(&a.query_params, &b.query_params)
        && a.without_headers.iter().all(|(name, one)| b.without_headers.get(name) == Some(one))
        && common(a).covers(&common(b), gateways);
    match (covers, differ_by_prefix(a, b)) {
        (false, _) => Relation::Apart,
        (true, false) => Relation::Covers,
        (true, true) => Relation::CoversPlainly,
    }
}

/// Whether two path prefixes are all that differs: the webhook looks at those.
fn differ_by_prefix(a: &HttpMatch, b: &HttpMatch) -> bool {
    let is_prefix = |one: &HttpMatch| matches!(one.uri.as_deref(), Some(StringMatch::Prefix(_)));
    is_prefix(a)
        && is_prefix(b)
        && a.port == b.port
        && a.method == b.method
        && a.authority == b.authority
        && a.headers == b.headers
        && a.query_params == b.query_params
        && a.without_headers == b.without_headers
}

fn common(one: &HttpMatch) -> Common<'_> {
    Common {
        port: one.port.value,
        labels: &one.source_labels,
        gateways: &one.gateways,
        namespace: &one.source_namespace,
    }
}

fn path_covers(a: &HttpMatch, b: &HttpMatch) -> bool {
    let Some(wide) = a.uri.as_ref().filter(|uri| !is_any_path(uri)) else { return true };
    let Some(narrow) = &b.uri else { return false };
    match (a.ignore_uri_case, b.ignore_uri_case) {
        (false, true) => false,
        (false, false) => implies(narrow, wide),
        (true, _) => match (&**wide, &**narrow) {
            (StringMatch::Regex(_), _) | (_, StringMatch::Regex(_)) => implies(narrow, wide),
            _ => implies(&lower_case(narrow), &lower_case(wide)),
        },
    }
}

fn is_any_path(uri: &StringMatch) -> bool {
    match uri {
        StringMatch::Prefix(prefix) => prefix == "/",
        StringMatch::Regex(pattern) => pattern == ".*",
        StringMatch::Present => true,
        StringMatch::Exact(_) => false,
    }
}

fn lower_case(text: &StringMatch) -> StringMatch {
    match text {
        StringMatch::Present => StringMatch::Present,
        StringMatch::Exact(text) => StringMatch::Exact(text.to_ascii_lowercase()),
        StringMatch::Prefix(text) => StringMatch::Prefix(text.to_ascii_lowercase()),
        StringMatch::Regex(text) => StringMatch::Regex(text.clone()),
    }
}

/// For texts that every request has.
fn text_covers(a: Option<&Spanned<StringMatch>>, b: Option<&Spanned<StringMatch>>) -> bool {
    match (a.map(|one| &one.value), b.map(|one| &one.value)) {
        (None | Some(StringMatch::Present), _) => true,
        (Some(StringMatch::Regex(pattern)), _) if pattern == ".*" => true,
        (Some(wide), Some(narrow)) => implies(narrow, wide),
        (Some(_), None) => false,
    }
}

/// For texts that a request may lack.
fn map_covers(
    a: &BTreeMap<String, Spanned<StringMatch>>,
    b: &BTreeMap<String, Spanned<StringMatch>>,
) -> bool {
    a.iter().all(|(name, wide)| b.get(name).is_some_and(|narrow| implies(narrow, wide)))
}

/// Whether every text that fulfils `narrow` fulfils `wide`.
fn implies(narrow: &StringMatch, wide: &StringMatch) -> bool {
    match (wide, narrow) {
        (StringMatch::Present, _) => true,
        (StringMatch::Regex(pattern), _) if pattern == ".*" => true,
        (StringMatch::Prefix(prefix), StringMatch::Exact(text) | StringMatch::Prefix(text)) => {
            text.starts_with(prefix.as_str())
        }
        _ => narrow == wide,
    }
}
