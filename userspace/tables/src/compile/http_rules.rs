//! The http rules of a VirtualService as routes of one port (semantics.md §3).

use std::collections::BTreeMap;
use std::sync::Arc;

use egressd_model::Spanned;
use egressd_model::resource::{
    DirectResponseBody, FaultInjection, HeaderOperations, HttpMatch, HttpRetry, HttpRoute,
    HttpRouteDestination, Key, Redirect as RedirectSettings, RedirectPort,
};
use egressd_model::value::{Percent, grpc_status};

use crate::compile::context::{Context, GatewayName};
use crate::route::{
    Abort, AbortStatus, Delay, Destination, Destinations, Fault, Forward, HeaderChange, HeaderOps,
    Mirror, PathRedirect, Redirect, RetryPolicy, Route, RouteAction,
};

/// One VirtualService's http rules, on one port of one gateway.
pub(crate) struct HttpRules<'a, 'm> {
    pub(crate) context: &'a Context<'a, 'm>,
    pub(crate) rules: &'a [std::borrow::Cow<'m, HttpRoute>],
    pub(crate) key: &'a Key,
    pub(crate) port: u16,
    pub(crate) gateway: GatewayName<'a>,
    /// Whether clients speak TLS to the listener.
    pub(crate) tls: bool,
}

impl HttpRules<'_, '_> {
    /// The routes, up to the first that matches everything. Empty if no rule acts on this port.
    pub(crate) fn routes(&self) -> Vec<Arc<Route>> {
        let mut routes = Vec::new();
        for rule in self.rules {
            if rule.matches.is_empty() {
                routes.push(Arc::new(self.route(rule, None)));
                break;
            }
            for condition in rule.matches.iter().filter(|condition| self.acts(condition)) {
                let route = self.route(rule, Some(condition));
                let last = route.matcher.is_catch_all();
                routes.push(Arc::new(route));
                if last {
                    return routes;
                }
            }
        }
        routes
    }

    /// The conditions that do not depend on the request. Labels and namespace of the client do not
    /// count where gateways are named.
    fn acts(&self, condition: &HttpMatch) -> bool {
        let port = condition.port.value;
        let client = if condition.gateways.is_empty() {
            let (labels, namespace) = (&condition.source_labels, &condition.source_namespace);
            self.context.is_client(&self.gateway, &[], labels, namespace)
        } else {
            condition.gateways.iter().any(|name| self.gateway.is(name))
        };
        (port == 0 || port == self.port) && client
    }

    fn route(&self, rule: &HttpRoute, condition: Option<&HttpMatch>) -> Route {
        let headers = rule.headers.as_deref();
        let action = if let Some(redirect) = &rule.redirect {
            self.redirect(redirect)
        } else if let Some(response) = &rule.direct_response {
            RouteAction::Respond {
                status: u16::try_from(response.status.value).unwrap_or(500),
                body: Arc::from(response.body.as_ref().map_or(&[][..], |b| body(b))),
            }
        } else {
            RouteAction::Forward(Box::new(self.forward(rule)))
        };
        Route {
            name: route_name(&rule.name, condition),
            matcher: condition
                .map(|condition| self.context.memo.matcher(condition))
                .unwrap_or_default(),
            action,
            request_headers: operations(headers.and_then(|headers| headers.request.as_deref())),
            response_headers: operations(headers.and_then(|headers| headers.response.as_deref())),
            fault: rule.fault.as_deref().and_then(fault),
            cors: rule.cors_policy.as_deref().map(|cors| self.context.memo.cors(cors)),
            virtual_service: Some(self.key.clone()),
            stat_prefix: Arc::from(condition.map_or("", |condition| &condition.stat_prefix)),
        }
    }

    fn forward(&self, rule: &HttpRoute) -> Forward {
        let all = rule.route.as_slice();
        let hash: Vec<_> = all
            .iter()
            .filter(|one| all.len() == 1 || one.weight.value > 0)
            .filter_map(|one| {
                let context = self.context;
                context.hash_of_destination(&one.destination, &self.key.namespace, self.port)
            })
            .collect();
        let destinations = match all {
            [only] => Destinations::Single(self.destination(only)),
            several => {
                // A destination without a share gets nothing (semantics.md §3).
                let shares = several.iter().filter(|one| one.weight.value > 0);
                Destinations::Weighted(shares.map(|one| self.destination(one)).collect())
            }
        };
        let rewrite = rule.rewrite.as_deref();
        let authority = rewrite.and_then(|rewrite| text(&rewrite.authority)).or_else(|| {
            authority(rule.headers.as_deref().and_then(|headers| headers.request.as_deref()))
        });
        let retries =
            rule.retries.as_ref().or(self.context.mesh.default_http_retry_policy.as_ref());
        let sticks = all.len() == 1 && !hash.is_empty();
        Forward {
            destinations,
            timeout: rule.timeout.as_deref().copied().filter(|timeout| !timeout.is_zero()),
            retry: retry(retries.map(|retries| &retries.value), sticks),
            rewrite: rewrite.and_then(|rewrite| self.context.memo.path_rewrite(rewrite)),
            authority,
            mirrors: self.mirrors(rule),
            hash,
        }
    }

    fn destination(&self, one: &HttpRouteDestination) -> Destination {
        let headers = one.headers.as_deref();
        let request = headers.and_then(|headers| headers.request.as_deref());
        let namespace = &self.key.namespace;
        Destination {
            cluster: self.context.http_destination(&one.destination, namespace, self.port),
            weight: one.weight.value,
            request_headers: operations(request),
            response_headers: operations(headers.and_then(|headers| headers.response.as_deref())),
            authority: authority(request),
        }
    }

    fn mirrors(&self, rule: &HttpRoute) -> Vec<Mirror> {
        let of = |destination: &egressd_model::resource::Destination, per_million: u32| Mirror {
            cluster: self.context.http_destination(destination, &self.key.namespace, self.port),
            per_million,
        };
        let share = |percent: Option<&Spanned<Percent>>| {
            percent.map_or(MILLION, |percent| percent.value.per_million())
        };
        let whole =
            rule.mirror_percent.as_ref().map(|whole| whole.value.saturating_mul(ONE_PERCENT));
        let first = match (&rule.mirror_percentage, whole) {
            (None, Some(whole)) => whole,
            (percentage, _) => share(percentage.as_ref()),
        };
        let single = rule.mirror.iter().map(|to| of(to, first));
        let several =
            rule.mirrors.iter().map(|one| of(&one.destination, share(one.percentage.as_ref())));
        single.chain(several).filter(|mirror| mirror.per_million > 0).collect()
    }

    fn redirect(&self, redirect: &RedirectSettings) -> RouteAction {
        let status = match redirect.redirect_code.value {
            0 | 301 => 301,
            302 => 302,
            303 => 303,
            307 => 307,
            308 => 308,
            // Other 3xx are valid and have no effect (semantics.md §3).
            _ => return RouteAction::Nothing,
        };
        let port = match redirect.derive_port.as_deref() {
            Some(RedirectPort::FromRequestPort) => Some(self.port),
            Some(RedirectPort::FromProtocolDefault) => None,
            None => Some(redirect.port.value).filter(|port| *port != 0),
        };
        let own = if self.tls { "https" } else { "http" };
        let scheme = text(&redirect.scheme);
        let usual = match scheme.as_deref().unwrap_or(own) {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        RouteAction::Redirect(Redirect {
            status,
            authority: Arc::from(redirect.authority.as_str()),
            path: match text(&redirect.prefix_rewrite) {
                Some(prefix) => PathRedirect::Prefix(prefix),
                None => PathRedirect::Whole(Arc::from(redirect.uri.as_str())),
            },
            port: port.filter(|port| Some(*port) != usual),
            scheme,
        })
    }
}

/// A share of the whole, in the unit in which shares are drawn.
const MILLION: u32 = 1_000_000;
const ONE_PERCENT: u32 = 10_000;

/// The retry policy of a route; nothing if retries are switched off.
pub(crate) fn retry(settings: Option<&HttpRetry>, sticks: bool) -> Option<RetryPolicy> {
    // Consistent hashing keeps a request on its endpoint.
    let default = RetryPolicy { avoid_previous_hosts: !sticks, ..RetryPolicy::default() };
    let Some(settings) = settings else { return Some(default) };
    if settings.attempts.value == 0 {
        return None;
    }
    let (retry_on, status_codes) = retry_on(&settings.retry_on);
    let written = !settings.retry_on.is_empty();
    Some(RetryPolicy {
        attempts: settings.attempts.value,
        retry_on: if written { Arc::from(retry_on) } else { Arc::clone(&default.retry_on) },
        status_codes,
        per_try_timeout: settings.per_try_timeout.as_deref().copied().filter(|t| !t.is_zero()),
        avoid_previous_hosts: settings
            .retry_ignore_previous_hosts
            .as_deref()
            .copied()
            .unwrap_or(default.avoid_previous_hosts),
        remote_localities: settings.retry_remote_localities.as_deref().copied().unwrap_or_default(),
        backoff: settings.backoff.as_deref().copied().unwrap_or(default.backoff),
        ..default
    })
}

/// Conditions and status codes of `retryOn`; codes alone imply their condition.
fn retry_on(written: &str) -> (String, Vec<u16>) {
    const BY_CODE: &str = "retriable-status-codes";
    let (mut conditions, mut codes) = (Vec::new(), Vec::new());
    for part in written.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<u16>() {
            Ok(code) if (100..600).contains(&code) => codes.push(code),
            Ok(_) | Err(_) => conditions.push(part),
        }
    }
    if !codes.is_empty() && !conditions.contains(&BY_CODE) {
        conditions.push(BY_CODE);
    }
    (conditions.join(","), codes)
}

fn route_name(rule: &str, condition: Option<&HttpMatch>) -> Arc<str> {
    match condition.map(|condition| condition.name.as_str()).filter(|name| !name.is_empty()) {
        Some(name) => Arc::from(format!("{rule}.{name}")),
        None => Arc::from(rule),
    }
}

/// `host` and pseudo headers are no headers: the authority is changed by other means.
fn operations(written: Option<&HeaderOperations>) -> HeaderOps {
    let Some(written) = written else { return HeaderOps::default() };
    let internal = |name: &str| name.starts_with(':') || name.eq_ignore_ascii_case("host");
    let changes = |map: &BTreeMap<String, Spanned<String>>, append: bool| -> Vec<HeaderChange> {
        let own = map.iter().filter(|(name, _)| !internal(name));
        own.map(|(name, value)| HeaderChange {
            name: Arc::from(name.to_ascii_lowercase()),
            value: Arc::from(value.as_str()),
            append,
        })
        .collect()
    };
    let mut all = changes(&written.set, false);
    all.extend(changes(&written.add, true));
    let removed = written.remove.iter().filter(|name| !internal(name));
    HeaderOps {
        changes: all,
        remove: removed.map(|name| Arc::from(name.to_ascii_lowercase())).collect(),
    }
}

/// The authority that a rule sets by header; `set` beats `add`.
fn authority(written: Option<&HeaderOperations>) -> Option<Arc<str>> {
    let written = written?;
    let names =
        |name: &str| name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority");
    [&written.set, &written.add].into_iter().find_map(|map| {
        let found = map.iter().rfind(|(name, _)| names(name));
        found.and_then(|(_, value)| text(value))
    })
}

fn fault(written: &FaultInjection) -> Option<Fault> {
    let share = |percent: Option<&Spanned<Percent>>| {
        // A share that is not written is never (semantics.md §3).
        percent.map_or(0, |percent| percent.value.per_million())
    };
    let delay = written.delay.as_ref().and_then(|delay| {
        let whole = delay.percent.as_ref().map(|whole| whole.value.saturating_mul(ONE_PERCENT));
        let per_million = match (&delay.percentage, whole) {
            (None, Some(whole)) => whole,
            (percentage, _) => share(percentage.as_ref()),
        };
        Some(Delay { per_million, wait: delay.fixed_delay.as_deref().copied()? })
    });
    let abort = written.abort.as_ref().and_then(|abort| {
        let status = match (&abort.http_status, &abort.grpc_status) {
            (Some(status), _) => AbortStatus::Http(u16::try_from(status.value).ok()?),
            (None, Some(status)) => AbortStatus::Grpc(grpc_status(status)?),
            (None, None) => return None,
        };
        Some(Abort { per_million: share(abort.percentage.as_ref()), status })
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

fn body(body: &DirectResponseBody) -> &[u8] {
    body.as_bytes()
}

fn text(value: &str) -> Option<Arc<str>> {
    Some(value).filter(|value| !value.is_empty()).map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_imply_their_condition() {
        let (conditions, codes) = retry_on("5xx,503, gateway-error");
        assert_eq!(conditions, "5xx,gateway-error,retriable-status-codes");
        assert_eq!(codes, [503]);
        assert_eq!(retry_on("5xx"), ("5xx".to_owned(), vec![]));
    }

    #[test]
    fn retries_are_on_unless_switched_off() {
        assert_eq!(retry(None, false), Some(RetryPolicy::default()));
        assert_eq!(retry(Some(&HttpRetry::default()), false), None);
        let three = HttpRetry { attempts: 3.into(), ..HttpRetry::default() };
        let expect =
            RetryPolicy { attempts: 3, avoid_previous_hosts: false, ..RetryPolicy::default() };
        assert_eq!(retry(Some(&three), true), Some(expect));
    }
}
