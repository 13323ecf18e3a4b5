//! A server that does what the first byte of a connection says, all connections on one thread, so
//! that it costs as little as a server can and the proxy before it shows.

use std::{
    fs::File,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use nix::sys::{sendfile::sendfile, socket::MsgFlags};

use super::{
    Result,
    events::{Event, Events, moved, receive, transmit},
    listen,
};

/// First byte of a connection that wants bytes for as long as it lasts.
pub(crate) const GIVE: u8 = b'G';
/// First byte of a connection whose bytes are to be swallowed.
pub(crate) const TAKE: u8 = b'T';
/// Bytes moved at most by one system call in bulk.
pub(crate) const CHUNK: usize = 1 << 20;

/// Serves until it is killed: [`GIVE`] and [`TAKE`] in bulk, anything else is sent back.
pub(crate) fn serve(addresses: &[&str]) -> Result<String> {
    let mut backend = Backend::new()?;
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = listen(address.parse::<SocketAddr>()?)?;
        listener.set_nonblocking(true)?;
        backend.events.watch(listeners.len(), &listener)?;
        listeners.push(listener);
    }
    writeln!(io::stdout(), "listening")?;
    loop {
        for event in backend.events.wait(1000)? {
            match listeners.get(event.number) {
                Some(listener) => backend.accept(listener, listeners.len())?,
                None => backend.handle(event, listeners.len()),
            }
        }
    }
}

/// A file of bytes to be sent with sendfile(2), which copies none.
pub(crate) fn source() -> Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(&vec![b'x'; CHUNK])?;
    Ok(file)
}

/// Sends from the file until the socket takes no more; gives the bytes sent.
pub(crate) fn pour(socket: &TcpStream, file: &File, offset: &mut i64) -> io::Result<usize> {
    let mut total = 0;
    loop {
        if *offset >= CHUNK as i64 {
            *offset = 0;
        }
        let most = CHUNK - *offset as usize;
        match moved(sendfile(socket, file, Some(&mut *offset), most))? {
            0 => return Ok(total),
            sent => total += sent,
        }
    }
}

struct Backend {
    events: Events,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    file: File,
    buffer: Vec<u8>,
}

struct Peer {
    socket: TcpStream,
    mode: Mode,
    /// Bytes to be sent back that the socket did not take.
    pending: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Mode {
    Fresh,
    Echo,
    Give { offset: i64 },
    Take,
}

impl Backend {
    fn new() -> Result<Self> {
        let (events, file) = (Events::new()?, source()?);
        Ok(Self { events, peers: Vec::new(), free: Vec::new(), file, buffer: vec![0; CHUNK] })
    }

    fn accept(&mut self, listener: &TcpListener, base: usize) -> Result<()> {
        while let Ok((socket, _)) = listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let number = self.free.pop().unwrap_or(self.peers.len());
            if number == self.peers.len() {
                self.peers.push(None);
            }
            self.events.watch(base + number, &socket)?;
            self.peers[number] = Some(Peer { socket, mode: Mode::Fresh, pending: Vec::new() });
        }
        Ok(())
    }

    fn handle(&mut self, event: Event, base: usize) {
        let number = event.number - base;
        // Closed by an earlier event of the same batch.
        let Some(peer) = self.peers.get_mut(number).and_then(Option::as_mut) else { return };
        if peer.go_on(event, &self.file, &mut self.buffer).is_err() {
            self.peers[number] = None;
            self.free.push(number);
        }
    }
}

impl Peer {
    /// An error ends the connection.
    fn go_on(&mut self, event: Event, file: &File, buffer: &mut [u8]) -> io::Result<()> {
        if event.writable {
            let sent = transmit(&self.socket, &self.pending)?;
            self.pending.drain(..sent);
        }
        if event.readable {
            self.read(buffer, event.ended)?;
        }
        if let Mode::Give { offset } = &mut self.mode {
            pour(&self.socket, file, offset)?;
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], to_the_end: bool) -> io::Result<()> {
        loop {
            let (room, flags) = match self.mode {
                // Thrown away inside the kernel.
                Mode::Take => (CHUNK, MsgFlags::MSG_TRUNC),
                Mode::Fresh | Mode::Echo | Mode::Give { .. } => (MOST, MsgFlags::empty()),
            };
            let buffer = &mut buffer[..room];
            let read = receive(&self.socket, buffer, flags)?;
            if let (Mode::Fresh, Some(first)) = (self.mode, buffer[..read].first()) {
                self.mode = match *first {
                    GIVE => Mode::Give { offset: 0 },
                    TAKE => Mode::Take,
                    _ => Mode::Echo,
                };
            }
            if let Mode::Echo = self.mode {
                let sent = if self.pending.is_empty() {
                    transmit(&self.socket, &buffer[..read])?
                } else {
                    0
                };
                self.pending.extend_from_slice(&buffer[sent..read]);
            }
            if read < room && !to_the_end {
                return Ok(());
            }
        }
    }
}

/// Bytes read at once of what is sent back.
const MOST: usize = 64 * 1024;
