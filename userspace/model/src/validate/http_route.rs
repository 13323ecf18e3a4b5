//! One http rule: which actions go together, and its destinations.

use std::collections::BTreeMap;

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{HeaderOperations, Headers, HttpRoute};
use crate::validate::{duration, header, http_action, http_match, route};

/// How a rule stands to delegation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It acts itself.
    Independent,
    /// It hands over to a delegate.
    Root,
    /// It belongs to a delegate.
    Delegate,
}

/// Checks one rule.
pub(super) fn http_route(http: &HttpRoute, role: Role, at: &At<'_>, cx: &mut Cx) {
    combination(http, role, at, cx);
    for (index, matches) in http.matches.iter().enumerate() {
        http_match::http_match(matches, &at.field("match").index(index), cx);
    }
    headers(http.headers.as_ref(), &at.field("headers"), cx);
    http_action::cors(http, at, cx);
    http_action::fault(http, at, cx);
    http_action::mirrors(http, at, cx);
    http_action::redirect(http, at, cx);
    http_action::direct_response(http, at, cx);
    http_action::retries(http.retries.as_ref(), &at.field("retries"), cx);
    http_action::rewrite(http, at, cx);
    one_authority(http, at, cx);
    destinations(http, at, cx);
    duration::written(http.timeout.as_ref(), &at.field("timeout"), cx);
}

fn combination(http: &HttpRoute, role: Role, at: &At<'_>, cx: &mut Cx) {
    let excludes = |cx: &mut Cx, field: &str, present: bool, by: &str| {
        if present {
            let message = format!("`{field}` and `{by}` cannot be set together");
            cx.error(&at.field(field), "conflicting-fields", message);
        }
    };
    if http.mirror.is_some() && !http.mirrors.is_empty() {
        excludes(cx, "mirrors", true, "mirror");
    }
    match role {
        Role::Root => {
            excludes(cx, "redirect", http.redirect.is_some(), "delegate");
            excludes(cx, "route", !http.route.is_empty(), "delegate");
            return;
        }
        Role::Delegate if http.delegate.is_some() => {
            cx.error(
                &at.field("delegate"),
                "conflicting-fields",
                "a delegate cannot delegate further",
            );
        }
        Role::Delegate | Role::Independent => {}
    }
    let (answer, action) = match (&http.redirect, &http.direct_response) {
        (Some(_), _) => (true, "redirect"),
        (None, Some(_)) => (true, "directResponse"),
        (None, None) => (false, ""),
    };
    if answer {
        excludes(cx, "route", !http.route.is_empty(), action);
        excludes(cx, "fault", http.fault.is_some(), action);
        excludes(cx, "rewrite", http.rewrite.is_some(), action);
        excludes(
            cx,
            "directResponse",
            action == "redirect" && http.direct_response.is_some(),
            action,
        );
    } else if http.route.is_empty() && http.delegate.is_none() {
        cx.lacking(
            at,
            "missing-field",
            "one of `route`, `redirect`, `directResponse` and `delegate` is required",
        );
    }
}

fn destinations(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let at = at.field("route");
    for (index, weighted) in http.route.iter().enumerate() {
        let at = at.index(index);
        headers(weighted.headers.as_ref(), &at.field("headers"), cx);
        route::destination(&weighted.destination, &at.field("destination"), cx);
    }
    let weights = http.route.iter().map(|weighted| weighted.weight.value);
    route::weights(weights, &at, cx);
}

/// Checks header changes in both directions.
fn headers(headers: Option<&Spanned<Headers>>, at: &At<'_>, cx: &mut Cx) {
    let Some(headers) = headers else { return };
    type Name = fn(&str, &At<'_>, &mut Cx);
    let directions: [(&str, &Option<Spanned<HeaderOperations>>, Name); 2] = [
        ("request", &headers.request, header::request_write),
        ("response", &headers.response, header::other_write),
    ];
    for (direction, operations, check_name) in directions {
        let Some(operations) = operations else { continue };
        let at = at.field(direction);
        let written: [(&str, &BTreeMap<String, Spanned<String>>); 2] =
            [("set", &operations.set), ("add", &operations.add)];
        for (field, values) in written {
            let at = at.field(field);
            for (name, value) in values {
                check_name(name, &at.key(name), cx);
                header::value(value, &at.key(name), cx);
            }
        }
        let at = at.field("remove");
        for (index, name) in operations.remove.iter().enumerate() {
            header::other_write(name, &at.index(index), cx);
        }
    }
}

/// The authority may be changed in one place only: rewrite, the rule's headers, or a destination's.
fn one_authority(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let rewrite = http.rewrite.as_ref().is_some_and(|rewrite| !rewrite.authority.is_empty());
    let rule = authorities(http.headers.as_ref());
    if usize::from(rewrite) + rule > 1 {
        cx.error(
            &at.field("headers"),
            "conflicting-fields",
            "the authority is changed more than once",
        );
    }
    for (index, weighted) in http.route.iter().enumerate() {
        let own = authorities(weighted.headers.as_ref());
        if own > 1 || (own == 1 && (rewrite || rule > 0)) {
            let at = at.field("route");
            let at = at.index(index);
            cx.error(
                &at.field("headers"),
                "conflicting-fields",
                "the authority is changed more than once",
            );
        }
    }
}

fn authorities(headers: Option<&Spanned<Headers>>) -> usize {
    let request = headers.and_then(|headers| headers.request.as_ref());
    let names =
        request.into_iter().flat_map(|request| request.set.keys().chain(request.add.keys()));
    names.filter(|name| header::is_authority(name)).count()
}
