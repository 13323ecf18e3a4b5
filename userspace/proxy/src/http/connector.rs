//! Connections to endpoints as the cluster asks for them: a socket, and TLS on it.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{
    io::{HttpIo, TlsIo},
    upstream::{Connected, Connector, NotConnected, Target, Waiting},
};
use crate::{
    connect::header,
    record::{Errno, TransportFailure},
    socket::{ConnectOptions, Keepalive, SocketFactory},
    tls::{Originator, Speaks, TlsFailure, Upstream},
};

/// Opens sockets, and TLS on them.
pub(crate) struct Sockets {
    /// Makes the sockets.
    pub(crate) factory: Arc<SocketFactory>,
    /// Speaks TLS.
    pub(crate) originator: Arc<Originator>,
}

impl Connector for Sockets {
    fn connect<'a>(&'a self, target: Target<'a>) -> Waiting<'a, Result<Connected, NotConnected>> {
        Box::pin(self.connect_to(target))
    }
}

impl Sockets {
    async fn connect_to(&self, target: Target<'_>) -> Result<Connected, NotConnected> {
        let Target { cluster, addr, mesh, origin, host, http2 } = target;
        let deadline = Instant::now() + cluster.connect_timeout;
        let speaks = if http2 { Speaks::Http2 { host } } else { Speaks::Http1 { host } };
        let tls = match self.originator.wanted(&cluster.tls, mesh.tls) {
            Some(wanted) => {
                let peer = mesh.peer.as_ref();
                let upstream = Upstream { wanted, endpoint: addr, speaks, peer };
                // What is missing shows before anybody is bothered.
                Some(self.originator.prepare(&upstream).map_err(failed)?)
            }
            None => None,
        };
        let keepalive = cluster.pool.tcp_keepalive.map(|keepalive| Keepalive {
            time: keepalive.time,
            interval: keepalive.interval,
            probes: keepalive.probes,
        });
        // Connections are shared by applications, so that none of their addresses can be used.
        let options = ConnectOptions { timeout: cluster.connect_timeout, keepalive, source: None };
        let stream = self.factory.connect(addr, &options).await;
        let mut stream = stream.map_err(|error| {
            tracing::debug!(%error, source = ?std::error::Error::source(&error), "no connection");
            NotConnected { failure: TransportFailure::from(&error) }
        })?;
        let local = stream.local_addr();
        if let (Some(version), Some(origin)) = (cluster.proxy_protocol, origin) {
            let header = header::write(version, origin.client, local, origin.destination);
            let sent = timeout_at(deadline, header::send(&mut stream, &header)).await;
            let sent = sent.map_err(|_elapsed| TransportFailure::Timeout);
            sent.and_then(|sent| sent.map_err(|error| broke(&error)))
                .map_err(|failure| NotConnected { failure })?;
        }
        let io = match tls {
            Some(tls) => {
                HttpIo::Tls(TlsIo::new(tls.handshake(stream, deadline).await.map_err(failed)?))
            }
            None => HttpIo::Plain(stream),
        };
        Ok(Connected { io, local })
    }
}

fn broke(error: &std::io::Error) -> TransportFailure {
    TransportFailure::Delayed(error.kind(), Errno::from(error))
}

fn failed(failure: TlsFailure) -> NotConnected {
    tracing::debug!(%failure, "no TLS connection");
    NotConnected { failure: TransportFailure::Tls(Box::new(failure)) }
}
