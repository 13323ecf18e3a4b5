//! Addresses as the maps hold them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The address family byte of an IPv4 address.
pub const FAMILY_V4: u8 = 4;
/// The address family byte of an IPv6 address.
pub const FAMILY_V6: u8 = 6;

/// Marks the key of a row for UDP.
const UDP: u8 = 17;

/// An IP address in network order; IPv4 uses the first four bytes and leaves the rest zero.
///
/// An IPv4-mapped IPv6 address is always held as IPv4, so that `::ffff:10.0.0.1` and `10.0.0.1` are
/// one key.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Addr {
    bytes: [u8; 16],
}

/// An address, its family and a port: what a connect() names.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Endpoint {
    port: [u8; 2],
    family: u8,
    /// 0, or [`UDP`] in the key of a row.
    reserved: u8,
    addr: Addr,
}

const _: () = assert!(size_of::<Endpoint>() == 20);

impl Addr {
    /// An IPv4 address from its four bytes in network order.
    #[inline(always)]
    pub const fn v4(b: [u8; 4]) -> Self {
        Self { bytes: [b[0], b[1], b[2], b[3], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// An IPv6 address from its sixteen bytes in network order, which must not be IPv4-mapped.
    #[inline(always)]
    pub const fn v6(bytes: [u8; 16]) -> Self {
        Self { bytes }
    }

    /// The bytes in network order.
    #[inline(always)]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.bytes
    }
}

impl Endpoint {
    /// An IPv4 endpoint from network-order bytes.
    #[inline(always)]
    pub const fn from_v4_bytes(addr: [u8; 4], port: [u8; 2]) -> Self {
        Self { port, family: FAMILY_V4, reserved: 0, addr: Addr::v4(addr) }
    }

    /// An IPv6 endpoint from network-order bytes; an IPv4-mapped address becomes IPv4.
    #[inline(always)]
    pub const fn from_v6_bytes(a: [u8; 16], port: [u8; 2]) -> Self {
        let zeros = a[0] | a[1] | a[2] | a[3] | a[4] | a[5] | a[6] | a[7] | a[8] | a[9];
        if zeros == 0 && a[10] == 0xff && a[11] == 0xff {
            return Self::from_v4_bytes([a[12], a[13], a[14], a[15]], port);
        }
        Self { port, family: FAMILY_V6, reserved: 0, addr: Addr::v6(a) }
    }

    /// An endpoint from a standard address; an IPv4-mapped address becomes IPv4.
    pub fn new(addr: IpAddr, port: u16) -> Self {
        match addr {
            IpAddr::V4(v4) => Self::from_v4_bytes(v4.octets(), port.to_be_bytes()),
            IpAddr::V6(v6) => Self::from_v6_bytes(v6.octets(), port.to_be_bytes()),
        }
    }

    /// The standard form.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port())
    }

    /// The IP address.
    pub fn ip(&self) -> IpAddr {
        let b = self.addr.bytes;
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::new(b[0], b[1], b[2], b[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(b))
        }
    }

    /// The port in host order.
    #[inline(always)]
    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }

    /// The port in network order.
    #[inline(always)]
    pub const fn port_bytes(&self) -> [u8; 2] {
        self.port
    }

    /// [`FAMILY_V4`] or [`FAMILY_V6`].
    #[inline(always)]
    pub const fn family(&self) -> u8 {
        self.family
    }

    /// Whether this is IPv4, IPv4-mapped included.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.family == FAMILY_V4
    }

    /// The address without its family and port.
    #[inline(always)]
    pub const fn addr(&self) -> &Addr {
        &self.addr
    }

    /// The same as the key of a row for UDP; those for TCP are plain.
    #[inline(always)]
    pub const fn udp(&self) -> Self {
        Self { reserved: UDP, ..*self }
    }

    /// Whether this is the key of a row for UDP.
    #[inline(always)]
    pub const fn is_udp(&self) -> bool {
        self.reserved == UDP
    }

    /// The same address with another port, in network order.
    #[inline(always)]
    pub const fn with_port(&self, port: [u8; 2]) -> Self {
        Self { port, ..*self }
    }

    /// The same address with port 0, the key of tables that do not look at ports.
    #[inline(always)]
    pub const fn without_port(&self) -> Self {
        Self { port: [0, 0], ..*self }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr.ip(), addr.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_mapped_is_v4() {
        let mapped: SocketAddr = "[::ffff:10.1.2.3]:80".parse().unwrap();
        let plain: SocketAddr = "10.1.2.3:80".parse().unwrap();
        assert_eq!(Endpoint::from(mapped), Endpoint::from(plain));
        assert_eq!(Endpoint::from(mapped).socket_addr(), plain);
    }

    #[test]
    fn round_trip() {
        for text in ["[2001:db8::7]:443", "1.2.3.4:65535", "[::]:0", "[::1:2]:1"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(Endpoint::from(addr).socket_addr(), addr);
        }
    }
}
