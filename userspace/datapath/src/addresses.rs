//! The addresses of a network namespace: what is left alone by port-only rows and by policy.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

use crate::error::Error;

/// Every address of the calling thread's network namespace.
pub(crate) fn local() -> io::Result<Vec<IpAddr>> {
    let mut found: Vec<IpAddr> = getifaddrs()?
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether the calling thread's network namespace has an IPv6 address that reaches further than its
/// own links: names are resolved to IPv6 addresses only then.
pub fn has_global_v6() -> Result<bool, Error> {
    let all = local().map_err(Error::io("listing our addresses"))?;
    Ok(all.iter().any(|ip| match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }))
}

/// Wakes up when addresses of a network namespace come or go.
#[derive(Debug)]
pub(crate) struct AddressChanges {
    socket: OwnedFd,
}

impl AddressChanges {
    /// Listens in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups.unsigned_abs()))?;
        Ok(Self { socket })
    }

    /// Throws away what has been announced; the addresses are read anew instead.
    pub(crate) fn drain(&self) {
        let mut buffer = [0_u8; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // ENOBUFS means that announcements were lost; reading anew covers that as well.
                Ok(1..) | Err(nix::errno::Errno::ENOBUFS) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl AsFd for AddressChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
