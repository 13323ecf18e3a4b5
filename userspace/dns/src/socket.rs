//! Sockets towards upstreams. They come from the agent, which marks them so that the kernel leaves
//! them alone, and refuses addresses that lead back to us.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use socket2::{Domain, Socket, Type};

use crate::shares::Asker;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Datagrams.
    Udp,
    /// A connection.
    Tcp,
}

/// Makes the sockets that upstreams are asked with.
///
/// Called for every forwarded query, from the thread that forwards it: it must not wait.
pub trait SocketMaker: Send + Sync {
    /// A new socket of the server's family: not blocking, closed on exec, not connected.
    ///
    /// # Errors
    /// There is none, or this server must not be asked; the next one is.
    fn socket(&self, kind: SocketKind, server: SocketAddr) -> io::Result<OwnedFd>;
}

impl<F> SocketMaker for F
where
    F: Fn(SocketKind, SocketAddr) -> io::Result<OwnedFd> + Send + Sync,
{
    fn socket(&self, kind: SocketKind, server: SocketAddr) -> io::Result<OwnedFd> {
        self(kind, server)
    }
}

/// A socket without any mark: what a [`SocketMaker`] begins with, and all that a test needs.
///
/// # Errors
/// The kernel has none to give.
pub fn plain_socket(kind: SocketKind, server: SocketAddr) -> io::Result<OwnedFd> {
    let kind = match kind {
        SocketKind::Udp => Type::DGRAM,
        SocketKind::Tcp => Type::STREAM,
    };
    // Closed on exec and, by the type, not blocking from the first moment.
    let socket = Socket::new(Domain::for_address(server), kind.nonblocking(), None)?;
    if kind == Type::STREAM {
        socket.set_tcp_nodelay(true)?;
    }
    Ok(socket.into())
}

/// Says which server an application asked, where that is known.
///
/// A query that was turned here may have been meant for a server that is none of ours (`dig
/// @192.0.2.1`); then that server is asked.
pub trait Asked: Send + Sync {
    /// For a datagram from `client` to our address `local`.
    fn datagram(&self, client: SocketAddr, local: SocketAddr) -> Option<SocketAddr>;
    /// For an accepted connection.
    fn connection(&self, socket: BorrowedFd<'_>) -> Option<SocketAddr>;
}

/// Says who sent a query, where that is known: what is limited is shared out by it. One for each
/// network namespace.
///
/// Called for queries that are asked upstream, from the thread that serves them: it must not wait.
pub trait Askers: fmt::Debug + Send + Sync {
    /// Whose socket has the address `client`, and has sent to our address `local`.
    fn asker(&self, kind: SocketKind, client: SocketAddr, local: SocketAddr) -> Option<Asker>;
}

/// Nothing is known: everything goes to the upstreams.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotKnown;

impl Asked for NotKnown {
    fn datagram(&self, _client: SocketAddr, _local: SocketAddr) -> Option<SocketAddr> {
        None
    }

    fn connection(&self, _socket: BorrowedFd<'_>) -> Option<SocketAddr> {
        None
    }
}
