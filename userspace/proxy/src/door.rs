//! Sockets that clients dial by themselves, where nothing was captured: the explicit HTTP proxy, and
//! the servers of Gateways (semantics.md §6).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc::Sender},
};

use crate::addrs::UnixName;

/// A socket of our own, by what the configuration calls it. What happens behind it is decided by the
/// generation in force when a connection comes in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// The explicit HTTP proxy, or a Sidecar listener with `captureMode: NONE`, at its address.
    Listener(SocketAddr),
    /// The servers of Gateways with this `bind` (empty: every address) and port.
    Gateway {
        /// As it is written.
        bind: Arc<str>,
        /// The port.
        port: u16,
    },
}

/// Where a door's socket listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoorAddr {
    /// At an IP address and a port.
    Ip(SocketAddr),
    /// At a Unix stream socket.
    Unix(UnixName),
}

impl Door {
    /// The addresses to listen on: two where every address is meant, one a family. None where `bind`
    /// is neither an IP address nor a Unix socket.
    pub fn addresses(&self) -> Vec<DoorAddr> {
        match self {
            Self::Listener(addr) => vec![DoorAddr::Ip(*addr)],
            Self::Gateway { bind, port } if bind.is_empty() => {
                let any = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
                any.map(|ip| DoorAddr::Ip(SocketAddr::new(ip, *port))).to_vec()
            }
            Self::Gateway { bind, port } => match bind.strip_prefix("unix://") {
                Some(name) => vec![DoorAddr::Unix(UnixName::new(name))],
                None => {
                    let ip = bind.parse().into_iter();
                    ip.map(|ip| DoorAddr::Ip(SocketAddr::new(ip, *port))).collect()
                }
            },
        }
    }
}

impl fmt::Display for DoorAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(name) => f.write_str(name.as_str()),
        }
    }
}

impl fmt::Display for Door {
    /// Where it is, as a listener is called: `ADDRESS:PORT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(addr) => addr.fmt(f),
            Self::Gateway { bind, port } if bind.is_empty() => write!(f, "*:{port}"),
            Self::Gateway { bind, port } => match bind.parse::<IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, *port).fmt(f),
                Err(_no_address) => write!(f, "{bind}"),
            },
        }
    }
}

/// How connections of a listening socket come in.
#[derive(Clone, Debug)]
pub(crate) enum Entrance {
    /// The kernel turned them to us.
    Captured,
    /// Their clients dialled us.
    Door {
        /// Where.
        door: Arc<Door>,
        /// Goes when the socket is closed.
        _open: Sender<()>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_two() {
        let addresses = |bind: &str| {
            let door = Door::Gateway { bind: bind.into(), port: 80 };
            let addresses = door.addresses();
            let addresses: Vec<_> = addresses.iter().map(DoorAddr::to_string).collect();
            (door.to_string(), addresses.join(" "))
        };
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(addresses(""), pair("*:80", "0.0.0.0:80 [::]:80"));
        assert_eq!(addresses("fd77::1"), pair("[fd77::1]:80", "[fd77::1]:80"));
        assert_eq!(addresses("unix:///run/x"), pair("unix:///run/x", "/run/x"));
        assert_eq!(addresses("unix://@x"), pair("unix://@x", "@x"));
        assert_eq!(addresses("nonsense"), pair("nonsense", ""));
    }
}
