//! The limits of an exchange: the route's, the application's by headers, and gRPC's own.

use std::time::Duration;

use egressd_tables::Forward;
use http::{HeaderMap, HeaderValue};

use super::{
    deadline::Limit,
    headers::{self, Present, name, take_number},
    reply::Asked,
};

/// The limits of an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// On all of it.
    pub(crate) whole: Option<(Limit, Duration)>,
    /// On each try.
    pub(crate) each: Option<Duration>,
}

impl Timeouts {
    /// Reads the limits; what the application says in Envoy's headers is taken out of them.
    pub(crate) fn new(
        forward: &Forward,
        headers: &mut HeaderMap,
        present: Present,
        asked: Asked,
    ) -> Self {
        let mut take = |name| present.has(&name).then(|| take_number(headers, &name)).flatten();
        let route = match take(name::TIMEOUT) {
            Some(0) => None,
            Some(millis) => Some(Duration::from_millis(millis)),
            None => forward.timeout,
        };
        let each = match take(name::TRY_TIMEOUT) {
            Some(0) => None,
            Some(millis) => Some(Duration::from_millis(millis)),
            None => forward.retry.as_ref().and_then(|retry| retry.per_try_timeout),
        };
        let grpc = match asked {
            Asked::Grpc => headers.get(name::GRPC_TIMEOUT).and_then(grpc_timeout),
            Asked::Http => None,
        };
        let whole = match (route, grpc) {
            (Some(route), Some(grpc)) if grpc < route => Some((Limit::Grpc, grpc)),
            (None, Some(grpc)) => Some((Limit::Grpc, grpc)),
            (Some(route), _) => Some((Limit::Route, route)),
            (None, None) => None,
        };
        // A limit on a try that is no shorter than that on all of them never comes first.
        let each = each.filter(|each| whole.is_none_or(|(_, whole)| *each < whole));
        Self { whole, each }
    }

    /// What the upstream is told of how long it may take.
    pub(crate) fn expected(&self) -> Option<HeaderValue> {
        let expected = self.each.or(self.whole.map(|(_, whole)| whole))?;
        Some(headers::number(u64::try_from(expected.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// At most eight digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use egressd_tables::{Destinations, RetryPolicy};

    use super::*;

    fn limits(route: u64, each: u64, lines: &[(&'static str, &'static str)]) -> Timeouts {
        let seconds = |seconds| (seconds > 0).then(|| Duration::from_secs(seconds));
        let forward = Forward {
            destinations: Destinations::Weighted(Vec::new()),
            timeout: seconds(route),
            retry: Some(RetryPolicy { per_try_timeout: seconds(each), ..RetryPolicy::default() }),
            rewrite: None,
            authority: None,
            mirrors: Vec::new(),
            hash: Vec::new(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let present = Present::of(&headers);
        let timeouts = Timeouts::new(&forward, &mut headers, present, Asked::Grpc);
        assert!(headers.keys().all(|name| *name == name::GRPC_TIMEOUT));
        timeouts
    }

    fn route(seconds: u64) -> Option<(Limit, Duration)> {
        Some((Limit::Route, Duration::from_secs(seconds)))
    }

    #[test]
    fn the_shortest_counts() {
        assert_eq!(limits(0, 0, &[]), Timeouts::default());
        assert_eq!(limits(3, 0, &[]).whole, route(3));
        assert_eq!(limits(3, 1, &[]).each, Some(Duration::from_secs(1)));
        assert_eq!(limits(3, 3, &[]).each, None);
        assert_eq!(limits(3, 0, &[("x-envoy-upstream-rq-timeout-ms", "9000")]).whole, route(9));
        assert_eq!(limits(3, 0, &[("x-envoy-upstream-rq-timeout-ms", "0")]).whole, None);
        let each = limits(3, 0, &[("x-envoy-upstream-rq-per-try-timeout-ms", "5")]).each;
        assert_eq!(each, Some(Duration::from_millis(5)));
        let grpc = (Limit::Grpc, Duration::from_millis(100));
        assert_eq!(limits(3, 0, &[("grpc-timeout", "100m")]).whole, Some(grpc));
        assert_eq!(limits(0, 0, &[("grpc-timeout", "100m")]).whole, Some(grpc));
        assert_eq!(limits(3, 0, &[("grpc-timeout", "1H")]).whole, route(3));
        assert_eq!(limits(3, 0, &[("grpc-timeout", "123456789S")]).whole, route(3));
        assert_eq!(limits(0, 0, &[("grpc-timeout", "S")]).whole, None);
        assert_eq!(limits(3, 1, &[]).expected().unwrap(), "1000");
        assert_eq!(limits(3, 0, &[]).expected().unwrap(), "3000");
    }
}
