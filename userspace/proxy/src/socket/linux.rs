//! The system calls that need more than the libraries offer.

use std::{
    io,
    mem::size_of_val,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with, sockopt::set_socket_linger};

use crate::addrs::ClientAddr;

/// Stands for either end of a Unix socket, which has no IP address.
pub(crate) const THIS_MACHINE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A connection as accept4() returns it: non-blocking and close-on-exec.
pub(crate) struct Accepted {
    /// Our end.
    pub(crate) socket: OwnedFd,
    /// The application's end.
    pub(crate) client: ClientAddr,
}

/// Accepts one connection; `WouldBlock` when none waits.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Accepted> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer) = acceptfrom_with(listener, flags)?;
    let client = peer.as_ref().and_then(socket_addr).unwrap_or(THIS_MACHINE);
    Ok(Accepted { socket, client: ClientAddr(client) })
}

/// Resets a connection that nobody has looked at yet.
pub(crate) fn reset(socket: OwnedFd) {
    set_socket_linger(&socket, Some(Duration::ZERO)).ok();
}

/// The local end of a connected socket; `None` where it has no IP address (a Unix socket).
pub(crate) fn local_addr(socket: impl AsFd) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok().as_ref().and_then(socket_addr)
}

/// Lets a socket that is bound to an address choose its port at connect(), when the remote end is
/// known: the same source port can then serve several destinations.
pub(super) fn set_bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    #[expect(unsafe_code, reason = "no library offers IP_BIND_ADDRESS_NO_PORT")]
    // SAFETY: the descriptor is open for the call, and the pointer and length are those of `on`.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn socket_addr(addr: &SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(addr.clone()).ok()
}
