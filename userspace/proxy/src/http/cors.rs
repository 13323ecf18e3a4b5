//! Answers to browsers' preflight requests, and the headers that let a page read an answer
//! (semantics.md §3, corsPolicy).

use egressd_tables::{Cors, TextMatch, UnmatchedPreflight};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{headers, reply::Reply};

/// What a policy makes of a request.
#[derive(Debug)]
pub(crate) enum Crossing<'a> {
    /// It is nothing of CORS, or of no origin that the policy knows.
    Nothing,
    /// It is answered here, with these headers.
    Answer(HeaderMap),
    /// It goes on, and its answer may be read by this origin.
    Allowed(&'a Cors, HeaderValue),
}

/// Looks at a request.
pub(crate) fn look<'a>(policy: &'a Cors, method: &Method, headers: &HeaderMap) -> Crossing<'a> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Crossing::Nothing };
    let known =
        origin.to_str().is_ok_and(|origin| policy.origins.iter().any(|one| knows(one, origin)));
    let preflight =
        method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    match (preflight, known, policy.unmatched) {
        (true, true, _) => Crossing::Answer(preflight_headers(policy, origin)),
        (true, false, UnmatchedPreflight::Ignore) => Crossing::Answer(HeaderMap::new()),
        (false, true, _) => Crossing::Allowed(policy, origin.clone()),
        (true, false, UnmatchedPreflight::Forward) | (false, false, _) => Crossing::Nothing,
    }
}

/// The answer to a preflight, without its headers.
pub(crate) fn reply() -> Reply {
    Reply::new(StatusCode::OK, "cors_response")
}

/// Lets a page of this origin read an answer.
pub(crate) fn allow(policy: &Cors, origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if policy.credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    }
    put(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose);
}

fn preflight_headers(policy: &Cors, origin: &HeaderValue) -> HeaderMap {
    let mut set = HeaderMap::new();
    set.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if policy.credentials {
        set.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    }
    put(&mut set, header::ACCESS_CONTROL_ALLOW_METHODS, &policy.methods);
    put(&mut set, header::ACCESS_CONTROL_ALLOW_HEADERS, &policy.headers);
    if let Some(age) = policy.max_age {
        set.insert(header::ACCESS_CONTROL_MAX_AGE, headers::number(age));
    }
    set
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, text: &str) {
    if let Some(value) = headers::value(text).filter(|value| !value.is_empty()) {
        headers.insert(name, value);
    }
}

fn knows(pattern: &TextMatch, origin: &str) -> bool {
    matches!(pattern, TextMatch::Exact(all) if **all == *"*") || pattern.matches(origin)
}

const TRUE: HeaderValue = HeaderValue::from_static("true");

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(unmatched: UnmatchedPreflight) -> Cors {
        Cors {
            origins: vec![TextMatch::Exact("http://a.example".into())],
            methods: "GET,POST".into(),
            headers: "x-a".into(),
            expose: "x-b".into(),
            max_age: Some(600),
            credentials: true,
            unmatched,
        }
    }

    fn seen(policy: &Cors, method: Method, origin: &'static str, asks: bool) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        if asks {
            headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        }
        match look(policy, &method, &headers) {
            Crossing::Nothing => "nothing".to_owned(),
            Crossing::Answer(headers) => format!("answer {}", headers.len()),
            Crossing::Allowed(..) => "allowed".to_owned(),
        }
    }

    #[test]
    fn preflights_and_others() {
        let forward = policy(UnmatchedPreflight::Forward);
        assert_eq!(seen(&forward, Method::OPTIONS, "http://a.example", true), "answer 5");
        assert_eq!(seen(&forward, Method::OPTIONS, "http://b.example", true), "nothing");
        assert_eq!(seen(&forward, Method::OPTIONS, "http://a.example", false), "allowed");
        assert_eq!(seen(&forward, Method::GET, "http://a.example", false), "allowed");
        assert_eq!(seen(&forward, Method::GET, "http://b.example", false), "nothing");
        let ignore = policy(UnmatchedPreflight::Ignore);
        assert_eq!(seen(&ignore, Method::OPTIONS, "http://b.example", true), "answer 0");
        let any = Cors { origins: vec![TextMatch::Exact("*".into())], ..forward };
        assert_eq!(seen(&any, Method::GET, "http://b.example", false), "allowed");
    }
}
