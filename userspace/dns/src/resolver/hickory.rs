//! The DNS by hickory-resolver: transports, retries, TCP after truncation, CNAME chains, TLS.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, TcpStream as StdTcpStream},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        runtime::{RuntimeProvider, TokioHandle, TokioTime, iocompat::AsyncIoTokioAsStd},
    },
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use socket2::Socket;
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    time::timeout,
};

use crate::{
    resolver::{
        ResolverSettings,
        backend::{Asking, Backend, Failure, Family, Records},
    },
    socket::{SocketKind, SocketMaker},
    upstream::{Transport, Upstream, Upstreams, client_config},
};

/// The upstreams, by hickory.
pub(crate) struct Hickory(Result<hickory_resolver::Resolver<Provider>, Arc<str>>);

impl Hickory {
    /// `tls` replaces the trust in the system's certificate authorities.
    pub(crate) fn new(
        upstreams: &Upstreams,
        settings: &ResolverSettings,
        sockets: &Arc<dyn SocketMaker>,
        tls: Option<&ClientConfig>,
    ) -> Self {
        let built = build(upstreams, settings, sockets, tls);
        Self(built.map_err(|reason| {
            tracing::error!(%reason, "names cannot be resolved");
            reason.into()
        }))
    }
}

fn build(
    upstreams: &Upstreams,
    settings: &ResolverSettings,
    sockets: &Arc<dyn SocketMaker>,
    tls: Option<&ClientConfig>,
) -> Result<hickory_resolver::Resolver<Provider>, String> {
    let servers: Vec<_> = upstreams.servers().map(server).collect();
    if servers.is_empty() {
        return Err("there is no DNS server to ask".to_owned());
    }
    let uses_tls =
        upstreams.servers().any(|server| matches!(server.transport, Transport::Tls { .. }));
    let trust = match tls {
        Some(tls) => Ok(tls.clone()),
        None if uses_tls => client_config(),
        // Needed by the constructor, used by nobody.
        None => no_trust(),
    };
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let provider = Provider { sockets: Arc::clone(sockets), handle: TokioHandle::default() };
    hickory_resolver::Resolver::builder_with_config(config, provider)
        .with_options(options(settings))
        .with_tls_config(trust.map_err(|error| error.to_string())?)
        .build()
        .map_err(|error| error.to_string())
}

fn options(settings: &ResolverSettings) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = settings.timeout;
    options.attempts = settings.attempts.saturating_sub(1);
    // Ours is the cache, and the hosts file is ours to read.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options
}

fn server(upstream: &Upstream) -> NameServerConfig {
    let ip = upstream.address.ip();
    let connections = match &upstream.transport {
        Transport::Plain => vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        Transport::Tcp => vec![ConnectionConfig::tcp()],
        Transport::Tls { name } => {
            vec![ConnectionConfig::tls(name.clone().unwrap_or_else(|| ip.to_string().into()))]
        }
    };
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = upstream.address.port();
        connection
    };
    // Several servers are several views of one DNS: a name that one does not have, none has.
    NameServerConfig::new(ip, true, connections.into_iter().map(at_port).collect())
}

fn no_trust() -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

impl Backend for Hickory {
    fn ask(&self, name: &str, family: Family) -> Asking {
        let resolver = match &self.0 {
            Ok(resolver) => resolver.clone(),
            Err(reason) => {
                let reason = reason.to_string();
                return Box::pin(async move { Err(Failure::Unavailable { reason }) });
            }
        };
        // With the final dot there is no search.
        let Ok(name) = Name::from_ascii(format!("{name}.")) else {
            return Box::pin(async { Err(Failure::NoSuchName { ttl: None }) });
        };
        let record_type = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        Box::pin(async move {
            // Even a cache without room remembers for a moment.
            resolver.clear_cache();
            let lookup = resolver.lookup(name, record_type).await.map_err(failure)?;
            let address = |data: &RData| data.ip_addr().filter(|ip| is_of(*ip, family));
            let answers = lookup.answers();
            let addresses: Vec<_> =
                answers.iter().filter_map(|record| address(&record.data)).collect();
            if addresses.is_empty() {
                return Err(Failure::NoAddresses { ttl: None });
            }
            // An alias counts, too: it may lead elsewhere before the addresses end.
            let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
            Ok(Records { addresses, ttl: Duration::from_secs(ttl.into()) })
        })
    }
}

fn is_of(ip: IpAddr, family: Family) -> bool {
    match family {
        Family::V4 => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6(),
    }
}

fn failure(error: NetError) -> Failure {
    if let NetError::Dns(DnsError::NoRecordsFound(none)) = &error {
        let ttl = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
        if none.response_code == ResponseCode::NXDomain {
            return Failure::NoSuchName { ttl };
        }
        if none.response_code == ResponseCode::NoError {
            return Failure::NoAddresses { ttl };
        }
    }
    Failure::Unavailable { reason: error.to_string() }
}

/// Gives hickory sockets of the agent's making.
#[derive(Clone)]
struct Provider {
    sockets: Arc<dyn SocketMaker>,
    handle: TokioHandle,
}

impl RuntimeProvider for Provider {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = io::Result<Self::Tcp>> + Send>> {
        let socket = self.sockets.socket(SocketKind::Tcp, server);
        Box::pin(async move {
            let socket = StdTcpStream::from(socket?);
            socket.set_nonblocking(true)?;
            let connecting = TcpSocket::from_std_stream(socket).connect(server);
            let stream = timeout(limit.unwrap_or(crate::forward::PATIENCE), connecting).await??;
            Ok(AsyncIoTokioAsStd(stream))
        })
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<UdpSocket>> + Send>> {
        let socket = self.sockets.socket(SocketKind::Udp, server);
        Box::pin(async move {
            let socket = Socket::from(socket?);
            socket.set_nonblocking(true)?;
            // Hickory chooses a port at random.
            socket.bind(&local.into())?;
            UdpSocket::from_std(socket.into())
        })
    }
}
