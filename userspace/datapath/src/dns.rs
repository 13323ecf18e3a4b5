//! The sockets captured DNS queries arrive at, and the sign that somebody reads them.
//!
//! An address for each of the sixteen servers that one application socket can tell apart; an answer
//! leaves from the address that was asked. The mapping back is the kernel side's.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    sync::Mutex,
};

use aya::maps::{Array, MapData};
use egressd_abi::{DNS_SLOTS, DNS_SPREAD};
use nix::{
    sys::socket::{setsockopt, sockopt},
    time::{ClockId, clock_gettime},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    error::Error,
    listeners::{is_without_v6, listen},
    owners::SocketOwners,
};

/// Receive buffer of each UDP socket, in bytes: some 4,000 queries.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Whose queries are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsServers {
    /// Queries to every server.
    All,
    /// Queries to these, 256 at most.
    Listed(Vec<IpAddr>),
}

/// Bound sockets of the DNS server in one network namespace.
#[derive(Debug)]
pub struct DnsSockets {
    /// Datagrams: for each thread that answers, one socket for each spread address. Those of one
    /// address share it, and the kernel spreads clients over them (SO_REUSEPORT).
    pub udp: Vec<Vec<UdpSocket>>,
    /// Connections, one listener for each family.
    pub tcp: Vec<TcpListener>,
    /// Whose the sockets are that send there; nothing where the kernel does not tell.
    pub owners: Option<SocketOwners>,
}

/// Tells the kernel side that the DNS server is alive.
pub struct Heartbeat {
    map: Mutex<Array<MapData, u64>>,
}

impl DnsSockets {
    /// Binds in the calling thread's network namespace, for so many threads. Without IPv6 there are no IPv6 sockets,
    /// which is no error.
    ///
    /// # Errors
    /// [`Error::DnsPortTaken`] where somebody has `port` already.
    pub fn bind(port: u16, threads: usize) -> Result<Self, Error> {
        let mut first = Vec::new();
        let mut tcp = Vec::new();
        for slot in 0..DNS_SLOTS {
            let at = spread_v4(slot, port);
            first.push(datagrams(at, Sharing::Alone).map_err(taken(at))?);
        }
        tcp.push(listen(spread_v4(0, port)).map_err(taken(spread_v4(0, port)))?);
        for slot in 0..DNS_SLOTS {
            let Some(at) = spread_v6(slot, port) else { break };
            match datagrams(at, Sharing::Alone) {
                Ok(socket) => first.push(socket),
                Err(error) if is_without_v6(&error) => break,
                Err(error) => return Err(taken(at)(error)),
            }
            if slot == 0 {
                tcp.push(listen(at).map_err(taken(at))?);
            }
        }
        let mut udp = vec![first];
        for _ in 1..threads {
            let again = udp.first().map_or(&[][..], Vec::as_slice).iter().map(share);
            let more = again.collect::<Result<_, _>>();
            udp.push(more.map_err(Error::io("sharing an address between DNS threads"))?);
        }
        let owners = SocketOwners::new();
        let owners = owners.inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not tell whose sockets are: all are one client");
        });
        Ok(Self { udp, tcp, owners: owners.ok() })
    }
}

impl Heartbeat {
    pub(crate) fn new(map: Array<MapData, u64>) -> Self {
        Self { map: Mutex::new(map) }
    }

    /// Says so. To be called every 200 ms by the thread that answers; after a second of silence the
    /// kernel side leaves DNS alone.
    pub fn beat(&self) -> Result<(), Error> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_err(|error| Error::io("reading the clock")(error.into()))?;
        let now = std::time::Duration::from(now).as_nanos();
        let mut map = self.map.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        map.set(0, u64::try_from(now).unwrap_or(u64::MAX), 0)
            .map_err(Error::bpf("writing the heartbeat"))
    }
}

fn spread_v4(slot: u32, port: u16) -> SocketAddr {
    let first = u32::from(Ipv4Addr::from(DNS_SPREAD)) + 1;
    SocketAddr::new(Ipv4Addr::from(first + slot).into(), port)
}

fn spread_v6(slot: u32, port: u16) -> Option<SocketAddr> {
    let port = u16::try_from(u32::from(port) + slot).ok()?;
    Some(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port))
}

/// Whether an address is shared with sockets that have it already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Nobody has it: somebody else's socket would get a part of our queries.
    Alone,
    /// Another socket of ours has it.
    Ours,
}

/// One more socket for an address of ours. From here on others of this user could share it, too;
/// another daemon finds it taken all the same, as it begins with sockets that share nothing.
fn share(socket: &UdpSocket) -> std::io::Result<UdpSocket> {
    SockRef::from(socket).set_reuse_port(true)?;
    datagrams(socket.local_addr()?, Sharing::Ours)
}

fn taken(address: SocketAddr) -> impl FnOnce(std::io::Error) -> Error {
    move |error| {
        if error.kind() == std::io::ErrorKind::AddrInUse {
            Error::DnsPortTaken { address }
        } else {
            Error::io(format!("listening on {address}"))(error)
        }
    }
}

fn datagrams(at: SocketAddr, sharing: Sharing) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Beyond net.core.rmem_max, which is a fraction of it by default (CAP_NET_ADMIN).
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(sharing == Sharing::Ours)?;
    socket.bind(&at.into())?;
    Ok(socket.into())
}
