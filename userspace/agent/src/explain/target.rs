//! What is asked about: an URL as people type it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use egressd_tables::{Call, Explanation, Payload, RequestHead, Stage, Tables};

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// As it was typed.
    pub(super) text: String,
    host: Host,
    /// The port dialled.
    pub(super) port: u16,
    says: Says,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// The first thing the client says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Bytes,
    Hello { sni: Option<String> },
    Request { authority: String, path: String, method: String, headers: BTreeMap<String, String> },
}

/// Why a target makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum TargetError {
    /// Nothing says what is spoken.
    #[error("target {0:?}: begin with http://, https://, tls:// or tcp://")]
    Scheme(String),
    /// A port is needed and not there, or is none.
    #[error("target {0:?}: name a port from 1 to 65535, as in {0}:443")]
    Port(String),
    /// There is no host.
    #[error("target {0:?}: name a host or an address")]
    Host(String),
    /// Something stands behind the port that means nothing there.
    #[error("target {0:?}: {1:?} means nothing here; tls:// takes ?sni=NAME")]
    Rest(String, String),
    /// A header is not one.
    #[error("header {0:?}: write NAME: VALUE")]
    Header(String),
}

/// Where a target is dialled, and how that is known.
pub(super) struct Dialled {
    pub(super) destination: SocketAddr,
    how: How,
}

enum How {
    Typed,
    Answered,
    Given,
    Any,
}

/// Stands for the address of a name that is resolved upstream: reserved for documentation.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// Schemes: what the client says, and the usual port.
const SCHEMES: [(&str, Kind, Option<u16>); 13] = [
    ("http", Kind::Request, Some(80)),
    ("http2", Kind::Request, Some(80)),
    ("h2c", Kind::Request, Some(80)),
    ("grpc", Kind::Request, Some(80)),
    ("https", Kind::Hello, Some(443)),
    ("grpcs", Kind::Hello, Some(443)),
    ("tls", Kind::Hello, Some(443)),
    ("tcp", Kind::Bytes, None),
    ("mongodb", Kind::Bytes, Some(27017)),
    ("mysql", Kind::Bytes, Some(3306)),
    ("postgres", Kind::Bytes, Some(5432)),
    ("postgresql", Kind::Bytes, Some(5432)),
    ("redis", Kind::Bytes, Some(6379)),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Hello,
    Bytes,
}

impl Target {
    /// Reads a target; method and headers are for HTTP requests.
    pub(super) fn parse(text: &str, method: &str, headers: &[String]) -> Result<Self, TargetError> {
        let own = || text.to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| TargetError::Scheme(own()))?;
        let scheme = scheme.to_ascii_lowercase();
        let (_, kind, usual) = *SCHEMES
            .iter()
            .find(|(known, ..)| *known == scheme)
            .ok_or_else(|| TargetError::Scheme(own()))?;
        let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(split);
        // Who somebody is has no part in where he goes.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, authority)| authority);
        let (host, written) = split_port(authority).ok_or_else(|| TargetError::Port(own()))?;
        let port = written.or(usual).ok_or_else(|| TargetError::Port(own()))?;
        let host = match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(ip) => Host::Ip(ip),
            Err(_) if host.is_empty() || host.contains([':', '[', ']', ' ']) => {
                return Err(TargetError::Host(own()));
            }
            Err(_) => Host::Name(host.trim_end_matches('.').to_ascii_lowercase()),
        };
        let says = match kind {
            Kind::Request => Says::Request {
                authority: authority.to_owned(),
                path: path_of(rest),
                method: method.to_owned(),
                headers: parse_headers(headers)?,
            },
            Kind::Hello => Says::Hello { sni: server_name(text, rest, &scheme, &host)? },
            // Databases write users' names and databases behind the port.
            Kind::Bytes if scheme == "tcp" && !matches!(rest, "" | "/") => {
                return Err(TargetError::Rest(own(), rest.to_owned()));
            }
            Kind::Bytes => Says::Bytes,
        };
        Ok(Self { text: text.to_owned(), host, port, says })
    }

    /// The host that the client names, for hints.
    pub(super) fn asked(&self) -> Option<&str> {
        match (&self.says, &self.host) {
            (Says::Hello { sni: Some(name) }, _) => Some(name),
            (Says::Request { authority, .. }, _) => Some(egressd_tables::strip_port(authority)),
            (Says::Hello { sni: None } | Says::Bytes, Host::Name(name)) => Some(name),
            (Says::Hello { sni: None } | Says::Bytes, Host::Ip(_)) => None,
        }
    }

    /// Whether the application speaks TLS itself, so that only the server name is seen.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.says, Says::Hello { .. })
    }

    /// Where it is dialled: as typed, as egressd answers the name, or anywhere.
    pub(super) fn dial(&self, tables: &Tables, address: Option<IpAddr>) -> Dialled {
        let (ip, how) = match &self.host {
            Host::Ip(ip) => (*ip, How::Typed),
            Host::Name(name) => {
                let entry = tables.names().lookup(name);
                let v4 = entry.and_then(|entry| entry.v4.first()).map(|ip| IpAddr::V4(*ip));
                let v6 = entry.and_then(|entry| entry.v6.first()).map(|ip| IpAddr::V6(*ip));
                match (v4.or(v6), address) {
                    (Some(ip), _) => (ip, How::Answered),
                    (None, Some(ip)) => (ip, How::Given),
                    (None, None) => (ANY, How::Any),
                }
            }
        };
        Dialled { destination: SocketAddr::new(ip, self.port), how }
    }

    /// The call at an address.
    pub(super) fn call(&self, destination: SocketAddr) -> Call<'_> {
        let payload = match &self.says {
            Says::Bytes => Payload::Raw,
            Says::Hello { sni } => Payload::Tls { sni: sni.as_deref() },
            Says::Request { authority, path, method, headers } => {
                Payload::Http(RequestHead { method, scheme: "http", authority, path, headers })
            }
        };
        Call { destination, payload }
    }
}

impl Dialled {
    /// Says in an explanation how the address came about.
    pub(super) fn describe(&self, target: &Target, explanation: &mut Explanation) {
        let Host::Name(name) = &target.host else { return };
        let ip = self.destination.ip();
        if matches!(self.how, How::Any) {
            // The stand-in is nobody's address.
            let dialled = self.destination.to_string();
            for step in &mut explanation.steps {
                step.chosen = step.chosen.replace(&dialled, &format!("{name}:{}", target.port));
            }
        }
        let mut steps = explanation.steps.iter_mut();
        let Some(step) = steps.find(|step| step.stage == Stage::Destination) else { return };
        step.because = match self.how {
            How::Typed => return,
            How::Answered => {
                format!("egressd answers {name} with this address ({})", step.because)
            }
            How::Given => format!("{name} is resolved upstream; {}", step.because),
            How::Any => {
                format!("{name} is resolved upstream; {ip} stands for its address (see --address)")
            }
        };
    }
}

/// `/path?query`, without a fragment.
fn path_of(rest: &str) -> String {
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
}

fn server_name(
    text: &str,
    rest: &str,
    scheme: &str,
    host: &Host,
) -> Result<Option<String>, TargetError> {
    let of_host = match host {
        Host::Name(name) => Some(name.clone()),
        Host::Ip(_) => None,
    };
    if scheme != "tls" {
        return Ok(of_host);
    }
    match rest.trim_start_matches('/') {
        "" => Ok(of_host),
        rest => match rest.strip_prefix("?sni=") {
            Some(name) => Ok(Some(name.to_owned()).filter(|name| !name.is_empty())),
            None => Err(TargetError::Rest(text.to_owned(), rest.to_owned())),
        },
    }
}

fn parse_headers(headers: &[String]) -> Result<BTreeMap<String, String>, TargetError> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for header in headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| TargetError::Header(header.clone()))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name.is_empty() {
            return Err(TargetError::Header(header.clone()));
        }
        all.entry(name)
            .and_modify(|known| {
                known.push(',');
                known.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    Ok(all)
}

/// Host and port; nothing if what stands behind the colon is no port.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let plain_v6 = authority.parse::<std::net::Ipv6Addr>().is_ok();
    match authority.rsplit_once(':') {
        Some((host, port)) if !plain_v6 && !port.ends_with(']') => {
            let port: u16 = port.parse().ok()?;
            (port != 0).then_some((host, Some(port)))
        }
        _ => Some((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse(text, "GET", &[])
    }

    #[track_caller]
    fn check(text: &str, host: &str, port: u16, says: &Says) {
        let target = parse(text).unwrap();
        let known = match &target.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        };
        assert_eq!((known.as_str(), target.port, &target.says), (host, port, says));
    }

    fn request(authority: &str, path: &str) -> Says {
        Says::Request {
            authority: authority.to_owned(),
            path: path.to_owned(),
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
        }
    }

    fn hello(sni: Option<&str>) -> Says {
        Says::Hello { sni: sni.map(str::to_owned) }
    }

    #[test]
    fn targets() {
        check("http://a.example", "a.example", 80, &request("a.example", "/"));
        check("HTTP://A.example:8080/x?y#z", "a.example", 8080, &request("A.example:8080", "/x?y"));
        check("http://a.example?q", "a.example", 80, &request("a.example", "/?q"));
        check("http://[::1]:81/", "::1", 81, &request("[::1]:81", "/"));
        check("https://a.example./v1", "a.example", 443, &hello(Some("a.example")));
        check("https://10.0.0.1", "10.0.0.1", 443, &hello(None));
        check("tls://1.2.3.4:443?sni=x", "1.2.3.4", 443, &hello(Some("x")));
        check("tls://a.example?sni=", "a.example", 443, &hello(None));
        check("tcp://240.240.0.1:3306", "240.240.0.1", 3306, &Says::Bytes);
        check("mysql://root:secret@db.example/shop", "db.example", 3306, &Says::Bytes);
        check("tcp://[2001:db8::1]:5432", "2001:db8::1", 5432, &Says::Bytes);
    }

    #[test]
    fn mistakes() {
        for (text, words) in [
            ("a.example", "begin with http://"),
            ("ftp://a.example", "begin with http://"),
            ("tcp://a.example", "name a port"),
            ("http://a.example:0", "name a port"),
            ("http://a.example:x", "name a port"),
            ("http:///path", "name a host"),
            ("tls://a.example?host=b", "?sni=NAME"),
            ("tcp://a.example:1/x", "?sni=NAME"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let headers = |header: &str| Target::parse("http://a", "GET", &[header.to_owned()]);
        assert_eq!(headers("x").unwrap_err(), TargetError::Header("x".to_owned()));
        assert!(headers("X-A: b:c").is_ok());
    }
}
