//! Calls to services, of one kind, spread over all of them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use egressd_tables::{Call, NoHeaders, Payload, RequestHead, Tables};

use crate::resources::{KINDS, hosts};

/// What is dialled, and the name that is said there.
pub(crate) struct Target {
    destination: SocketAddr,
    name: String,
}

/// How a service is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Bytes to a virtual address.
    Tcp,
    /// A ClientHello to a virtual address that its port shares with others.
    Tls,
    /// A request to a virtual address.
    Http,
    /// A request for a host, wherever it was sent to.
    HttpElsewhere,
    /// Bytes to an address that nobody knows.
    Unknown,
}

/// Ways with their names in the figures.
pub(crate) const WAYS: [(&str, Way); 5] = [
    ("tcp", Way::Tcp),
    ("tls", Way::Tls),
    ("http", Way::Http),
    ("http-elsewhere", Way::HttpElsewhere),
    ("unknown", Way::Unknown),
];

/// Targets in an order that no cache foresees; at most [`MOST`].
pub(crate) fn targets(tables: &Tables, entries: usize, way: Way) -> Result<Vec<Target>> {
    let (kind, port) = match way {
        Way::Tcp => (2, 3306),
        Way::Tls => (1, 443),
        Way::Http | Way::HttpElsewhere => (0, 80),
        Way::Unknown => (0, 22),
    };
    let count = (entries / KINDS).clamp(1, MOST);
    let step = (entries / KINDS / count).max(1);
    let places = (0..count).map(|n| n * STRIDE % count * step * KINDS + kind);
    places.map(|place| target(tables, place, way, port)).collect()
}

fn target(tables: &Tables, place: usize, way: Way, port: u16) -> Result<Target> {
    let [name, _] = hosts(place);
    let elsewhere = matches!(way, Way::HttpElsewhere | Way::Unknown);
    let ip = if elsewhere {
        IpAddr::from([203, 0, 113, u8::try_from(place % 250)?])
    } else {
        let found = tables.names().lookup(&name).and_then(|entry| entry.v4.first().copied());
        found.with_context(|| format!("{name} has no virtual address"))?.into()
    };
    Ok(Target { destination: SocketAddr::new(ip, port), name })
}

impl Target {
    /// The call itself.
    pub(crate) fn call(&self, way: Way) -> Call<'_> {
        let payload = match way {
            Way::Tcp | Way::Unknown => Payload::Raw,
            Way::Tls => Payload::Tls { sni: Some(&self.name) },
            Way::Http | Way::HttpElsewhere => Payload::Http(RequestHead {
                method: "GET",
                scheme: "http",
                authority: &self.name,
                path: "/v2/items?page=1",
                headers: &NoHeaders,
            }),
        };
        Call { destination: self.destination, payload }
    }
}

/// Targets of one way, at most.
const MOST: usize = 1024;
/// A prime, so that every target has its turn.
const STRIDE: usize = 613;
