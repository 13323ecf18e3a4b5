//! Headers: how routing reads them, what belongs to one connection only, and what routes change.

pub(crate) mod change;
mod format;
pub(crate) mod hop;
mod present;

use std::borrow::Cow;

use egressd_tables::HeaderLookup;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use self::{format::Context, present::Present};

/// Headers as routing reads them.
pub(crate) struct Seen<'a>(pub(crate) &'a HeaderMap);

impl HeaderLookup for Seen<'_> {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.0.get_all(name).iter();
        let text = |value: &'_ HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let first = values.next()?;
        let Some(second) = values.next() else {
            return Some(String::from_utf8_lossy(first.as_bytes()));
        };
        let all = [first, second].into_iter().chain(values).map(text).collect::<Vec<_>>();
        Some(Cow::Owned(all.join(",")))
    }
}

/// A value of ours; nothing if it holds what no header may.
pub(crate) fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// A number as a value.
pub(crate) fn number(number: impl Into<u64>) -> HeaderValue {
    HeaderValue::from(number.into())
}

/// Takes a header out and reads it as a number.
pub(crate) fn take_number(headers: &mut HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.remove(name)?.to_str().ok()?.trim().parse().ok()
}

/// Names that hyper has no constant for.
pub(crate) mod name {
    use http::HeaderName;

    macro_rules! names {
        ($($constant:ident: $text:literal,)*) => {
            $(pub(crate) const $constant: HeaderName = HeaderName::from_static($text);)*
        };
    }

    names! {
        ATTEMPT_COUNT: "x-envoy-attempt-count",
        DECORATOR_OPERATION: "x-envoy-decorator-operation",
        EXPECTED_TIMEOUT: "x-envoy-expected-rq-timeout-ms",
        FORWARDED_CLIENT_CERT: "x-forwarded-client-cert",
        FORWARDED_FOR: "x-forwarded-for",
        FORWARDED_PROTO: "x-forwarded-proto",
        GRPC_MESSAGE: "grpc-message",
        GRPC_STATUS: "grpc-status",
        GRPC_TIMEOUT: "grpc-timeout",
        HTTP2_SETTINGS: "http2-settings",
        KEEP_ALIVE: "keep-alive",
        MAX_RETRIES: "x-envoy-max-retries",
        ORIGINAL_PATH: "x-envoy-original-path",
        OVERLOADED: "x-envoy-overloaded",
        PEER_METADATA: "x-envoy-peer-metadata",
        PEER_METADATA_ID: "x-envoy-peer-metadata-id",
        PROXY_CONNECTION: "proxy-connection",
        RATE_LIMITED: "x-envoy-ratelimited",
        REQUEST_ID: "x-request-id",
        RETRIABLE_CODES: "x-envoy-retriable-status-codes",
        RETRY_GRPC_ON: "x-envoy-retry-grpc-on",
        RETRY_ON: "x-envoy-retry-on",
        SERVICE_TIME: "x-envoy-upstream-service-time",
        TIMEOUT: "x-envoy-upstream-rq-timeout-ms",
        TRY_TIMEOUT: "x-envoy-upstream-rq-per-try-timeout-ms",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static("1"));
        assert_eq!(Seen(&headers).header("a").as_deref(), Some("1"));
        headers.append("a", HeaderValue::from_static("2"));
        headers.append("a", HeaderValue::from_static("3"));
        assert_eq!(Seen(&headers).header("a").as_deref(), Some("1,2,3"));
        assert_eq!(Seen(&headers).header("b"), None);
    }
}
