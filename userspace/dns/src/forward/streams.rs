//! Asking upstream over TCP and TLS: for what came by TCP, and for upstreams that are spoken to in
//! no other way.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpStream as StdTcpStream},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpSocket,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    forward::{PATIENCE, is_helpless},
    server::Shared,
    shares::{Asker, Place, Places},
    socket::{SocketKind, SocketMaker},
    upstream::{Health, Transport, Upstream, client_config},
    wire,
};

/// Exchanges over connections. One for the process.
pub(crate) struct Streams {
    sockets: Arc<dyn SocketMaker>,
    health: Arc<Health>,
    /// Exchanges at a time.
    places: Arc<Places>,
    idle: Mutex<HashMap<Upstream, Vec<Idle>>>,
    tls: OnceLock<Arc<ClientConfig>>,
}

/// A connection that has done its work and may do more.
struct Idle {
    connection: Connection,
    since: Instant,
}

type Connection = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Streams {
    /// `tls` replaces the trust in the system's certificate authorities.
    pub(crate) fn new(
        sockets: Arc<dyn SocketMaker>,
        health: Arc<Health>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Self {
        let trust = OnceLock::new();
        if let Some(tls) = tls {
            trust.get_or_init(|| tls);
        }
        Self {
            sockets,
            health,
            places: Places::new(MAX_EXCHANGES),
            idle: Mutex::new(HashMap::new()),
            tls: trust,
        }
    }

    /// A place for one exchange; nothing if `asker` must not have one more. To be taken before a task is
    /// made for the exchange: tasks are bounded by nothing else.
    pub(crate) fn place(&self, asker: Asker, shared: &Shared) -> Option<Place> {
        let place = self.places.take(asker);
        if place.is_none() {
            shared.crowded(asker);
            shared.metrics.upstream_refused.increment();
        }
        place
    }

    /// Asks the servers in turn until one answers, as long as nobody else needs the place. The reply is
    /// as it came, with the query's id; there may be none. The place is to be held until the reply has
    /// been passed on: those of many who do not read would fill the memory.
    pub(crate) async fn ask(
        &self,
        order: &[Upstream],
        query: &[u8],
        place: Place,
        shared: &Shared,
    ) -> Option<(Vec<u8>, Place)> {
        tokio::select! {
            reply = self.ask_each(order, query) => Some((reply?, place)),
            () = place.displaced() => {
                shared.crowded(place.asker());
                shared.metrics.upstream_displaced.increment();
                None
            }
        }
    }

    async fn ask_each(&self, order: &[Upstream], query: &[u8]) -> Option<Vec<u8>> {
        let mut last = None;
        for upstream in order {
            match timeout(PATIENCE, self.exchange(upstream, query)).await {
                Ok(Ok(reply)) => {
                    self.health.spoke(upstream.address);
                    let is_final = !is_helpless(&reply);
                    last = Some(reply);
                    if is_final {
                        break;
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(%upstream, %error, "a DNS upstream did not answer");
                    self.health.silent(upstream.address);
                }
                Err(_elapsed) => {
                    tracing::debug!(%upstream, "a DNS upstream did not answer in time");
                    self.health.silent(upstream.address);
                }
            }
        }
        last
    }

    async fn exchange(&self, upstream: &Upstream, query: &[u8]) -> io::Result<Vec<u8>> {
        // The server may have closed a connection that lay idle: then a fresh one is tried.
        if let Some(mut connection) = self.take_idle(upstream)
            && let Ok(reply) = converse(&mut connection, query).await
        {
            self.keep_idle(upstream, connection);
            return Ok(reply);
        }
        let mut connection = self.connect(upstream).await?;
        let reply = converse(&mut connection, query).await?;
        self.keep_idle(upstream, connection);
        Ok(reply)
    }

    async fn connect(&self, upstream: &Upstream) -> io::Result<Connection> {
        let address = upstream.address;
        let socket = StdTcpStream::from(self.sockets.socket(SocketKind::Tcp, address)?);
        socket.set_nonblocking(true)?;
        let stream = TcpSocket::from_std_stream(socket).connect(address).await?;
        let Transport::Tls { name } = &upstream.transport else { return Ok(Box::new(stream)) };
        let connector = TlsConnector::from(self.trust()?);
        let name = server_name(name.as_deref(), address)?;
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    fn trust(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(trust) = self.tls.get() {
            return Ok(Arc::clone(trust));
        }
        let trust = Arc::new(client_config().map_err(io::Error::other)?);
        Ok(Arc::clone(self.tls.get_or_init(|| trust)))
    }

    fn take_idle(&self, upstream: &Upstream) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(upstream)?;
        connections.retain(|idle| idle.since.elapsed() < MAX_IDLE_TIME);
        let found = connections.pop();
        if connections.is_empty() {
            idle.remove(upstream);
        }
        found.map(|idle| idle.connection)
    }

    fn keep_idle(&self, upstream: &Upstream, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_IDLE_SERVERS && !idle.contains_key(upstream) {
            return;
        }
        let connections = idle.entry(upstream.clone()).or_default();
        connections.retain(|idle| idle.since.elapsed() < MAX_IDLE_TIME);
        if connections.len() < MAX_IDLE {
            connections.push(Idle { connection, since: Instant::now() });
        }
    }
}

/// The name that the certificate must have.
fn server_name(name: Option<&str>, address: SocketAddr) -> io::Result<ServerName<'static>> {
    match name {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other),
        None => Ok(ServerName::IpAddress(address.ip().into())),
    }
}

/// Sends a query under an id of our own and waits for its reply, which gets the query's id back.
async fn converse(connection: &mut Connection, query: &[u8]) -> io::Result<Vec<u8>> {
    let Some(theirs) = wire::id(query) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let ours = rand::random();
    let mut query = query.to_vec();
    wire::set_id(&mut query, ours);
    write_message(connection, &query).await?;
    for _ in 0..MAX_STRAYS {
        let mut reply = read_message(connection).await?;
        if wire::id(&reply) == Some(ours) && wire::answers(&reply, &query) {
            wire::set_id(&mut reply, theirs);
            return Ok(reply);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Reads one message with its length before it (RFC 1035 §4.2.2).
pub(crate) async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u16().await?;
    let mut message = vec![0; length.into()];
    from.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message with its length before it, in one piece.
pub(crate) async fn write_message(
    to: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    to.write_all(&framed).await?;
    to.flush().await
}

/// Exchanges under way at a time; one more takes the place of another one. Each holds a connection and two messages of
/// at most 64 KiB.
const MAX_EXCHANGES: usize = 512;
/// Connections kept for one server.
const MAX_IDLE: usize = 8;
/// Servers that connections are kept for: applications choose whom they ask.
const MAX_IDLE_SERVERS: usize = 32;
/// How long a connection is kept without work. Servers close theirs after about as long.
const MAX_IDLE_TIME: Duration = Duration::from_secs(8);
/// Messages for somebody else that are passed over before a connection is given up.
const MAX_STRAYS: usize = 8;
