//! Hosts and the addresses that stand for them: the table by name, and its reverse.
//!
//! A name is a fixed number of bytes, filled up with zeroes, which no host has. Nearly all are short,
//! so there is a table for [`SHORT_NAME`] bytes, and one for [`LONG_NAME`], which every name of DNS
//! fits in: with keys of 256 bytes alone, 20,000 hosts would take three times the memory.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The longest name of the table of short names, in bytes. With it an entry has 176 bytes, of the 192
/// that the kernel's allocator gives out anyway.
pub const SHORT_NAME: usize = 96;
/// The longest name, in bytes.
pub const LONG_NAME: usize = 256;

/// Stands where there is no service.
pub const NO_SERVICE: u32 = u32::MAX;

/// What a name stands for.
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
pub struct Host {
    v4: [u8; 4],
    v6: [u8; 16],
    service: u32,
}

const _: () = assert!(size_of::<Host>() == 24);

impl Host {
    /// A host with its first address of either family, and the index of its service in the
    /// generation's tables.
    pub fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>, service: u32) -> Self {
        let v4 = v4.map_or([0; 4], |ip| ip.octets());
        let v6 = v6.map_or([0; 16], |ip| ip.octets());
        Self { v4, v6, service }
    }

    /// Its first IPv4 address.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(self.v4)).filter(|ip| !ip.is_unspecified())
    }

    /// Its first IPv6 address.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        Some(Ipv6Addr::from(self.v6)).filter(|ip| !ip.is_unspecified())
    }

    /// The addresses it has, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4().map(IpAddr::V4).into_iter().chain(self.v6().map(IpAddr::V6))
    }

    /// The index of its service in the generation's tables.
    pub const fn service(&self) -> u32 {
        self.service
    }
}

/// What an address stands for.
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
pub struct HostAddress {
    service: u32,
    services: u32,
}

const _: () = assert!(size_of::<HostAddress>() == 8);

impl HostAddress {
    /// An address of one service, by its index in the generation's tables.
    pub const fn new(service: u32) -> Self {
        Self { service, services: 1 }
    }

    /// The address stands for one service more; the first one stays.
    pub const fn shared(mut self) -> Self {
        self.services = self.services.saturating_add(1);
        self
    }

    /// The first of its services.
    pub const fn first(&self) -> u32 {
        self.service
    }

    /// How many services it stands for.
    pub const fn services(&self) -> u32 {
        self.services
    }

    /// Its service, or [`NO_SERVICE`] where it stands for several and so says nothing of the host
    /// that was meant.
    #[inline(always)]
    pub const fn only(&self) -> u32 {
        if self.services == 1 { self.service } else { NO_SERVICE }
    }
}

/// The key of a name, which is in lower case already; `None` if it is longer than `N` bytes.
pub fn name_key<const N: usize>(name: &str) -> Option<[u8; N]> {
    let mut key = [0; N];
    key.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(key)
}

/// The name of a key; `None` if its bytes are no text.
pub fn name_of(key: &[u8]) -> Option<&str> {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    core::str::from_utf8(key.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_or_do_not() {
        let longest = core::str::from_utf8(&[b'x'; SHORT_NAME]).unwrap();
        for name in ["", "a.example", "*.example", longest] {
            let key = name_key::<SHORT_NAME>(name).unwrap();
            assert_eq!(name_of(&key), Some(name));
        }
        assert_eq!(name_key::<8>("a.example"), None);
    }

    #[test]
    fn a_shared_address_names_nobody() {
        let address = HostAddress::new(7);
        assert_eq!((address.only(), address.services()), (7, 1));
        let address = address.shared();
        assert_eq!((address.only(), address.first(), address.services()), (NO_SERVICE, 7, 2));
    }

    #[test]
    fn families_that_are_absent() {
        let host = Host::new(Some(Ipv4Addr::new(240, 240, 0, 1)), None, 3);
        assert_eq!((host.v6(), host.service()), (None, 3));
        assert!(host.addresses().eq([IpAddr::from([240, 240, 0, 1])]));
    }
}
