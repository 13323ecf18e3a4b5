//! Sockets that do not block, by number, and what happened to them: one thread serves them all.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{MsgFlags, recv, send},
    },
};
use socket2::{Domain, Socket, Type};

use super::Result;

/// What happened to one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// The socket's number.
    pub(crate) number: usize,
    /// It takes bytes, or a connect() is over.
    pub(crate) writable: bool,
    /// It has bytes, or has ended.
    pub(crate) readable: bool,
    /// The other end sends no more: nothing is told of what is left unread.
    pub(crate) ended: bool,
}

/// Tells what happens to sockets, each change once (edge-triggered).
pub(crate) struct Events {
    epoll: Epoll,
    buffer: Vec<EpollEvent>,
}

impl Events {
    /// Tells nothing yet.
    pub(crate) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, buffer: vec![EpollEvent::empty(); AT_ONCE] })
    }

    /// Tells of this socket, from here on until it is closed.
    pub(crate) fn watch(&self, number: usize, socket: impl AsFd) -> Result<()> {
        let kinds = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        let edges = kinds | EpollFlags::EPOLLET;
        Ok(self.epoll.add(socket, EpollEvent::new(edges, number as u64))?)
    }

    /// Waits for something to happen, for so many milliseconds at most.
    pub(crate) fn wait(&mut self, most: u16) -> Result<Vec<Event>> {
        let count = match self.epoll.wait(&mut self.buffer, EpollTimeout::from(most)) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        let gone = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        let event = |event: &EpollEvent| Event {
            number: event.data() as usize,
            writable: event.events().intersects(EpollFlags::EPOLLOUT | gone),
            readable: event.events().intersects(EpollFlags::EPOLLIN | gone),
            ended: event.events().intersects(EpollFlags::EPOLLRDHUP | gone),
        };
        Ok(self.buffer.iter().take(count).map(event).collect())
    }
}

/// Begins to connect.
pub(crate) fn dial(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

/// Bytes that went through a call; 0 when it would have had to wait.
pub(crate) fn moved(result: nix::Result<usize>) -> io::Result<usize> {
    match result {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
        result => Ok(result?),
    }
}

/// Receives; the end of the stream is an error, nothing there yet is 0 bytes.
pub(crate) fn receive(socket: &TcpStream, buffer: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    use std::os::fd::AsRawFd as _;
    match recv(socket.as_raw_fd(), buffer, flags) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        result => moved(result),
    }
}

/// Sends what the socket takes.
pub(crate) fn transmit(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use std::os::fd::AsRawFd as _;
    moved(send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))
}

/// Events taken from the kernel at once.
const AT_ONCE: usize = 256;
