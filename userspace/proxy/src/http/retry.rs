//! When a request is tried again (semantics.md §3, retries).

use std::time::Duration;

use egressd_tables::{DEFAULT_BACKOFF, RetryPolicy};
use http::{HeaderMap, StatusCode};

use super::{
    failure::Failure,
    headers::{Present, name, take_number},
    response_body::grpc_status,
};
use crate::random;

/// What a request may be tried again for: what its route says and what the application asks for.
#[derive(Debug)]
pub(crate) struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    /// Conditions of the application's, comma separated.
    asked: Option<Box<str>>,
    codes: Vec<u16>,
    left: u32,
    /// Tries so far.
    done: u32,
}

/// Whether there is one more try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was no reason to try again.
    Enough,
    /// There was one, and no try is left.
    Exhausted,
    /// After a pause.
    Again,
}

impl<'a> Retries<'a> {
    /// The rules of a request; the application's wishes are taken out of its headers.
    pub(crate) fn new(
        policy: Option<&'a RetryPolicy>,
        headers: &mut HeaderMap,
        present: Present,
    ) -> Self {
        let words = |value: http::HeaderValue| value.to_str().ok().map(Box::<str>::from);
        let mut take = |name| present.has(&name).then(|| headers.remove(name)).flatten();
        let asked = take(name::RETRY_ON).and_then(words);
        let grpc = take(name::RETRY_GRPC_ON).and_then(words);
        let codes = take(name::RETRIABLE_CODES);
        let asked = match (asked, grpc) {
            (Some(one), Some(other)) => Some(format!("{one},{other}").into()),
            (one, other) => one.or(other),
        };
        let most =
            present.has(&name::MAX_RETRIES).then(|| take_number(headers, &name::MAX_RETRIES));
        let most = most.flatten();
        let codes = codes.as_ref().and_then(|codes| codes.to_str().ok()).unwrap_or_default();
        let codes = codes.split(',').filter_map(|code| code.trim().parse().ok()).collect();
        let by_route = policy.map_or(u32::from(asked.is_some()), |policy| policy.attempts);
        let asked_for = most.filter(|_| policy.is_some() || asked.is_some());
        let left = asked_for.map_or(by_route, |most| u32::try_from(most).unwrap_or(u32::MAX));
        Self { policy, asked, codes, left, done: 0 }
    }

    /// Whether a further try is thinkable, so that the request has to be kept.
    pub(crate) fn is_possible(&self) -> bool {
        self.left > 0
    }

    /// Judges an answer.
    pub(crate) fn after_answer(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        present: Present,
    ) -> Verdict {
        self.judge(|rules| rules.wants_answer_again(status.as_u16(), headers, present))
    }

    /// Judges a failure.
    pub(crate) fn after_failure(&mut self, failure: &Failure) -> Verdict {
        self.judge(|rules| rules.wants_failure_again(failure))
    }

    fn judge(&mut self, wants: impl FnOnce(&Self) -> bool) -> Verdict {
        if !wants(self) {
            return Verdict::Enough;
        }
        if self.left == 0 {
            return Verdict::Exhausted;
        }
        self.left -= 1;
        self.done += 1;
        Verdict::Again
    }

    /// How long to wait before the next try: anything up to 25 ms, 50 ms, 100 ms and so on, and never
    /// more than ten times the first.
    pub(crate) fn pause(&self) -> Duration {
        let first = self.policy.map_or(DEFAULT_BACKOFF, |policy| policy.backoff);
        let longest = first.saturating_mul(2_u32.saturating_pow(self.done.saturating_sub(1)));
        let longest = longest.min(first.saturating_mul(10));
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(random::below(nanos))
    }

    fn wants_answer_again(&self, status: u16, headers: &HeaderMap, present: Present) -> bool {
        let grpc = grpc_status(headers, present);
        // The most frequent case by far, and the words need not be looked at.
        if status < 400 && grpc.is_none() && self.no_codes() {
            return false;
        }
        if headers.contains_key(name::RATE_LIMITED) {
            return self.on("envoy-ratelimited");
        }
        (status >= 500 && self.on("5xx"))
            || (matches!(status, 502..=504) && self.on("gateway-error"))
            || (status == 409 && self.on("retriable-4xx"))
            || (self.has_code(status) && self.on("retriable-status-codes"))
            || grpc.and_then(grpc_word).is_some_and(|word| self.on(word))
    }

    fn wants_failure_again(&self, failure: &Failure) -> bool {
        match failure {
            Failure::NoEndpoint(_) | Failure::Overflow | Failure::Full | Failure::Downstream(_) => {
                false
            }
            // Envoy counts a failure as a 503 here.
            Failure::NotConnected(_)
            | Failure::Terminated
            | Failure::Reset
            | Failure::Refused
            | Failure::Protocol
            | Failure::TimedOut
                if self.on("5xx") || self.on("gateway-error") || self.on("reset") =>
            {
                true
            }
            Failure::NotConnected(_) => {
                self.on("connect-failure") || self.on("reset-before-request")
            }
            Failure::Refused => self.on("refused-stream"),
            Failure::Terminated | Failure::Reset | Failure::Protocol | Failure::TimedOut => false,
        }
    }

    fn on(&self, word: &str) -> bool {
        self.policy.is_some_and(|policy| policy.retries_on(word))
            || self.asked.as_deref().is_some_and(|asked| lists(asked, word))
    }

    fn no_codes(&self) -> bool {
        self.codes.is_empty() && self.policy.is_none_or(|policy| policy.status_codes.is_empty())
    }

    fn has_code(&self, status: u16) -> bool {
        self.codes.contains(&status)
            || self.policy.is_some_and(|policy| policy.status_codes.contains(&status))
    }
}

fn lists(words: &str, word: &str) -> bool {
    words.split(',').any(|known| known.trim() == word)
}

fn grpc_word(status: u16) -> Option<&'static str> {
    match status {
        1 => Some("cancelled"),
        4 => Some("deadline-exceeded"),
        8 => Some("resource-exhausted"),
        13 => Some("internal"),
        14 => Some("unavailable"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::record::TransportFailure;

    fn policy(retry_on: &str, codes: &[u16]) -> RetryPolicy {
        RetryPolicy {
            retry_on: retry_on.into(),
            status_codes: codes.to_vec(),
            ..RetryPolicy::default()
        }
    }

    fn answer(retry_on: &str, codes: &[u16], status: u16, grpc: Option<u16>) -> Verdict {
        let policy = policy(retry_on, codes);
        let mut headers = HeaderMap::new();
        if let Some(grpc) = grpc {
            headers.insert(name::GRPC_STATUS, HeaderValue::from(grpc));
        }
        Retries::new(Some(&policy), &mut HeaderMap::new(), Present::default()).after_answer(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            Present::of(&headers),
        )
    }

    #[test]
    fn answers() {
        use Verdict::{Again, Enough};
        let default = RetryPolicy::default().retry_on;
        assert_eq!(answer(&default, &[], 503, None), Enough);
        assert_eq!(answer(&default, &[], 200, Some(14)), Again);
        assert_eq!(answer(&default, &[], 200, Some(1)), Again);
        assert_eq!(answer(&default, &[], 200, Some(8)), Enough);
        assert_eq!(answer("5xx", &[], 500, None), Again);
        assert_eq!(answer("5xx", &[], 499, None), Enough);
        assert_eq!(answer("gateway-error", &[], 500, None), Enough);
        assert_eq!(answer("gateway-error", &[], 504, None), Again);
        assert_eq!(answer("retriable-4xx", &[], 409, None), Again);
        assert_eq!(answer("retriable-4xx", &[], 404, None), Enough);
        assert_eq!(answer("retriable-status-codes", &[429, 200], 429, None), Again);
        assert_eq!(answer("retriable-status-codes", &[429, 200], 200, None), Again);
        assert_eq!(answer("retriable-status-codes", &[429], 503, None), Enough);
        assert_eq!(answer("deadline-exceeded,internal", &[], 200, Some(4)), Again);
        assert_eq!(answer("deadline-exceeded,internal", &[], 200, Some(13)), Again);
        assert_eq!(answer("resource-exhausted", &[], 200, Some(8)), Again);
    }

    #[test]
    fn failures() {
        let on = |words: &str, failure: &Failure| {
            let policy = policy(words, &[]);
            Retries::new(Some(&policy), &mut HeaderMap::new(), Present::default())
                .after_failure(failure)
                == Verdict::Again
        };
        let unconnected = Failure::NotConnected(TransportFailure::Timeout);
        let default = RetryPolicy::default().retry_on;
        for (failure, by_default, by_5xx, by_reset) in [
            (&unconnected, true, true, true),
            (&Failure::Refused, true, true, true),
            (&Failure::Terminated, false, true, true),
            (&Failure::TimedOut, false, true, true),
            (&Failure::Overflow, false, false, false),
        ] {
            assert_eq!(on(&default, failure), by_default, "{failure:?}");
            assert_eq!(on("5xx", failure), by_5xx, "{failure:?}");
            assert_eq!(on("gateway-error", failure), by_5xx, "{failure:?}");
            assert_eq!(on("reset", failure), by_reset, "{failure:?}");
        }
        assert!(on("reset-before-request", &unconnected));
    }

    #[test]
    fn tries_run_out() {
        let policy = RetryPolicy { attempts: 2, ..policy("5xx", &[]) };
        let mut retries = Retries::new(Some(&policy), &mut HeaderMap::new(), Present::default());
        let failure = Failure::Terminated;
        assert_eq!(retries.after_failure(&failure), Verdict::Again);
        assert!(retries.pause() < DEFAULT_BACKOFF);
        assert_eq!(retries.after_failure(&failure), Verdict::Again);
        assert!(retries.pause() < DEFAULT_BACKOFF * 2);
        assert_eq!(retries.after_failure(&failure), Verdict::Exhausted);
        retries.done = 30;
        assert!((0..100).all(|_| retries.pause() < DEFAULT_BACKOFF * 10));
    }

    #[test]
    fn the_application_may_ask() {
        let mut headers = HeaderMap::new();
        headers.insert(name::RETRY_ON, HeaderValue::from_static("gateway-error"));
        headers.insert(name::MAX_RETRIES, HeaderValue::from_static("3"));
        headers.insert(name::RETRIABLE_CODES, HeaderValue::from_static("418"));
        let present = Present::of(&headers);
        let retries = Retries::new(None, &mut headers, present);
        assert_eq!(retries.left, 3);
        assert!(retries.on("gateway-error") && !retries.on("5xx"));
        assert!(headers.is_empty());
        assert!(!Retries::new(None, &mut HeaderMap::new(), Present::default()).is_possible());
    }
}
