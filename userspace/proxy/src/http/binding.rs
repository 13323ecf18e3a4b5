//! Authentication that holds for a connection.
//!
//! NTLM, and Negotiate as servers commonly implement it (RFC 4559 §6), authenticate a connection and
//! not a request: whoever sends the next request on it acts in the name of the one before. HTTP does
//! not provide for that, and servers do it all the same. Such a connection belongs to the application's
//! connection it was opened for: nobody else's requests go on it, its own go there again, and it ends
//! with it. HAProxy does the same; Envoy shares such connections.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use egressd_tables::Cluster;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{addrs::UpstreamAddr, cluster::Mesh};

/// What an application's connection has for itself; nothing, in most cases.
#[derive(Debug, Default)]
pub(crate) struct Binding(OnceLock<Arc<Owner>>);

/// An application's connection, as the owner of connections to endpoints.
#[derive(Debug, Default)]
pub(crate) struct Owner(Mutex<Option<Seat>>);

/// Where the connection is that requests of the owner go on.
#[derive(Clone, Debug)]
struct Seat {
    cluster: Arc<Cluster>,
    authority: Box<str>,
    addr: UpstreamAddr,
    mesh: Mesh,
}

impl Binding {
    /// The owner, if it owns anything.
    pub(crate) fn owner(&self) -> Option<&Arc<Owner>> {
        self.0.get()
    }

    /// The owner, from here on at least.
    pub(crate) fn own(&self) -> &Arc<Owner> {
        self.0.get_or_init(Arc::default)
    }
}

impl Owner {
    /// Its connection for an authority is one to this endpoint. It has one such place: whoever
    /// authenticates to many gets a new handshake at each change.
    pub(crate) fn sit(&self, cluster: &Arc<Cluster>, authority: &str, at: (&UpstreamAddr, &Mesh)) {
        let mut seat = self.lock();
        if let Some(seat) = &*seat
            && seat.is_for(cluster, authority)
            && seat.addr == *at.0
        {
            return;
        }
        let (addr, mesh) = (at.0.clone(), at.1.clone());
        *seat =
            Some(Seat { cluster: Arc::clone(cluster), authority: authority.into(), addr, mesh });
    }

    /// Where its requests to an authority go on. A cluster of another generation is another one: its
    /// endpoints may be others.
    pub(crate) fn seat(
        &self,
        cluster: &Arc<Cluster>,
        authority: &str,
    ) -> Option<(UpstreamAddr, Mesh)> {
        let seat = self.lock();
        let seat = seat.as_ref().filter(|seat| seat.is_for(cluster, authority))?;
        Some((seat.addr.clone(), seat.mesh.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn is_for(&self, cluster: &Arc<Cluster>, authority: &str) -> bool {
        Arc::ptr_eq(&self.cluster, cluster) && *self.authority == *authority
    }
}

/// Whether a request authenticates the connection it is sent on.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION]
        .iter()
        .any(|name| headers.get_all(name).iter().any(binds))
}

/// Whether an answer asks for, or goes on with, an authentication of the connection it came on.
pub(crate) fn is_offered(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        && [header::WWW_AUTHENTICATE, header::PROXY_AUTHENTICATE].iter().any(|name| {
            // Several challenges may be in one line.
            let mut values = headers.get_all(name).iter();
            values.any(|value| value.as_bytes().split(|byte| *byte == b',').any(is_bound_scheme))
        })
}

fn binds(value: &HeaderValue) -> bool {
    is_bound_scheme(value.as_bytes())
}

fn is_bound_scheme(challenge: &[u8]) -> bool {
    let challenge = challenge.trim_ascii_start();
    let end = challenge.iter().position(|byte| !byte.is_ascii_alphanumeric());
    let scheme = challenge.get(..end.unwrap_or(challenge.len())).unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"NTLM") || scheme.eq_ignore_ascii_case(b"Negotiate")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_told_by_their_names() {
        for (value, expected) in [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAAB", true),
            ("Negotiate YII=", true),
            ("Basic dTpw", false),
            ("Bearer NTLM", false),
            ("NTLMv9 x", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(is_asked(&headers), expected, "{value}");
        }
    }

    #[test]
    fn challenges_are_found_wherever_they_stand() {
        for (value, expected) in
            [("Negotiate", true), ("Basic realm=\"x\", NTLM", true), ("Basic realm=\"x\"", false)]
        {
            let mut headers = HeaderMap::new();
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Digest x"));
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
            assert_eq!(is_offered(StatusCode::UNAUTHORIZED, &headers), expected, "{value}");
            assert!(!is_offered(StatusCode::OK, &headers));
        }
    }
}
