//! The loop guard: addresses that would lead an upstream connection back to us, or nowhere.
//!
//! The kernel's own guard exempts our sockets by mark and cgroup, so a loop needs a mistake in a
//! resource or in DNS; here that mistake gets a name instead of a connection storm.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{PoisonError, RwLock},
};

use crate::{
    addrs::{UnixName, UpstreamAddr},
    door::DoorAddr,
};

/// A range of IP addresses that an upstream never has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpRange {
    first: u128,
    last: u128,
    v4: bool,
}

/// Why an upstream address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoopReason {
    /// In the range that VIPs are allocated from: no machine has it.
    #[error("{0} is an allocated VIP, which no machine has")]
    AllocatedVip(IpAddr),
    /// A VIP of the resources that stands for another address.
    #[error("{0} is a VIP of the resources")]
    Vip(SocketAddr),
    /// In 127.64.0.0/10, where only our own listeners are.
    #[error("{0} is in the range of our own listeners")]
    SpreadAddress(IpAddr),
    /// One of our own listeners.
    #[error("{0} is our own listener")]
    OwnListener(SocketAddr),
    /// A Unix socket of ours.
    #[error("it is our own socket")]
    OwnSocket,
}

/// The addresses that are refused as upstreams.
#[derive(Debug, Default)]
pub struct LoopGuard {
    allocated: Vec<IpRange>,
    /// Ours, all of them on loopback.
    listeners: RwLock<BTreeSet<SocketAddr>>,
    /// Ours, which clients dial: of one address, or of all where it is the unspecified one.
    doors: RwLock<BTreeSet<SocketAddr>>,
    /// The same at Unix sockets, by the names they were given.
    unix_doors: RwLock<BTreeSet<UnixName>>,
}

impl IpRange {
    /// The addresses that share the first `prefix` bits of `ip`; a longer prefix than the family
    /// has bits is that one address.
    pub fn new(ip: IpAddr, prefix: u8) -> Self {
        let (value, width) = number(ip);
        let host_bits = width.saturating_sub(u32::from(prefix));
        let hosts = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let first = value & !hosts;
        Self { first, last: first | hosts, v4: ip.is_ipv4() }
    }

    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (value, _) = number(ip);
        self.v4 == ip.is_ipv4() && (self.first..=self.last).contains(&value)
    }
}

impl LoopGuard {
    /// A guard that knows the ranges VIPs are allocated from.
    pub fn new(allocated: Vec<IpRange>) -> Self {
        Self { allocated, ..Self::default() }
    }

    /// Adds one of our own listeners.
    pub fn add_listener(&self, addr: SocketAddr) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).insert(addr);
    }

    /// Adds a socket of ours that clients dial.
    pub(crate) fn add_door(&self, addr: &DoorAddr) {
        match addr {
            DoorAddr::Ip(addr) => {
                self.doors.write().unwrap_or_else(PoisonError::into_inner).insert(*addr);
            }
            DoorAddr::Unix(name) => {
                let mut doors = self.unix_doors.write().unwrap_or_else(PoisonError::into_inner);
                doors.insert(name.clone());
            }
        }
    }

    /// Takes one away again.
    pub(crate) fn remove_door(&self, addr: &DoorAddr) {
        match addr {
            DoorAddr::Ip(addr) => {
                self.doors.write().unwrap_or_else(PoisonError::into_inner).remove(addr);
            }
            DoorAddr::Unix(name) => {
                self.unix_doors.write().unwrap_or_else(PoisonError::into_inner).remove(name);
            }
        }
    }

    /// Whether a connection that stands leads to a door of ours: to its address, or to any of this
    /// machine's where it has all. Asked afterwards, because whether an address is this machine's the
    /// kernel says for free then: a connection to it comes from it.
    ///
    /// # Errors
    /// It leads back to us.
    pub(crate) fn check_connected(
        &self,
        addr: SocketAddr,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> Result<(), LoopReason> {
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        let addr = SocketAddr::new(dialled(addr.ip()), addr.port());
        if doors.is_empty() {
            return Ok(());
        }
        let any = match addr {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let ours = doors.contains(&addr)
            || doors.contains(&SocketAddr::new(any, addr.port()))
                && local().is_some_and(|local| local.ip() == addr.ip());
        if ours { Err(LoopReason::OwnListener(addr)) } else { Ok(()) }
    }

    /// Whether `addr` may be dialled.
    ///
    /// # Errors
    /// It leads back to us, or nowhere.
    pub fn check(&self, addr: &UpstreamAddr) -> Result<(), LoopReason> {
        let addr = match addr {
            UpstreamAddr::Ip(addr) => addr,
            UpstreamAddr::Unix(name) => {
                let doors = self.unix_doors.read().unwrap_or_else(PoisonError::into_inner);
                return if doors.contains(name) { Err(LoopReason::OwnSocket) } else { Ok(()) };
            }
        };
        let ip = dialled(addr.ip());
        let addr = SocketAddr::new(ip, addr.port());
        if ip.is_loopback() {
            return self.check_loopback(addr);
        }
        if self.allocated.iter().any(|range| range.contains(ip)) {
            return Err(LoopReason::AllocatedVip(ip));
        }
        Ok(())
    }

    fn check_loopback(&self, addr: SocketAddr) -> Result<(), LoopReason> {
        if let IpAddr::V4(ip) = addr.ip()
            && u32::from(ip) & SPREAD_MASK == u32::from(SPREAD_NET)
        {
            return Err(LoopReason::SpreadAddress(addr.ip()));
        }
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        if listeners.contains(&addr) {
            return Err(LoopReason::OwnListener(addr));
        }
        Ok(())
    }
}

/// The address the kernel really dials: the unspecified one means loopback.
fn dialled(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    }
}

fn number(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    }
}

/// The spread addresses are in 127.64.0.0/10 (design.md, the kernel side).
const SPREAD_NET: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
const SPREAD_MASK: u32 = 0xffc0_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addr: &str) -> Result<(), LoopReason> {
        let guard = LoopGuard::new(vec![
            IpRange::new("240.240.0.0".parse().unwrap(), 16),
            IpRange::new("2001:2::".parse().unwrap(), 48),
        ]);
        guard.add_listener("[::1]:15001".parse().unwrap());
        guard.add_listener("127.0.0.1:15001".parse().unwrap());
        guard.check(&UpstreamAddr::Ip(addr.parse().unwrap()))
    }

    #[test]
    fn what_leads_back_is_refused() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let cases = [
            ("240.240.0.1:80", Err(LoopReason::AllocatedVip(ip("240.240.0.1")))),
            ("240.241.0.0:80", Ok(())),
            ("[::ffff:240.240.3.4]:80", Err(LoopReason::AllocatedVip(ip("240.240.3.4")))),
            ("[2001:2::5]:80", Err(LoopReason::AllocatedVip(ip("2001:2::5")))),
            ("[2001:2:1::5]:80", Ok(())),
            ("127.64.0.1:15001", Err(LoopReason::SpreadAddress(ip("127.64.0.1")))),
            ("127.127.255.255:1", Err(LoopReason::SpreadAddress(ip("127.127.255.255")))),
            ("127.63.255.255:1", Ok(())),
            ("127.128.0.0:1", Ok(())),
            ("[::1]:15001", Err(LoopReason::OwnListener(at("[::1]:15001")))),
            ("[::]:15001", Err(LoopReason::OwnListener(at("[::1]:15001")))),
            ("[::1]:15002", Ok(())),
            ("0.0.0.0:15001", Err(LoopReason::OwnListener(at("127.0.0.1:15001")))),
            ("127.0.0.1:15001", Err(LoopReason::OwnListener(at("127.0.0.1:15001")))),
            ("10.0.0.1:80", Ok(())),
        ];
        for (addr, expected) in cases {
            assert_eq!(check(addr), expected, "{addr}");
        }
    }

    #[test]
    fn ranges_cover_their_ends() {
        for (net, prefix, first, last, outside) in [
            ("10.0.0.0", 8, "10.0.0.0", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3", 32, "10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0", 0, "0.0.0.0", "255.255.255.255", "::"),
            ("::", 0, "::", "ffff::", "1.2.3.4"),
            ("2001:db8::9", 64, "2001:db8::", "2001:db8::ffff", "2001:db8:0:1::"),
        ] {
            let range = IpRange::new(net.parse().unwrap(), prefix);
            assert!(range.contains(first.parse().unwrap()), "{net}/{prefix}");
            assert!(range.contains(last.parse().unwrap()), "{net}/{prefix}");
            assert!(!range.contains(outside.parse().unwrap()), "{net}/{prefix}");
        }
    }
}
