//! A type for each role an address plays, so that two of them cannot be mistaken for one another.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What the application dialled: a VIP, or the real address of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginalDst(pub SocketAddr);

/// The application's own end of the captured connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientAddr(pub SocketAddr);

/// The end we use towards the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalAddr(pub SocketAddr);

/// Where an upstream connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamAddr {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix stream socket.
    Unix(UnixName),
}

/// The name of a Unix stream socket as it follows `unix://`: a path, or `@name` for the abstract
/// namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixName(Arc<str>);

impl OriginalDst {
    /// The address to use when the connection goes on to where the application dialled; a port
    /// override of `None` keeps the dialled one.
    pub fn with_port(self, port: Option<u16>) -> UpstreamAddr {
        let mut addr = self.0;
        addr.set_port(port.unwrap_or(addr.port()));
        UpstreamAddr::Ip(addr)
    }
}

impl ClientAddr {
    /// The source address that the application bound itself to, if it did.
    ///
    /// A captured socket that was not bound gets a loopback source, because it was turned to a
    /// loopback address; anything else was the application's wish.
    pub fn explicit_source(self) -> Option<IpAddr> {
        let ip = self.0.ip().to_canonical();
        (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
    }
}

impl UnixName {
    /// A name as written after `unix://`.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in the abstract namespace, without its `@`.
    pub fn as_abstract(&self) -> Option<&str> {
        self.0.strip_prefix('@')
    }
}

impl From<SocketAddr> for UpstreamAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

impl fmt::Display for OriginalDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LocalAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for UpstreamAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(name) => f.write_str(name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bound_source_is_explicit() {
        let source = |text: &str| ClientAddr(text.parse().unwrap()).explicit_source();
        assert_eq!(source("127.0.0.1:4000"), None);
        assert_eq!(source("[::1]:4000"), None);
        assert_eq!(source("[::ffff:127.0.0.1]:4000"), None);
        assert_eq!(source("10.0.0.7:4000"), Some("10.0.0.7".parse().unwrap()));
        assert_eq!(source("[2001:db8::1]:4000"), Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_port_override_replaces_the_dialled_port() {
        let dialled = OriginalDst("10.0.0.1:80".parse().unwrap());
        assert_eq!(dialled.with_port(None).to_string(), "10.0.0.1:80");
        assert_eq!(dialled.with_port(Some(8080)).to_string(), "10.0.0.1:8080");
    }
}
