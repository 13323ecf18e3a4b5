//! The factory of upstream sockets.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
    },
};
use socket2::{SockRef, TcpKeepalive};
use tokio::time::{sleep, timeout};

use crate::{
    addrs::{UnixName, UpstreamAddr},
    socket::{LoopGuard, LoopReason, Stream, linux, stream::says_established},
};

/// The mark (SO_MARK) by which the kernel side knows our own sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u32);

/// Keep-alive probes on an idle upstream connection (semantics.md §4, tcpKeepalive); a field left
/// out keeps the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Idle time before the first probe; whole seconds.
    pub time: Option<Duration>,
    /// Time between probes; whole seconds.
    pub interval: Option<Duration>,
    /// Probes without an answer before the connection is given up.
    pub probes: Option<u32>,
}

/// Makes every socket that egressd dials with: marked, without delay, guarded against loops.
///
/// One for the whole process; shared by all workers.
#[derive(Debug)]
pub struct SocketFactory {
    mark: Option<Mark>,
    guard: LoopGuard,
    /// The kernel refused the mark once; it is not asked again.
    unmarked: AtomicBool,
}

/// How one connection is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectOptions {
    /// Limit of the handshake.
    pub(crate) timeout: Duration,
    /// Probes once it stands; `None` leaves them off.
    pub(crate) keepalive: Option<Keepalive>,
    /// The source address the application asked for; used where it is ours to use.
    pub(crate) source: Option<IpAddr>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The loop guard refused the address.
    #[error("connecting to {to} is refused: {reason}")]
    Loop {
        /// The address.
        to: UpstreamAddr,
        /// The guard's reason.
        reason: LoopReason,
    },
    /// There was no socket to connect with.
    #[error("opening a socket for {to}")]
    Socket {
        /// Where it would have gone.
        to: UpstreamAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused at once: no route, no such path, no permission.
    #[error("connecting to {to}")]
    Immediate {
        /// The address.
        to: UpstreamAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The network answered that it cannot be.
    #[error("connecting to {to}")]
    Delayed {
        /// The address.
        to: UpstreamAddr,
        /// The network's reason.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("connecting to {to}: no answer within {after:?}")]
    Timeout {
        /// The address.
        to: UpstreamAddr,
        /// The connect timeout.
        after: Duration,
    },
}

impl SocketFactory {
    /// A factory; `None` makes sockets without a mark (nothing is captured, as in tests).
    pub fn new(mark: Option<Mark>, guard: LoopGuard) -> Self {
        Self { mark, guard, unmarked: AtomicBool::new(false) }
    }

    /// The addresses this factory refuses.
    pub fn guard(&self) -> &LoopGuard {
        &self.guard
    }

    /// Puts the mark on a socket made elsewhere, such as a DNS forwarder's. A process that may not
    /// set marks (CAP_NET_ADMIN) is warned once and goes on without.
    ///
    /// # Errors
    /// The kernel refused for a reason other than permission.
    pub fn mark(&self, socket: impl AsFd) -> io::Result<()> {
        let Some(Mark(mark)) = self.mark else { return Ok(()) };
        if self.unmarked.load(Ordering::Relaxed) {
            return Ok(());
        }
        match SockRef::from(&socket.as_fd()).set_mark(mark) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                if !self.unmarked.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "sockets go unmarked: SO_MARK needs CAP_NET_ADMIN");
                }
                Ok(())
            }
            done => done,
        }
    }

    /// Connects to `to`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub(crate) async fn connect(
        &self,
        to: &UpstreamAddr,
        options: &ConnectOptions,
    ) -> Result<Stream, ConnectError> {
        self.guard.check(to).map_err(|reason| ConnectError::Loop { to: to.clone(), reason })?;
        match to {
            UpstreamAddr::Ip(addr) => {
                let stream = self.connect_tcp(*addr, options).await?;
                let local = || stream.local_addr().map(|local| local.0);
                match self.guard.check_connected(*addr, local) {
                    Ok(()) => Ok(stream),
                    Err(reason) => Err(ConnectError::Loop { to: to.clone(), reason }),
                }
            }
            UpstreamAddr::Unix(name) => connect_unix(name, options.timeout).await,
        }
    }

    async fn connect_tcp(
        &self,
        addr: SocketAddr,
        options: &ConnectOptions,
    ) -> Result<Stream, ConnectError> {
        let to = || UpstreamAddr::Ip(addr);
        let socket = self
            .tcp_socket(addr, options)
            .map_err(|source| ConnectError::Socket { to: to(), source })?;
        let immediate = |source: Errno| ConnectError::Immediate { to: to(), source: source.into() };
        let delayed = |source: Errno| ConnectError::Delayed { to: to(), source: source.into() };
        match connect(&socket, &addr) {
            Ok(()) => return Ok(Stream::connected(socket)),
            Err(Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) => return Err(immediate(error)),
        }
        // A destination on this machine has answered before connect() returns; asking again is
        // cheaper than a turn of the event loop.
        match connect(&socket, &addr) {
            Ok(()) | Err(Errno::ISCONN) => return Ok(Stream::connected(socket)),
            Err(Errno::ALREADY | Errno::INPROGRESS | Errno::INTR) => {}
            Err(error) if says_established(error) => {
                return Ok(Stream::after_reset(socket, error));
            }
            Err(error) => return Err(delayed(error)),
        }
        let mut stream = Stream::connected(socket);
        let connected = poll_fn(|cx| stream.poll_connected(cx));
        match timeout(options.timeout, connected).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(error)) => Err(delayed(error)),
            Err(_elapsed) => Err(ConnectError::Timeout { to: to(), after: options.timeout }),
        }
    }

    fn tcp_socket(&self, addr: SocketAddr, options: &ConnectOptions) -> io::Result<OwnedFd> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = stream_socket(family)?;
        self.mark(&socket)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(keepalive) = options.keepalive {
            SockRef::from(&socket).set_tcp_keepalive(&keepalive.parameters())?;
        }
        if let Some(source) = options.source
            && source.is_ipv4() == addr.is_ipv4()
        {
            bind_source(&socket, source);
        }
        Ok(socket)
    }
}

impl ConnectError {
    /// The address that was tried.
    pub fn to(&self) -> &UpstreamAddr {
        match self {
            Self::Loop { to, .. }
            | Self::Socket { to, .. }
            | Self::Immediate { to, .. }
            | Self::Delayed { to, .. }
            | Self::Timeout { to, .. } => to,
        }
    }
}

impl Keepalive {
    fn parameters(self) -> TcpKeepalive {
        let mut parameters = TcpKeepalive::new();
        if let Some(time) = self.time {
            parameters = parameters.with_time(time);
        }
        if let Some(interval) = self.interval {
            parameters = parameters.with_interval(interval);
        }
        if let Some(probes) = self.probes {
            parameters = parameters.with_retries(probes);
        }
        parameters
    }
}

/// Keeps the application's own source address where this machine has it; where not (a container's
/// address, say) the system chooses, as it does for everybody else.
fn bind_source(socket: &OwnedFd, source: IpAddr) {
    let bound = linux::set_bind_address_no_port(socket)
        .or_else(|error| if source.is_ipv6() { Ok(()) } else { Err(error) })
        .and_then(|()| Ok(bind(socket, &SocketAddr::new(source, 0))?));
    if let Err(error) = bound {
        tracing::debug!(%source, %error, "the application's source address cannot be kept");
    }
}

async fn connect_unix(name: &UnixName, limit: Duration) -> Result<Stream, ConnectError> {
    let to = || UpstreamAddr::Unix(name.clone());
    let refused = |source: Errno| ConnectError::Immediate { to: to(), source: source.into() };
    let addr = unix_addr(name).map_err(refused)?;
    let socket = stream_socket(AddressFamily::UNIX)
        .map_err(|source| ConnectError::Socket { to: to(), source })?;
    let connected = async {
        loop {
            match connect(&socket, &addr) {
                // The server's backlog is full, and nothing tells when it no longer is.
                Err(Errno::AGAIN) => sleep(UNIX_BACKLOG_RETRY).await,
                Err(Errno::INTR) => {}
                done => return done,
            }
        }
    };
    match timeout(limit, connected).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(refused(error)),
        Err(_elapsed) => return Err(ConnectError::Timeout { to: to(), after: limit }),
    }
    Ok(Stream::connected(socket))
}

fn unix_addr(name: &UnixName) -> Result<SocketAddrUnix, Errno> {
    match name.as_abstract() {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(name.as_str()),
    }
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// How often a Unix server with a full backlog is asked again, within the connect timeout.
const UNIX_BACKLOG_RETRY: Duration = Duration::from_millis(5);
