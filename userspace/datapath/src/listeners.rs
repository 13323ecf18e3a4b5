//! The sockets captured connections arrive at.
//!
//! One listener for each spread address, 127.64.0.1 to 127.64.0.16 and several ports of `::1`, never
//! a wildcard: each address brings the clients of a host another 28,000 ephemeral ports.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use egressd_abi::{MAX_SPREAD_V4, MAX_SPREAD_V6, SPREAD_NETWORK};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;

/// SO_MARK of our own upstream sockets ("EGRS"). Chosen to be nobody else's: Istio and ztunnel use
/// 1337, Cilium 0x200 to 0xf00.
pub const MARK: u32 = 0x4547_5253;

/// Connections waiting to be accepted, for each listener; the kernel takes the smaller of this and
/// net.core.somaxconn.
const BACKLOG: i32 = 65_535;
/// Half-open TCP Fast Open connections, for each listener.
const FASTOPEN_QUEUE: i32 = 1024;

/// The listeners in one network namespace.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<TcpListener>,
    spread_v4: u32,
    spread_v6: u32,
}

impl Listeners {
    /// Binds and listens on every spread address of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::PortTaken`] where somebody has `port` already. Without IPv6 there are no IPv6
    /// listeners, which is no error.
    pub fn bind(port: u16) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for index in 0..MAX_SPREAD_V4 {
            sockets.push(listen(spread_v4(index, port)).map_err(taken(spread_v4(index, port)))?);
        }
        let mut spread_v6 = 0;
        for index in 0..MAX_SPREAD_V6 {
            let Some(at) = spread_v6_address(index, port) else { break };
            match listen(at) {
                Ok(socket) => sockets.push(socket),
                Err(error) if is_without_v6(&error) => break,
                Err(error) => return Err(taken(at)(error)),
            }
            spread_v6 += 1;
        }
        Ok(Self { sockets, spread_v4: MAX_SPREAD_V4, spread_v6 })
    }

    /// The listening sockets.
    pub fn sockets(&self) -> &[TcpListener] {
        &self.sockets
    }

    /// Gives the sockets away, to be accepted from.
    pub fn into_sockets(self) -> Vec<TcpListener> {
        self.sockets
    }

    /// How many IPv4 spread addresses there are.
    pub fn spread_v4(&self) -> u32 {
        self.spread_v4
    }

    /// How many ports of `::1` there are; 0 without IPv6.
    pub fn spread_v6(&self) -> u32 {
        self.spread_v6
    }
}

fn spread_v4(index: u32, port: u16) -> SocketAddr {
    let first = u32::from(Ipv4Addr::from(SPREAD_NETWORK)) + 1;
    SocketAddr::new(Ipv4Addr::from(first + index).into(), port)
}

fn spread_v6_address(index: u32, port: u16) -> Option<SocketAddr> {
    let port = u16::try_from(u32::from(port) + index).ok()?;
    Some(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port))
}

pub(crate) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    // Past connections in TIME_WAIT do not keep us from our port; a live listener still does.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    fastopen(&socket);
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Lets a client's data come with its SYN. Best effort: without it the data follows the handshake.
#[expect(unsafe_code, reason = "socket2 has no TCP_FASTOPEN")]
fn fastopen(socket: &Socket) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the descriptor is open, and the value is an int that outlives the call.
    let _unsupported = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN,
            (&raw const FASTOPEN_QUEUE_VALUE).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
}

static FASTOPEN_QUEUE_VALUE: i32 = FASTOPEN_QUEUE;

pub(crate) fn taken(address: SocketAddr) -> impl FnOnce(io::Error) -> Error {
    move |error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            Error::PortTaken { address, count: MAX_SPREAD_V6 }
        } else {
            Error::io(format!("listening on {address}"))(error)
        }
    }
}

pub(crate) fn is_without_v6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_addresses() {
        assert_eq!(spread_v4(15, 7), "127.64.0.16:7".parse().unwrap());
    }
}
