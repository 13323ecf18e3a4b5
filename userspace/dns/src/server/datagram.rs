//! Datagrams in batches, each with both ends: who sent it, and which of our addresses it was sent
//! to, so that the answer leaves from there (IP_PKTINFO). The only unsafe code of the crate.
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg with control messages of their own")]

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr,
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{SockAddr, SockAddrStorage};

/// Datagrams moved by one system call.
pub(crate) const BATCH: usize = 32;
/// The largest query that is read whole. Most have a hundred bytes; an UPDATE may have more.
const CAPACITY: usize = 4096;

/// Both ends of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The application.
    pub(crate) client: SocketAddr,
    /// Our address that it was sent to; unknown if the kernel did not say.
    pub(crate) local: Option<IpAddr>,
}

/// Makes the kernel say which address a datagram was sent to.
pub(crate) fn report_destination(socket: &UdpSocket) -> io::Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// One batch of received datagrams.
pub(crate) struct Inbox {
    slots: Vec<Slot>,
    received: Vec<(usize, Ends)>,
}

struct Slot {
    name: SockAddrStorage,
    control: Control,
    buffer: [u8; CAPACITY],
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let slot = || Slot {
            name: SockAddrStorage::zeroed(),
            control: Control::default(),
            buffer: [0; CAPACITY],
        };
        Self {
            slots: std::iter::repeat_with(slot).take(BATCH).collect(),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there, at most [`BATCH`], without waiting. A datagram longer than the buffer is
    /// cut, and thereby unreadable.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received.clear();
        let mut parts = [no_part(); BATCH];
        let mut headers = [no_header(); BATCH];
        for ((slot, part), header) in self.slots.iter_mut().zip(&mut parts).zip(&mut headers) {
            part.iov_base = slot.buffer.as_mut_ptr().cast();
            part.iov_len = slot.buffer.len();
            header.msg_hdr.msg_name = ptr::from_mut(&mut slot.name).cast();
            header.msg_hdr.msg_namelen = slot.name.size_of();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = ptr::from_mut(&mut slot.control).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: each header points to a name, a part and a control buffer with their true sizes;
        // all of them outlive the call, and the length is the number of headers.
        let count =
            unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), BATCH as _, flags, ptr::null_mut()) };
        let count = usize::try_from(count).map_err(|_negative| io::Error::last_os_error())?;
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(count) {
            let local = destination(&header.msg_hdr);
            let name = mem::replace(&mut slot.name, SockAddrStorage::zeroed());
            // SAFETY: the kernel wrote an address of this length over zeroes.
            let client = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) };
            // Nobody but an internet address sends to an internet socket; a length of 0 drops it.
            let ends = client.as_socket().map(|client| Ends { client, local });
            let length = (header.msg_len as usize).min(CAPACITY);
            self.received.push(ends.map_or((0, NOBODY), |ends| (length, ends)));
        }
        Ok(count)
    }

    /// The datagrams of the last batch.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Ends)> {
        self.slots
            .iter()
            .zip(&self.received)
            .map(|(slot, (length, ends))| (slot.buffer.get(..*length).unwrap_or_default(), *ends))
    }
}

/// One batch of datagrams to be sent.
pub(crate) struct Outbox {
    letters: Vec<Letter>,
    used: usize,
}

struct Letter {
    ends: Ends,
    buffer: Vec<u8>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let letter = || Letter { ends: NOBODY, buffer: Vec::with_capacity(512) };
        Self { letters: std::iter::repeat_with(letter).take(BATCH).collect(), used: 0 }
    }

    /// A buffer to write a datagram into. It is sent only if [`Outbox::keep`] follows. Nothing when
    /// the batch is full.
    pub(crate) fn draft(&mut self) -> Option<&mut Vec<u8>> {
        self.letters.get_mut(self.used).map(|letter| &mut letter.buffer)
    }

    /// Keeps the draft, to be sent between these ends.
    pub(crate) fn keep(&mut self, ends: Ends) {
        if let Some(letter) = self.letters.get_mut(self.used) {
            letter.ends = ends;
            self.used += 1;
        }
    }

    /// Sends what was kept, without waiting. What the kernel does not take is lost, as datagrams may
    /// be; the client asks again.
    pub(crate) fn send(&mut self, socket: &UdpSocket) {
        let mut rest = self.letters.get_mut(..self.used).unwrap_or_default();
        while !rest.is_empty() {
            // An error is about the first one; the others are tried after it.
            let sent = send_some(socket, rest).unwrap_or(0).max(1);
            rest = rest.get_mut(sent..).unwrap_or_default();
        }
        for letter in self.letters.iter_mut().take(self.used) {
            letter.buffer.shrink_to(MAX_KEPT);
        }
        self.used = 0;
    }
}

/// Sends one datagram between these ends, without waiting.
pub(crate) fn send_one(socket: &UdpSocket, ends: Ends, message: Vec<u8>) -> io::Result<()> {
    send_some(socket, &mut [Letter { ends, buffer: message }]).map(|_count| ())
}

fn send_some(socket: &UdpSocket, letters: &mut [Letter]) -> io::Result<usize> {
    let mut names = [const { None::<SockAddr> }; BATCH];
    let mut controls = [Control::default(); BATCH];
    let mut parts = [no_part(); BATCH];
    let mut headers = [no_header(); BATCH];
    let count = letters.len().min(BATCH);
    let places = names.iter_mut().zip(&mut controls).zip(&mut parts).zip(&mut headers);
    for (letter, (((name, control), part), header)) in letters.iter_mut().zip(places) {
        let name = name.insert(SockAddr::from(letter.ends.client));
        part.iov_base = letter.buffer.as_mut_ptr().cast();
        part.iov_len = letter.buffer.len();
        header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = name.len();
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        if let Some(local) = letter.ends.local {
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
            header.msg_hdr.msg_controllen = set_source(&header.msg_hdr, local) as _;
        }
    }
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    // SAFETY: the first `count` headers point to a name, a part and a control buffer with their true
    // sizes, all of which outlive the call.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count as _, flags) };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// Room for one control message of either family, aligned as the kernel wants it.
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Control([u64; 8]);

const _: () = {
    // SAFETY: CMSG_SPACE only computes.
    let room = unsafe { libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32) };
    assert!(room as usize <= size_of::<Control>());
};

/// The address a received datagram was sent to.
fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the header is one that recvmmsg() filled; its control buffer is as long as it says.
    // Data of a control message may be unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (control.cmsg_level, control.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    let octets = info.ipi_spec_dst.s_addr.to_ne_bytes();
                    return Some(Ipv4Addr::from_octets(octets).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv6Addr::from_octets(info.ipi6_addr.s6_addr).into());
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

/// Writes the control message that makes a datagram leave from `local`; says how long it is.
fn set_source(header: &libc::msghdr, local: IpAddr) -> usize {
    match local {
        IpAddr::V4(local) => {
            let address = libc::in_addr { s_addr: u32::from_ne_bytes(local.octets()) };
            let info =
                libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: address };
            put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(local) => {
            let address = libc::in6_addr { s6_addr: local.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
            put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn put<T>(header: &libc::msghdr, level: i32, kind: i32, data: T) -> usize {
    let size = size_of::<T>() as u32;
    // SAFETY: the control buffer of the header is a whole `Control`, which is aligned for a cmsghdr
    // and has room for either packet information, as asserted above.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        if message.is_null() {
            return 0;
        }
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size) as _;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), data);
        libc::CMSG_SPACE(size) as usize
    }
}

fn no_part() -> libc::iovec {
    libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }
}

fn no_header() -> libc::mmsghdr {
    // SAFETY: a C structure of integers and pointers, for which all zeroes is a value.
    unsafe { mem::zeroed() }
}

/// Stands in where there is no sender.
const NOBODY: Ends =
    Ends { client: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), local: None };
/// What a reply's buffer may keep from one batch to the next, in bytes.
const MAX_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(inbox: &mut Inbox, socket: &UdpSocket) -> Vec<(Vec<u8>, Ends)> {
        let mut all = Vec::new();
        while all.len() < 2 {
            match inbox.receive(socket) {
                Ok(_) => all.extend(inbox.iter().map(|(bytes, ends)| (bytes.to_vec(), ends))),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        all
    }

    fn answers_leave_from_where_they_were_asked(bound: &str, asked: [&str; 2]) {
        let server = UdpSocket::bind(bound).unwrap();
        report_destination(&server).unwrap();
        let port = server.local_addr().unwrap().port();
        let asked = asked.map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        let client = UdpSocket::bind((asked[0].ip(), 0)).unwrap();
        for address in asked {
            client.send_to(address.to_string().as_bytes(), address).unwrap();
        }
        let mut inbox = Inbox::new();
        let mut outbox = Outbox::new();
        for (bytes, ends) in receive(&mut inbox, &server) {
            assert_eq!(ends.client, client.local_addr().unwrap());
            outbox.draft().unwrap().clone_from(&bytes);
            outbox.keep(ends);
            send_one(&server, ends, bytes).unwrap();
        }
        outbox.send(&server);
        for _ in 0..4 {
            let mut buffer = [0; 100];
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), from.to_string());
        }
    }

    #[test]
    fn v4() {
        answers_leave_from_where_they_were_asked("0.0.0.0:0", ["127.0.0.1", "127.64.53.9"]);
    }

    #[test]
    fn v6() {
        answers_leave_from_where_they_were_asked("[::]:0", ["::1", "::1"]);
    }

    #[test]
    fn nothing_there() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = Inbox::new().receive(&socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        Outbox::new().send(&socket);
    }
}
