//! Conditions on a request.

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::HttpMatch;
use crate::validate::domain::is_dns_label;
use crate::validate::virtual_service::gateway_names;
use crate::validate::{header, labels, regex};
use crate::value::StringMatch;

/// Checks one block of conditions.
pub(super) fn http_match(matches: &HttpMatch, at: &At<'_>, cx: &mut Cx) {
    // An empty prefix is fine for a path, where every one begins with it, and for nothing else.
    if let Some(StringMatch::Regex(pattern)) = matches.uri.as_deref() {
        regex::regex(pattern, &at.field("uri").field("regex"), cx);
    }
    string(matches.scheme.as_ref(), &at.field("scheme"), cx);
    string(matches.method.as_ref(), &at.field("method"), cx);
    string(matches.authority.as_ref(), &at.field("authority"), cx);
    for (name, value) in &matches.headers {
        let at = at.field("headers");
        let at = at.key(name);
        header::matched(name, &at, cx);
        string(Some(value), &at, cx);
    }
    for (name, value) in &matches.without_headers {
        let at = at.field("withoutHeaders");
        let at = at.key(name);
        header::matched(name, &at, cx);
        if value.value != StringMatch::Regex("*".to_owned()) {
            string(Some(value), &at, cx);
        }
    }
    for (name, value) in &matches.query_params {
        string(Some(value), &at.field("queryParams").key(name), cx);
    }
    source(&matches.source_labels, &matches.gateways, &matches.source_namespace, at, cx);
}

/// Conditions on the client, which http, tls and tcp rules share.
pub(super) fn source(
    source_labels: &crate::value::Labels,
    gateways: &[Spanned<String>],
    namespace: &Spanned<String>,
    at: &At<'_>,
    cx: &mut Cx,
) {
    labels::labels(source_labels, &at.field("sourceLabels"), cx);
    gateway_names(gateways, &at.field("gateways"), cx);
    if !namespace.is_empty() && !is_dns_label(namespace) {
        let message = format!("{:?} is not a namespace", namespace.value);
        cx.error(&at.field("sourceNamespace"), "invalid-namespace", message);
    }
}

fn string(condition: Option<&Spanned<StringMatch>>, at: &At<'_>, cx: &mut Cx) {
    match condition.map(|condition| &condition.value) {
        Some(StringMatch::Prefix(prefix)) if prefix.is_empty() => {
            cx.error(&at.field("prefix"), "empty-prefix", "a prefix must not be empty here")
                .help("write `{}` to ask only whether it is there");
        }
        Some(StringMatch::Regex(pattern)) => regex::regex(pattern, &at.field("regex"), cx),
        Some(StringMatch::Prefix(_) | StringMatch::Exact(_) | StringMatch::Present) | None => {}
    }
}
