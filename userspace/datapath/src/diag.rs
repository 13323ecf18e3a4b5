//! sock_diag(7): which TCP sockets there are in a network namespace, and how to end them.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SOCK_DIAG_BY_FAMILY and SOCK_DESTROY of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// INET_DIAG_INFO of linux/inet_diag.h.
const INFO: u16 = 2;
const TCP: u8 = 6;
/// Every state but CLOSE and LISTEN.
const STATES: u32 = !(1 << 7 | 1 << 10);
/// How long the kernel may take for an answer, in seconds.
const PATIENCE: i64 = 5;
/// The kernel sends no more at once.
const BUFFER: usize = 32 << 10;

/// Of `struct nlmsghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct inet_diag_sockid`: given back as it was read.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SocketId {
    ports: [u8; 4],
    addresses: [u8; 32],
    interface: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2` behind its header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: SocketId,
}

/// `struct inet_diag_msg`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Message {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
    expires: u32,
    receive_queue: u32,
    send_queue: u32,
    uid: u32,
    inode: u32,
}

/// A socket.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    family: u8,
    id: SocketId,
    /// For how long nothing has been sent and nothing has arrived, in milliseconds.
    pub(crate) silent_ms: u32,
}

/// The line to the kernel, in the network namespace of the thread that opened it.
pub(crate) struct Diag {
    socket: OwnedFd,
}

impl Diag {
    pub(crate) fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Self { socket })
    }

    /// Every TCP socket that is neither closed nor listening, by its cookie.
    pub(crate) fn sockets(&self) -> io::Result<HashMap<u64, Found>> {
        let mut found = HashMap::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let id = SocketId { ports: [0; 4], addresses: [0; 32], interface: 0, cookie: [0; 2] };
            let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
            self.ask(BY_FAMILY, flags, family as u8, id)?;
            self.read(|body| {
                let Ok((message, rest)) = Message::read_from_prefix(body) else { return };
                let cookie = message.id.cookie;
                let cookie = u64::from(cookie[1]) << 32 | u64::from(cookie[0]);
                let silent_ms = silence(rest);
                found.insert(cookie, Found { family: message.family, id: message.id, silent_ms });
            })?;
        }
        Ok(found)
    }

    /// Ends a connection: the application sees ECONNABORTED, the far end ECONNRESET.
    ///
    /// # Errors
    /// ENOENT: it is no longer there. EOPNOTSUPP: the kernel is without CONFIG_INET_DIAG_DESTROY.
    pub(crate) fn destroy(&self, socket: &Found) -> io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        self.ask(DESTROY, flags, socket.family, socket.id)?;
        self.read(|_| {})
    }

    fn ask(&self, kind: u16, flags: libc::c_int, family: u8, id: SocketId) -> io::Result<()> {
        let header = Header {
            length: size_of::<Request>() as u32,
            kind,
            flags: flags as u16,
            sequence: 1,
            port: 0,
        };
        let request = Request {
            header,
            family,
            protocol: TCP,
            extensions: 1 << (INFO - 1),
            pad: 0,
            states: STATES,
            id,
        };
        send(self.socket.as_raw_fd(), request.as_bytes(), MsgFlags::empty())?;
        Ok(())
    }

    /// Hands over the body of each message until the last.
    fn read(&self, mut hear: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0_u8; BUFFER];
        loop {
            let size = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..size).unwrap_or_default();
            while let Ok((header, _)) = Header::read_from_prefix(rest) {
                let length = (header.length as usize).clamp(size_of::<Header>(), rest.len());
                let body = rest.get(size_of::<Header>()..length).unwrap_or_default();
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => return result(body),
                    _ => hear(body),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// The number an NLMSG_ERROR begins with: 0 is none.
fn result(body: &[u8]) -> io::Result<()> {
    match i32::read_from_prefix(body) {
        Ok((0, _)) => Ok(()),
        Ok((error, _)) => Err(io::Error::from_raw_os_error(-error)),
        Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Of the attributes of a message, from `struct tcp_info`, the time since data last went either way.
fn silence(mut attributes: &[u8]) -> u32 {
    /// Where `tcpi_last_data_sent` and `tcpi_last_data_recv` are.
    const SENT: usize = 44;
    const RECEIVED: usize = 52;
    while let Ok(([length, kind], _)) = <[u16; 2]>::read_from_prefix(attributes) {
        let length = usize::from(length).clamp(4, attributes.len());
        if kind == INFO {
            let info = attributes.get(4..length).unwrap_or_default();
            let at = |offset: usize| {
                let number = info.get(offset..).and_then(|rest| u32::read_from_prefix(rest).ok());
                number.map_or(0, |(number, _)| number)
            };
            return at(SENT).min(at(RECEIVED));
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    0
}
