//! The sockets that questions travel by: one for each thread.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::socket::{SocketKind, SocketMaker};

/// Sockets towards servers, each connected to one, and the questions on them.
pub(crate) struct Pool {
    maker: Arc<dyn SocketMaker>,
    epoll: Arc<Epoll>,
    /// By the token that epoll reports.
    sockets: HashMap<u64, Asking>,
    /// Tokens by server.
    by_server: HashMap<SocketAddr, Vec<u64>>,
    next: u64,
    buffer: Vec<u8>,
}

struct Asking {
    socket: UdpSocket,
    server: SocketAddr,
    /// Tickets by the id on the wire.
    tickets: HashMap<u16, u64>,
}

/// Where a question is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) server: SocketAddr,
    pub(crate) id: u16,
    token: u64,
}

/// Why a question cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// Somebody has to wait until there are fewer.
    #[error("too many questions are on their way")]
    Full,
    /// Too many of one kind are with one server of this node.
    #[error("the same question too often: this server leads back here")]
    Loop,
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What came by a socket.
pub(crate) enum Received<'a> {
    /// A datagram with the id of this ticket's question.
    Reply(u64, &'a [u8]),
    /// A datagram that nobody waits for.
    Stray,
    /// The server cannot be reached: these tickets get no reply.
    Broken(SocketAddr, Vec<u64>),
    /// Nothing any more.
    Nothing,
}

impl Pool {
    pub(crate) fn new(maker: Arc<dyn SocketMaker>, epoll: Arc<Epoll>) -> Self {
        let buffer = vec![0; crate::wire::STREAM];
        let (sockets, by_server) = (HashMap::new(), HashMap::new());
        Self { maker, epoll, sockets, by_server, next: FIRST_TOKEN, buffer }
    }

    /// Whether a token of epoll is one of ours.
    pub(crate) fn owns(token: u64) -> bool {
        token >= FIRST_TOKEN
    }

    /// Finds a question a place: a socket, and an id that nothing else has there.
    pub(crate) fn place(&mut self, ticket: u64, server: SocketAddr) -> Result<Place, PoolError> {
        let token = self.socket_for(server)?;
        let Some(asking) = self.sockets.get_mut(&token) else { return Err(PoolError::Full) };
        let id = loop {
            let id = rand::random();
            if !asking.tickets.contains_key(&id) {
                break id;
            }
        };
        asking.tickets.insert(id, ticket);
        Ok(Place { server, id, token })
    }

    /// Sends a question from its place.
    pub(crate) fn send(&self, place: &Place, query: &[u8]) -> io::Result<()> {
        let asking = self.sockets.get(&place.token).ok_or(io::ErrorKind::NotConnected)?;
        asking.socket.send(query).map(|_length| ())
    }

    /// Gives a place up; the socket goes with its last question.
    pub(crate) fn release(&mut self, place: &Place) {
        let Some(asking) = self.sockets.get_mut(&place.token) else { return };
        asking.tickets.remove(&place.id);
        if !asking.tickets.is_empty() {
            return;
        }
        // Closing takes it out of epoll, too.
        self.sockets.remove(&place.token);
        if let Some(tokens) = self.by_server.get_mut(&place.server) {
            tokens.retain(|token| *token != place.token);
            if tokens.is_empty() {
                self.by_server.remove(&place.server);
            }
        }
    }

    /// Takes one datagram off a socket.
    pub(crate) fn receive(&mut self, token: u64) -> Received<'_> {
        let Some(asking) = self.sockets.get(&token) else { return Received::Nothing };
        match asking.socket.recv(&mut self.buffer) {
            Ok(length) => {
                let reply = self.buffer.get(..length).unwrap_or_default();
                let ticket = crate::wire::id(reply).and_then(|id| asking.tickets.get(&id));
                ticket.map_or(Received::Stray, |ticket| Received::Reply(*ticket, reply))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Received::Stray,
            Err(error) => {
                let server = asking.server;
                tracing::debug!(%server, %error, "a DNS upstream cannot be reached");
                Received::Broken(server, asking.tickets.values().copied().collect())
            }
        }
    }

    /// A socket for one more question: a fresh one, and so a fresh source port, unless there are too
    /// many; then one of this server's at random.
    fn socket_for(&mut self, server: SocketAddr) -> Result<u64, PoolError> {
        let tokens = self.by_server.get(&server).map(Vec::as_slice).unwrap_or_default();
        let shared = (!tokens.is_empty())
            .then(|| tokens.get(rand::random_range(0..tokens.len())).copied())
            .flatten();
        if tokens.len() >= MAX_SOCKETS_EACH || self.sockets.len() >= MAX_SOCKETS {
            return shared.ok_or(PoolError::Full);
        }
        match self.open(server) {
            Ok(token) => Ok(token),
            // Out of files, perhaps: the ones we have will do.
            Err(error) => shared.ok_or(PoolError::Io(error)),
        }
    }

    fn open(&mut self, server: SocketAddr) -> io::Result<u64> {
        let socket = UdpSocket::from(self.maker.socket(SocketKind::Udp, server)?);
        socket.set_nonblocking(true)?;
        socket.connect(server)?;
        self.next += 1;
        let token = self.next;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.sockets.insert(token, Asking { socket, server, tickets: HashMap::new() });
        self.by_server.entry(server).or_default().push(token);
        Ok(token)
    }
}

/// Tokens are numbered from here; smaller ones are the thread's own.
const FIRST_TOKEN: u64 = 1 << 32;
/// Sockets of one thread.
const MAX_SOCKETS: usize = 384;
/// Sockets of one thread towards one server. Beyond this, questions share source ports.
const MAX_SOCKETS_EACH: usize = 128;
