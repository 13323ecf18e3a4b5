//! Sockets that clients dial by themselves, where nothing was captured: the explicit HTTP proxy, and
//! the servers of Gateways (semantics.md §6).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc::Sender},
};

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

impl Door {
    /// The addresses to listen on: two where every address is meant, one a family. None where `bind`
    /// is no IP address.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Listener(addr) => vec![*addr],
            Self::Gateway { bind, port } if bind.is_empty() => {
                let any = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
                any.map(|ip| SocketAddr::new(ip, *port)).to_vec()
            }
            Self::Gateway { bind, port } => {
                bind.parse().map(|ip: IpAddr| SocketAddr::new(ip, *port)).into_iter().collect()
            }
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
            let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
            (door.to_string(), addresses.join(" "))
        };
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(addresses(""), pair("*:80", "0.0.0.0:80 [::]:80"));
        assert_eq!(addresses("fd77::1"), pair("[fd77::1]:80", "[fd77::1]:80"));
        assert_eq!(addresses("unix:///run/x"), pair("unix:///run/x", ""));
    }
}
