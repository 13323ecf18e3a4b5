//! The name in the ClientHello, and the name the certificate must then be for (semantics.md §4).

use std::net::IpAddr;

use egressd_tables::{Sni, strip_port};
use rustls::pki_types::{DnsName, ServerName};

use super::failure::TlsFailure;
use crate::addrs::UpstreamAddr;

/// What is spoken inside the TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks<'a> {
    /// Bytes that nobody here reads.
    Opaque,
    /// HTTP/1.1 requests.
    Http1 {
        /// The Host of the first of them, with or without a port.
        host: &'a str,
    },
    /// HTTP/2 requests.
    Http2 {
        /// The `:authority` of the first of them, with or without a port.
        host: &'a str,
    },
}

/// The name of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// What the session is found by, and the ClientHello carries if it is a DNS name.
    pub(super) server: ServerName<'static>,
    /// Somebody named the server, so that its certificate can be compared with it. Else `server` is
    /// the endpoint's address, which is never sent.
    pub(super) given: bool,
}

impl Name {
    /// The name as the DestinationRule says, else that of the request, else none.
    ///
    /// # Errors
    /// There is a name, and it cannot be one.
    pub(super) fn new(
        sni: &Sni,
        speaks: Speaks<'_>,
        endpoint: &UpstreamAddr,
    ) -> Result<Self, TlsFailure> {
        let text = match (sni, speaks) {
            (Sni::Fixed(name), _) => &**name,
            (Sni::RequestHost { .. }, Speaks::Http1 { host } | Speaks::Http2 { host }) => {
                strip_port(host)
            }
            // A ServiceEntry's host is a name for the application's sake; what its endpoints are
            // called in their certificates only the DestinationRule can say.
            (Sni::RequestHost { .. }, Speaks::Opaque) => return Ok(Self::none(endpoint)),
        };
        let server = parse(text).ok_or_else(|| TlsFailure::BadServerName(text.into()))?;
        Ok(Self { server, given: true })
    }

    fn none(endpoint: &UpstreamAddr) -> Self {
        let ip = match endpoint {
            UpstreamAddr::Ip(addr) => addr.ip().to_canonical(),
            UpstreamAddr::Unix(_) => IpAddr::from([0, 0, 0, 0]),
        };
        Self { server: ServerName::IpAddress(ip.into()), given: false }
    }
}

/// An address, in brackets or not, or a DNS name, in lower case and without the dot at its end.
pub(super) fn parse(text: &str) -> Option<ServerName<'static>> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(ServerName::IpAddress(ip.into()));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    DnsName::try_from(name).ok().map(ServerName::DnsName)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sni: &Sni, speaks: Speaks<'_>) -> Result<(String, bool), TlsFailure> {
        let endpoint = UpstreamAddr::Ip("10.0.0.1:443".parse().unwrap());
        let name = Name::new(sni, speaks, &endpoint)?;
        Ok((name.server.to_str().into_owned(), name.given))
    }

    #[test]
    fn names_follow_the_rule_then_the_request() {
        let fixed = Sni::Fixed("outbound_.80_._.a.example".into());
        let request = Sni::RequestHost { service: "svc.example".into() };
        let given = |text: &str| Ok((text.to_owned(), true));
        let http = |host| Speaks::Http1 { host };
        assert_eq!(name(&fixed, Speaks::Opaque), given("outbound_.80_._.a.example"));
        assert_eq!(name(&fixed, http("b.example")), given("outbound_.80_._.a.example"));
        assert_eq!(name(&request, http("B.example.:8443")), given("b.example"));
        assert_eq!(name(&request, Speaks::Http2 { host: "b.example" }), given("b.example"));
        assert_eq!(name(&request, http("10.1.2.3:80")), given("10.1.2.3"));
        assert_eq!(name(&request, http("[2001:db8::1]:80")), given("2001:db8::1"));
        assert_eq!(name(&request, Speaks::Opaque), Ok(("10.0.0.1".into(), false)));
        for bad in ["", "a b", "*.example", "a..b", "-a"] {
            assert_eq!(
                name(&request, http(bad)),
                Err(TlsFailure::BadServerName(bad.into())),
                "{bad:?}"
            );
        }
    }
}
