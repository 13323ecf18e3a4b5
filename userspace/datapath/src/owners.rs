//! Whose a socket is, by its addresses: what `ss` asks the kernel, for one socket.
//!
//! Captured queries all come from loopback, so their addresses tell nothing; the socket that sent one
//! is of the same network namespace and tells user and cgroup.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Mutex, PoisonError},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// Looks sockets of one network namespace up.
#[derive(Debug)]
pub struct SocketOwners {
    /// One question at a time; each is answered before its system call returns.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    netlink: OwnedFd,
    sequence: u32,
}

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOwner {
    /// The user.
    pub uid: u32,
    /// The cgroup it was made in, as the kernel numbers them; 0 where the kernel does not say.
    pub cgroup: u64,
}

/// Which kind of socket is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl SocketOwners {
    /// Looks into the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel has no socket diagnosis (`CONFIG_INET_DIAG`, `CONFIG_INET_UDP_DIAG`).
    pub fn new() -> io::Result<Self> {
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkSockDiag,
        )?;
        Ok(Self { state: Mutex::new(State { netlink, sequence: 0 }) })
    }

    /// Whose the socket at `ours` is that has sent to `theirs`; nothing if there is none, or the
    /// kernel does not say. Does not wait.
    pub fn of(
        &self,
        protocol: Protocol,
        ours: SocketAddr,
        theirs: SocketAddr,
    ) -> Option<SocketOwner> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.ask(protocol, ours, theirs);
        found.inspect_err(|error| tracing::debug!(%error, %ours, "looking for a socket")).ok()?
    }
}

impl State {
    fn ask(
        &mut self,
        protocol: Protocol,
        ours: SocketAddr,
        theirs: SocketAddr,
    ) -> io::Result<Option<SocketOwner>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(protocol, ours, theirs, self.sequence);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.netlink.as_raw_fd(), &request, &kernel, MsgFlags::empty())?;
        let mut reply = [0; REPLY_BYTES];
        loop {
            let length = recv(self.netlink.as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT)?;
            let reply = reply.get(..length).unwrap_or_default();
            // What is left of an earlier question, if its answer could not be read.
            if u32_at(reply, 8) == Some(self.sequence) {
                return Ok(owner(reply));
            }
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` (include/uapi/linux/inet_diag.h), for exactly one
/// socket.
fn request(protocol: Protocol, ours: SocketAddr, theirs: SocketAddr, sequence: u32) -> Vec<u8> {
    // "src and dst are swapped for historical reasons" (udp_dump_one() in net/ipv4/udp_diag.c).
    let (number, src, dst) = match protocol {
        Protocol::Tcp => (libc::IPPROTO_TCP as u8, ours, theirs),
        Protocol::Udp => (libc::IPPROTO_UDP as u8, theirs, ours),
    };
    let family = if ours.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let mut request = Vec::with_capacity(REQUEST_BYTES);
    request.extend_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend_from_slice(&sequence.to_ne_bytes());
    request.extend_from_slice(&[0; 4]);
    // No extensions, sockets of any state.
    request.extend_from_slice(&[family, number, 0, 0]);
    request.extend_from_slice(&u32::MAX.to_ne_bytes());
    request.extend_from_slice(&src.port().to_be_bytes());
    request.extend_from_slice(&dst.port().to_be_bytes());
    request.extend_from_slice(&padded(src.ip()));
    request.extend_from_slice(&padded(dst.ip()));
    // Any interface, any cookie.
    request.extend_from_slice(&[0; 4]);
    request.extend_from_slice(&[0xff; 8]);
    request
}

fn padded(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// What `struct inet_diag_msg` and the attributes after it say.
fn owner(reply: &[u8]) -> Option<SocketOwner> {
    let kind = u16::from_ne_bytes(*reply.get(4..)?.first_chunk()?);
    // Otherwise it is an error: there is no such socket.
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let uid = u32_at(reply, HEADER_BYTES + UID_AT)?;
    Some(SocketOwner { uid, cgroup: cgroup(reply).unwrap_or(0) })
}

fn cgroup(reply: &[u8]) -> Option<u64> {
    let mut at = HEADER_BYTES + MESSAGE_BYTES;
    loop {
        let length = usize::from(u16::from_ne_bytes(*reply.get(at..)?.first_chunk()?));
        let kind = u16::from_ne_bytes(*reply.get(at + 2..)?.first_chunk()?);
        if kind == INET_DIAG_CGROUP_ID {
            return Some(u64::from_ne_bytes(*reply.get(at + 4..)?.first_chunk()?));
        }
        if length < 4 {
            return None;
        }
        at += length.next_multiple_of(4);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// `SOCK_DIAG_BY_FAMILY` of include/uapi/linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `INET_DIAG_CGROUP_ID` (Linux 5.9).
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// The header and `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
/// `struct inet_diag_msg`, and `idiag_uid` in it.
const MESSAGE_BYTES: usize = 72;
const UID_AT: usize = 64;
/// A message of one socket has some 300 bytes.
const REPLY_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::fs::MetadataExt as _,
        time::Duration,
    };

    use super::*;

    fn uid() -> u32 {
        std::fs::metadata("/proc/self").unwrap().uid()
    }

    #[test]
    fn sockets_of_ours_are_ours() {
        let owners = SocketOwners::new().unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let (server, connected) =
                (UdpSocket::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
            let to = server.local_addr().unwrap();
            connected.connect(to).unwrap();
            let from = connected.local_addr().unwrap();
            let owner = owners.of(Protocol::Udp, from, to).unwrap();
            assert_eq!(owner.uid, uid());
            assert_ne!(owner.cgroup, 0);
            // It is connected, and nobody else's.
            assert_eq!(owners.of(Protocol::Udp, from, at("127.0.0.9:9")), None);
            let listener = TcpListener::bind(any).unwrap();
            let to = listener.local_addr().unwrap();
            let stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).unwrap();
            let found = owners.of(Protocol::Tcp, stream.local_addr().unwrap(), to);
            assert_eq!(found, Some(owner));
        }
        // Bound to no address, as resolvers' sockets are.
        let open = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = open.local_addr().unwrap().port();
        let found = owners.of(
            Protocol::Udp,
            SocketAddr::from(([127, 0, 0, 1], port)),
            at("127.64.53.1:53"),
        );
        assert_eq!(found.map(|owner| owner.uid), Some(uid()));
        // One of both families that speaks IPv4.
        let both = UdpSocket::bind("[::]:0").unwrap();
        let port = both.local_addr().unwrap().port();
        let found = owners.of(
            Protocol::Udp,
            SocketAddr::from(([127, 0, 0, 1], port)),
            at("127.64.53.1:53"),
        );
        assert_eq!(found.map(|owner| owner.uid), Some(uid()));
        drop((open, both));
        let gone = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(owners.of(Protocol::Udp, gone, at("127.64.53.1:53")), None);
    }
}
