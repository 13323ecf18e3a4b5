//! What an http rule does besides routing.

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{FaultAbort, HttpRetry, HttpRoute};
use crate::validate::{duration, header, limits, regex, route};
use crate::value::{Percent, Re2, StringMatch, grpc_status};

/// Methods that a CORS policy may name.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
/// Conditions for a retry, of HTTP and of gRPC.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
/// A body above this size is warned about.
const LARGE_BODY: usize = 100 << 10;
/// A body above this size is refused.
const LARGEST_BODY: usize = 1 << 20;

pub(super) fn cors(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let Some(cors) = &http.cors_policy else { return };
    let at = at.field("corsPolicy");
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        let at = at.field("allowOrigins");
        let at = at.index(index);
        if origin.text().is_empty() {
            cx.error(
                &at,
                "missing-field",
                "an origin needs a non-empty `exact`, `prefix` or `regex`",
            );
        } else if let StringMatch::Regex(pattern) = &origin.value {
            regex::regex(pattern, &at.field("regex"), cx);
        }
    }
    for (index, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            let message = format!("{:?} is not an HTTP method", method.value);
            cx.error(&at.field("allowMethods").index(index), "unknown-value", message)
                .help(format!("one of {}", METHODS.join(", ")));
        }
    }
    for (field, names) in
        [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)]
    {
        for (index, name) in names.iter().enumerate() {
            header::cors(name, &at.field(field).index(index), cx);
        }
    }
    duration::written(cors.max_age.as_ref(), &at.field("maxAge"), cx);
    let fraction =
        cors.max_age.as_deref().filter(|age| age.as_millis() > 0 && age.subsec_nanos() != 0);
    if let Some(age) = fraction.filter(|age| duration::check(**age).is_ok()) {
        cx.error(
            &at.field("maxAge"),
            "invalid-duration",
            format!("{age:?} is too fine: whole seconds only"),
        );
    }
}

pub(super) fn fault(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let Some(fault) = &http.fault else { return };
    let at = at.field("fault");
    if fault.delay.is_none() && fault.abort.is_none() {
        cx.lacking(&at, "missing-field", "one of `delay` and `abort` is required");
    }
    if let Some(delay) = &fault.delay {
        let at = at.field("delay");
        share(delay.percentage.as_ref(), &at.field("percentage"), cx);
        duration::written(delay.fixed_delay.as_ref(), &at.field("fixedDelay"), cx);
        if delay.exponential_delay.is_some() {
            cx.error(
                &at.field("exponentialDelay"),
                "not-implemented",
                "Istio never implemented this field",
            )
            .help("use `fixedDelay`");
        }
    }
    if let Some(abort) = &fault.abort {
        self::abort(abort, &at.field("abort"), cx);
    }
}

fn abort(abort: &FaultAbort, at: &At<'_>, cx: &mut Cx) {
    share(abort.percentage.as_ref(), &at.field("percentage"), cx);
    let set =
        [abort.http_status.is_some(), abort.grpc_status.is_some(), abort.http2_error.is_some()];
    match set.into_iter().filter(|set| *set).count() {
        0 => {
            cx.warning(at, "no-effect", "without `httpStatus` or `grpcStatus` nothing is aborted");
        }
        1 => {}
        _ => {
            let message = "only one of `httpStatus`, `grpcStatus` and `http2Error` may be set";
            cx.error(at, "conflicting-fields", message);
        }
    }
    if let Some(status) = &abort.http_status {
        http_status(status.value, &at.field("httpStatus"), cx);
    }
    if let Some(status) = abort.grpc_status.as_ref().filter(|name| grpc_status(name).is_none()) {
        cx.error(
            &at.field("grpcStatus"),
            "unknown-value",
            format!("{:?} is not a gRPC status", status.value),
        )
        .help("for example UNAVAILABLE or NOT_FOUND");
    }
    if abort.http2_error.is_some() {
        cx.error(&at.field("http2Error"), "not-implemented", "Istio never implemented this field");
    }
}

/// Zero, or from 0.0001 to 100 percent.
fn share(percent: Option<&Spanned<Percent>>, at: &At<'_>, cx: &mut Cx) {
    let Some(percent) = percent.map(|percent| percent.value.0) else { return };
    if percent != 0.0 && !(0.0001..=100.0).contains(&percent) {
        let message = format!("{percent} is neither 0 nor from 0.0001 to 100");
        cx.error(&at.field("value"), "out-of-range", message);
    }
}

/// Istio's own limit lets 600 through.
fn http_status(status: u32, at: &At<'_>, cx: &mut Cx) {
    if !(200..=600).contains(&status) {
        cx.error(
            at,
            "out-of-range",
            format!("{status} is not a status that can be sent (200 to 599)"),
        );
    }
}

pub(super) fn mirrors(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let limit = |percent: Option<f64>, at: &At<'_>, cx: &mut Cx| {
        if let Some(percent) = percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
            cx.error(at, "out-of-range", format!("{percent} is not a percentage (0 to 100)"));
        }
    };
    if let Some(mirror) = &http.mirror {
        route::destination(mirror, &at.field("mirror"), cx);
    }
    for (index, mirror) in http.mirrors.iter().enumerate() {
        let at = at.field("mirrors");
        let at = at.index(index);
        route::destination(&mirror.destination, &at.field("destination"), cx);
        let percent = mirror.percentage.as_ref().map(|percent| percent.value.0);
        limit(percent, &at.field("percentage").field("value"), cx);
    }
    if let Some(percent) = &http.mirror_percent {
        limits::percent(percent, &at.field("mirrorPercent"), cx);
        cx.warning(&at.field("mirrorPercent"), "deprecated", "`mirrorPercent` is deprecated")
            .help("write `mirrorPercentage: {value: …}`");
    }
    let percent = http.mirror_percentage.as_ref().map(|percent| percent.value.0);
    limit(percent, &at.field("mirrorPercentage").field("value"), cx);
}

pub(super) fn redirect(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let Some(redirect) = &http.redirect else { return };
    let at = at.field("redirect");
    let port = redirect.port.is_written() || redirect.derive_port.is_some();
    let texts = [&redirect.uri, &redirect.authority, &redirect.scheme, &redirect.prefix_rewrite];
    if !port && texts.into_iter().all(|text| text.is_empty()) {
        let message = "one of `uri`, `prefixRewrite`, `authority`, `scheme`, `port` and `derivePort` is required";
        cx.lacking(&at, "missing-field", message);
    }
    if redirect.port.is_written() && redirect.derive_port.is_some() {
        let message = "only one of `port` and `derivePort` may be set";
        cx.error(&at.field("derivePort"), "conflicting-fields", message);
    }
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        let message = "only one of `uri` and `prefixRewrite` may be set";
        cx.error(&at.field("prefixRewrite"), "conflicting-fields", message);
    } else if !redirect.prefix_rewrite.is_empty() {
        let not_prefix =
            |condition: &Spanned<StringMatch>| !matches!(condition.value, StringMatch::Prefix(_));
        if http.matches.iter().any(|matches| matches.uri.as_ref().is_some_and(not_prefix)) {
            let message = "`prefixRewrite` needs matches of `uri` by `prefix`";
            cx.error(&at.field("prefixRewrite"), "conflicting-fields", message);
        }
    }
    let code = redirect.redirect_code.value;
    if code != 0 && !(300..=399).contains(&code) {
        let message = format!("{code} is not the status of a redirect (300 to 399)");
        cx.error(&at.field("redirectCode"), "out-of-range", message);
    } else if ![0, 301, 302, 303, 307, 308].contains(&code) {
        let message = format!("{code} is accepted, but the rule then does nothing");
        cx.info(&at.field("redirectCode"), "no-effect", message)
            .help("one of 301, 302, 303, 307 and 308");
    }
    if !["", "http", "https"].contains(&redirect.scheme.as_str()) {
        let message = format!("{:?} is not a scheme for a redirect", redirect.scheme.value);
        cx.error(&at.field("scheme"), "unknown-value", message).help("`http` or `https`");
    }
}

pub(super) fn direct_response(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let Some(response) = &http.direct_response else { return };
    let at = at.field("directResponse");
    if response.status.is_written() {
        http_status(response.status.value, &at.field("status"), cx);
    }
    let size = response.body.as_ref().map_or(0, |body| body.as_bytes().len());
    if size > LARGEST_BODY {
        cx.error(
            &at.field("body"),
            "too-long",
            format!("{size} bytes, at most {LARGEST_BODY} are allowed"),
        );
    } else if size > LARGE_BODY {
        cx.warning(
            &at.field("body"),
            "large-body",
            format!("{size} bytes are a lot for a body kept in memory"),
        );
    }
}

/// Checks a retry policy, of a rule or of the mesh.
pub(super) fn retries(retries: Option<&Spanned<HttpRetry>>, at: &At<'_>, cx: &mut Cx) {
    let Some(retries) = retries else { return };
    let others = [
        ("perTryTimeout", retries.per_try_timeout.is_some()),
        ("retryOn", !retries.retry_on.is_empty()),
        ("retryRemoteLocalities", retries.retry_remote_localities.is_some()),
    ];
    if let Some((field, _)) =
        others.into_iter().find(|(_, set)| *set && retries.attempts.value == 0)
    {
        let message =
            format!("`{field}` has no use while `attempts` is 0, which switches retries off");
        cx.error(&at.field(field), "conflicting-fields", message).help("set `attempts`");
    }
    duration::written(retries.per_try_timeout.as_ref(), &at.field("perTryTimeout"), cx);
    duration::written(retries.backoff.as_ref(), &at.field("backoff"), cx);
    for policy in retries.retry_on.split(',').filter(|_| !retries.retry_on.is_empty()) {
        if !RETRY_ON.contains(&policy) && !is_status(policy) {
            let report = cx.error(
                &at.field("retryOn"),
                "unknown-value",
                format!("{policy:?} is no condition for a retry"),
            );
            if policy.trim() != policy {
                report.help("write the list without spaces");
            } else {
                report.help("for example 5xx, gateway-error, connect-failure, unavailable, or a status such as 503");
            }
        }
    }
}

/// Whether it is the number of a status that HTTP defines.
fn is_status(text: &str) -> bool {
    matches!(
        text.parse(),
        Ok(
            100..=103
            | 200..=208
            | 226
            | 300..=305
            | 307
            | 308
            | 400..=418
            | 421..=426
            | 428
            | 429
            | 431
            | 451
            | 500..=508
            | 510
            | 511_u16,
        )
    )
}

pub(super) fn rewrite(http: &HttpRoute, at: &At<'_>, cx: &mut Cx) {
    let Some(rewrite) = &http.rewrite else { return };
    let at = at.field("rewrite");
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none()
    {
        cx.lacking(
            &at,
            "missing-field",
            "one of `uri`, `uriRegexRewrite` and `authority` is required",
        );
    }
    let Some(by_regex) = &rewrite.uri_regex_rewrite else { return };
    let at_regex = at.field("uriRegexRewrite");
    if !rewrite.uri.is_empty() {
        let message = "only one of `uri` and `uriRegexRewrite` may be set";
        cx.error(&at_regex, "conflicting-fields", message);
    } else if by_regex.pattern.is_empty() || by_regex.rewrite.is_empty() {
        cx.lacking(&at_regex, "missing-field", "both `match` and `rewrite` are required");
    } else {
        regex::regex(&by_regex.pattern, &at_regex.field("match"), cx);
        groups(&by_regex.pattern, &by_regex.rewrite, &at_regex, cx);
    }
}

/// Says when a replacement names a group that the expression does not have: the proxy would refuse it.
fn groups(pattern: &str, rewrite: &str, at: &At<'_>, cx: &mut Cx) {
    if !rewrite.contains('\\') {
        return;
    }
    let Ok(regex) = Re2::part(pattern) else { return };
    let named = rewrite.split('\\').skip(1).filter_map(|rest| rest.chars().next()?.to_digit(10));
    if let Some(group) =
        named.max().filter(|group| usize::try_from(*group).is_ok_and(|g| g >= regex.captures_len()))
    {
        let message =
            format!("`\\{group}`: the expression has only {} groups", regex.captures_len() - 1);
        cx.warning(&at.field("rewrite"), "unknown-group", message);
    }
}
