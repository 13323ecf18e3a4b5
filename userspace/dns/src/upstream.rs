//! The servers that are asked what is not ours to answer.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rand::seq::SliceRandom as _;

mod health;
mod tls;

pub(crate) use self::{health::Health, tls::client_config};

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub transport: Transport,
}

/// How a server is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP for what came by UDP, TCP for what came by TCP. Port 53.
    Plain,
    /// TCP always. Port 53.
    Tcp,
    /// TLS always (RFC 7858). Port 853.
    Tls {
        /// The name its certificate must have; without one, the certificate must have its address.
        name: Option<Arc<str>>,
    },
}

/// Why an upstream's text is no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no DNS server: write ADDRESS, ADDRESS:PORT, tcp://ADDRESS or tls://ADDRESS#NAME"
)]
pub struct InvalidUpstream {
    /// The text.
    pub text: String,
}

impl Upstream {
    /// A server spoken to in plain DNS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Plain }
    }
}

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    /// Reads `[udp://|tcp://|tls://]ADDRESS[:PORT][#NAME]`; an IPv6 address with a port is in
    /// brackets; a name belongs to `tls` only.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidUpstream { text: text.to_owned() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("udp", text));
        let (place, name) = match rest.split_once('#') {
            Some((place, name)) => (place, Some(name)),
            None => (rest, None),
        };
        let (transport, port) = match (scheme, name) {
            ("udp", None) => (Transport::Plain, 53),
            ("tcp", None) => (Transport::Tcp, 53),
            ("tls", None) => (Transport::Tls { name: None }, 853),
            ("tls", Some(name)) if !name.is_empty() => {
                (Transport::Tls { name: Some(name.into()) }, 853)
            }
            _ => return Err(invalid()),
        };
        let bare = place.strip_prefix('[').and_then(|place| place.strip_suffix(']'));
        let address = match bare.unwrap_or(place).parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_not_alone) => place.parse().map_err(|_neither| invalid())?,
        };
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(invalid());
        }
        Ok(Self { address, transport })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match &self.transport {
            Transport::Plain => write!(f, "udp://{address}"),
            Transport::Tcp => write!(f, "tcp://{address}"),
            Transport::Tls { name: None } => write!(f, "tls://{address}"),
            Transport::Tls { name: Some(name) } => write!(f, "tls://{address}#{name}"),
        }
    }
}

/// The servers in force, and what is done with queries meant for others.
#[derive(Debug, Default)]
pub struct Upstreams {
    servers: Vec<Known>,
    foreign: Foreign,
    /// Servers whose queries go to `servers` although they are not among them: the local stub that
    /// resolv.conf names.
    instead_of: Vec<IpAddr>,
    /// Tells probes of these servers from any other query.
    token: u64,
}

#[derive(Debug)]
struct Known {
    upstream: Upstream,
    /// It is on this node, so that it might ask us in turn.
    is_local: bool,
    /// It does.
    leads_back: AtomicBool,
    /// A probe of it has come back since the last one was over.
    probe_seen: AtomicBool,
    /// The number of the last probe: the end of an earlier one says nothing about it.
    last_probe: AtomicU64,
}

/// What becomes of a query that was meant for a server that is none of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Foreign {
    /// That server is asked. For upstreams that come from resolv.conf.
    #[default]
    AskIt,
    /// The upstreams are asked instead. For upstreams that somebody has written down.
    AskUpstreams,
}

impl Upstreams {
    /// These servers. `instead_of` are servers that they stand for, and that are never asked
    /// themselves.
    pub fn new(servers: Vec<Upstream>, foreign: Foreign, instead_of: Vec<IpAddr>) -> Self {
        let known = |upstream: Upstream| Known {
            is_local: is_local(upstream.address.ip()),
            leads_back: AtomicBool::new(false),
            probe_seen: AtomicBool::new(false),
            last_probe: AtomicU64::new(0),
            upstream,
        };
        let servers = servers.into_iter().map(known).collect();
        Self { servers, foreign, instead_of, token: rand::random() }
    }

    /// Every server, in the order given.
    pub fn servers(&self) -> impl Iterator<Item = &Upstream> {
        self.servers.iter().map(|known| &known.upstream)
    }

    /// The servers to ask, one after the other: at random, those that have been silent lately last
    /// (semantics.md §2). `asked` is the server that the application meant.
    pub(crate) fn order(&self, asked: Option<SocketAddr>, health: &Health) -> Vec<Upstream> {
        if let Some(asked) = asked
            && self.is_foreign(asked)
        {
            return vec![Upstream::plain(asked)];
        }
        let usable = |known: &&Known| !known.leads_back.load(Ordering::Relaxed);
        let mut order: Vec<_> =
            self.servers.iter().filter(usable).map(|known| known.upstream.clone()).collect();
        order.shuffle(&mut rand::rng());
        // Stable: the random order stays among equals. What can be asked by datagram comes first.
        order.sort_by_key(|upstream| {
            (upstream.transport != Transport::Plain, health.is_silent(upstream.address))
        });
        order
    }

    fn is_foreign(&self, asked: SocketAddr) -> bool {
        self.foreign == Foreign::AskIt
            && !self.servers.iter().any(|known| known.upstream.address.ip() == asked.ip())
            && !self.instead_of.contains(&asked.ip())
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Servers on this node, with their places: each must be asked now and then whether it leads
    /// back to us.
    pub(crate) fn local(&self) -> impl Iterator<Item = (usize, &Upstream)> {
        let local = self.servers.iter().enumerate().filter(|(_, known)| known.is_local);
        local.map(|(place, known)| (place, &known.upstream))
    }

    /// Notes that a probe of the server at a place is being sent; gives its number.
    pub(crate) fn probe_sent(&self, place: usize) -> u64 {
        let known = self.servers.get(place);
        known.map_or(0, |known| known.last_probe.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Notes that a probe of the server at a place has arrived here. Says so if that is news.
    pub(crate) fn probe_arrived(&self, place: usize) -> Option<&Upstream> {
        let known = self.servers.get(place)?;
        known.probe_seen.store(true, Ordering::Relaxed);
        let before = known.leads_back.swap(true, Ordering::Relaxed);
        (!before).then_some(&known.upstream)
    }

    /// Notes that a probe of the server at a place is over. Says so if the server is usable again.
    pub(crate) fn probe_over(&self, place: usize, number: u64) -> Option<&Upstream> {
        let known = self.servers.get(place)?;
        if known.last_probe.load(Ordering::Relaxed) != number {
            return None;
        }
        if known.probe_seen.swap(false, Ordering::Relaxed) {
            return None;
        }
        let before = known.leads_back.swap(false, Ordering::Relaxed);
        before.then_some(&known.upstream)
    }

    /// Whether a server is on this node.
    pub(crate) fn is_local(&self, address: SocketAddr) -> bool {
        self.servers.iter().any(|known| known.is_local && known.upstream.address == address)
    }
}

/// Whether an address is this node's own: it can be bound.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, shown) in [
            ("1.1.1.1", "udp://1.1.1.1:53"),
            ("udp://1.1.1.1:5353", "udp://1.1.1.1:5353"),
            ("2606:4700:4700::1111", "udp://[2606:4700:4700::1111]:53"),
            ("[::1]", "udp://[::1]:53"),
            ("[::1]:54", "udp://[::1]:54"),
            ("tcp://9.9.9.9", "tcp://9.9.9.9:53"),
            ("tls://1.1.1.1", "tls://1.1.1.1:853"),
            ("tls://[::1]:8853#dns.example", "tls://[::1]:8853#dns.example"),
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "dns.example",
            "1.1.1.1#x",
            "tls://1.1.1.1#",
            "https://1.1.1.1",
            "1.1.1.1:0",
            "0.0.0.0",
        ] {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
        let error = "x".parse::<Upstream>().unwrap_err().to_string();
        assert!(error.starts_with("\"x\" is no DNS server: write ADDRESS"), "{error}");
    }

    fn upstreams(foreign: Foreign) -> Upstreams {
        let servers =
            ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map(|text| text.parse().unwrap());
        Upstreams::new(servers.to_vec(), foreign, vec!["127.0.0.53".parse().unwrap()])
    }

    #[test]
    fn a_foreign_server_is_asked_itself() {
        let health = Health::default();
        let asked = |text: &str| Some(text.parse().unwrap());
        let upstreams_of_resolv_conf = upstreams(Foreign::AskIt);
        let count = |asked| upstreams_of_resolv_conf.order(asked, &health).len();
        assert_eq!(count(None), 3);
        assert_eq!(count(asked("203.0.113.2:53")), 3);
        assert_eq!(count(asked("127.0.0.53:53")), 3);
        assert_eq!(count(asked("198.51.100.1:53")), 1);
        let order = upstreams(Foreign::AskUpstreams).order(asked("198.51.100.1:53"), &health);
        assert_eq!(order.len(), 3);
    }

    #[test]
    fn one_that_leads_back_is_left_out() {
        let upstreams = upstreams(Foreign::AskIt);
        let (first, second) = (upstreams.probe_sent(1), upstreams.probe_sent(1));
        assert!(upstreams.probe_arrived(1).is_some());
        assert!(upstreams.probe_arrived(1).is_none());
        // The one before the last ends first.
        assert!(upstreams.probe_over(1, first).is_none());
        assert!(upstreams.probe_over(1, second).is_none());
        assert_eq!(upstreams.order(None, &Health::default()).len(), 2);
        let third = upstreams.probe_sent(1);
        assert!(upstreams.probe_over(1, third).is_some());
        assert_eq!(upstreams.order(None, &Health::default()).len(), 3);
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(!is_local("203.0.113.1".parse().unwrap()));
        assert_eq!(upstreams.local().count(), 0);
    }
}
