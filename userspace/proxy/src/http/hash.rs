//! What consistent hashing looks at in a request (semantics.md §4, consistentHash).

use std::{fmt::Write, time::Duration};

use egressd_tables::{HashKey, HashPolicy};
use http::{HeaderValue, header};

use super::{headers, inbound::Inbound, upstream::Origin};
use crate::random;

/// A request's key.
#[derive(Debug, Default)]
pub(crate) struct Keyed {
    /// The hash of the key; nothing if the request has none, and any endpoint will do.
    pub(crate) hash: Option<u64>,
    /// A cookie to give to the application, so that the next request has the same key.
    pub(crate) cookie: Option<HeaderValue>,
}

/// The first key that the request has.
pub(crate) fn key(policies: &[HashPolicy], request: &Inbound, origin: &Origin) -> Keyed {
    policies.iter().find_map(|policy| of_key(&policy.key, request, origin)).unwrap_or_default()
}

fn of_key(key: &HashKey, request: &Inbound, origin: &Origin) -> Option<Keyed> {
    let found = |bytes: &[u8]| Some(Keyed { hash: Some(hash(bytes)), cookie: None });
    match key {
        HashKey::Header(name) => found(request.parts.headers.get(&**name)?.as_bytes()),
        HashKey::SourceIp => found(origin.client.0.ip().to_canonical().to_string().as_bytes()),
        HashKey::QueryParameter(name) => {
            request.with_head(|head| found(head.query_parameter(name)?.as_bytes()))
        }
        HashKey::Cookie { name, path, ttl, attributes } => {
            if let Some(value) = cookie(request, name) {
                return found(value.as_bytes());
            }
            let lifetime = (*ttl)?;
            let value = format!("{:016x}", random::next());
            let mut set = format!("{name}={value}");
            write_attributes(&mut set, path.as_deref(), lifetime, attributes);
            Some(Keyed { hash: Some(hash(value.as_bytes())), cookie: headers::value(&set) })
        }
    }
}

fn write_attributes(
    set: &mut String,
    path: Option<&str>,
    lifetime: Duration,
    attributes: &[(std::sync::Arc<str>, std::sync::Arc<str>)],
) {
    // Writing to a String cannot fail.
    if !lifetime.is_zero() {
        write!(set, "; Max-Age={}", lifetime.as_secs()).ok();
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        write!(set, "; Path={path}").ok();
    }
    for (name, value) in attributes {
        match &**value {
            "" => write!(set, "; {name}").ok(),
            value => write!(set, "; {name}={value}").ok(),
        };
    }
    set.push_str("; HttpOnly");
}

fn cookie<'a>(request: &'a Inbound, name: &str) -> Option<&'a str> {
    let lines = request.parts.headers.get_all(header::COOKIE).iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';')).find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// The same in every process, so that keys keep their endpoints over a restart (FNV-1a, 64 bits).
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_as_envoy_writes_them() {
        let mut set = "c=v".to_owned();
        let attributes = [("SameSite".into(), "Lax".into()), ("Secure".into(), "".into())];
        write_attributes(&mut set, Some("/p"), Duration::from_secs(60), &attributes);
        assert_eq!(set, "c=v; Max-Age=60; Path=/p; SameSite=Lax; Secure; HttpOnly");
        let mut session = "c=v".to_owned();
        write_attributes(&mut session, None, Duration::ZERO, &[]);
        assert_eq!(session, "c=v; HttpOnly");
    }

    #[test]
    fn hashes_are_fixed() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
