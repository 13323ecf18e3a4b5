//! Addresses of services (an IP or a block) and of endpoints (an IP, a name or a Unix socket).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// An IP address or a block of them. The bits behind the prefix are kept as written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    address: IpAddr,
    prefix: u8,
}

/// The text is neither an IP address nor a block in `ADDRESS/BITS` form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a CIDR block")]
pub struct InvalidIpRange(String);

impl IpRange {
    /// Reads `1.2.3.4`, `10.0.0.0/8`, `2001:db8::1` or `2001:db8::/32`.
    ///
    /// # Errors
    /// When the address does not parse or the prefix is longer than the address.
    pub fn parse(text: &str) -> Result<Self, InvalidIpRange> {
        let range = match text.split_once('/') {
            Some((address, prefix)) => Self::block(address, prefix),
            None => text.parse().ok().map(Self::single),
        };
        range.ok_or_else(|| InvalidIpRange(text.to_owned()))
    }

    fn block(address: &str, prefix: &str) -> Option<Self> {
        let address: IpAddr = address.parse().ok()?;
        let digits = prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| digits && *prefix <= Self::single(address).prefix)?;
        Some(Self { address, prefix })
    }

    /// The block that holds one address.
    pub fn single(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The block of an address with this many leading bits; nothing if there are not so many.
    pub fn of(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= Self::single(address).prefix).then_some(Self { address, prefix })
    }

    /// The address as written, bits behind the prefix included.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Number of leading bits that count.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether it stands for one address: written without a prefix, or with /32 or /128.
    pub fn is_single(self) -> bool {
        self == Self::single(self.address)
    }

    /// The same block with the bits behind the prefix cleared: 192.192.192.192/24 becomes 192.192.192.0/24.
    pub fn masked(self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, prefix: self.prefix }
    }

    /// Whether an address of the same family lies inside.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && Self { address, prefix: self.prefix }.masked() == self.masked()
    }
}

/// One address prints without its prefix.
impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

impl fmt::Debug for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Default for IpRange {
    fn default() -> Self {
        Self::single(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// Nothing was written: allowed only where `network` is set.
    #[default]
    Unset,
    /// An IP address.
    Ip(IpAddr),
    /// A name to be resolved.
    Name(Arc<str>),
    /// A Unix domain socket, written `unix://…`.
    Unix(UnixSocket),
}

impl EndpointAddress {
    /// Reads an address; whatever is neither an IP nor `unix://…` is a name, whose form the resource's rules check.
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            Self::Unset
        } else if let Some(socket) = text.strip_prefix("unix://") {
            Self::Unix(UnixSocket::parse(socket))
        } else {
            text.parse().map_or_else(|_| Self::Name(Arc::from(text)), Self::Ip)
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Unix(socket) => write!(f, "unix://{socket}"),
        }
    }
}

/// The place of a Unix domain socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnixSocket {
    /// A path in the file system; absolute in a valid resource.
    Path(Arc<str>),
    /// A name in the abstract namespace, without its leading `@`.
    Abstract(Arc<str>),
}

impl UnixSocket {
    /// Reads what follows `unix://`.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(name) => Self::Abstract(Arc::from(name)),
            None => Self::Path(Arc::from(text)),
        }
    }
}

impl fmt::Display for UnixSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}
