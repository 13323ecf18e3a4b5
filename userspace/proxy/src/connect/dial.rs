//! One attempt at one endpoint: a socket, and on it whatever the cluster asks for before the first
//! byte of the application: a PROXY header, TLS, a tunnel. All of it within the time for connecting.

use std::{io, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Tools, Upstream, header, tunnel};
use crate::{
    addrs::{ClientAddr, OriginalDst, UpstreamAddr},
    cluster::{ClusterSpec, Mesh},
    record::{Errno, TransportFailure, TunnelFailure},
    socket::{ConnectError, ConnectOptions},
    tls::{self, Speaks, TlsFailure},
};

/// Connects as one cluster asks.
#[derive(Clone, Copy)]
pub(super) struct Dial<'a> {
    pub(super) tools: Tools<'a>,
    pub(super) spec: &'a ClusterSpec,
    /// The application's end.
    pub(super) client: ClientAddr,
    /// What it dialled.
    pub(super) dialled: OriginalDst,
}

impl Dial<'_> {
    /// Connects to an endpoint.
    ///
    /// # Errors
    /// It cannot be reached, or will not do what the cluster asks of it.
    pub(super) async fn to(
        &self,
        addr: &UpstreamAddr,
        mesh: &Mesh,
    ) -> Result<Upstream, TransportFailure> {
        let Self { tools, spec, .. } = *self;
        let deadline = Instant::now() + spec.connect_timeout.min(LONGEST);
        let tls = match tools.originator.wanted(&spec.tls, mesh.tls) {
            Some(wanted) => {
                let (speaks, peer) = (Speaks::Opaque, mesh.peer.as_ref());
                let upstream = tls::Upstream { wanted, endpoint: addr, speaks, peer };
                // What is missing shows before anybody is bothered.
                Some(tools.originator.prepare(&upstream).map_err(no_tls)?)
            }
            None => None,
        };
        if spec.tunnel.as_ref().is_some_and(|tunnel| tunnel.post) {
            return Err(TunnelFailure::Post.into());
        }
        let options = ConnectOptions {
            timeout: spec.connect_timeout,
            keepalive: spec.keepalive,
            source: self.client.explicit_source(),
        };
        let mut stream = tools.factory.connect(addr, &options).await.map_err(|e| failed(&e))?;
        if let Some(version) = spec.proxy_protocol {
            let ours = stream.local_addr();
            let header = header::write(version, self.client, ours, self.dialled);
            let sent = timeout_at(deadline, header::send(&mut stream, &header)).await;
            sent.map_err(|_elapsed| TransportFailure::Timeout)?.map_err(|error| broke(&error))?;
        }
        let mut upstream = match tls {
            Some(tls) => Upstream::Tls(tls.handshake(stream, deadline).await.map_err(no_tls)?),
            None => Upstream::Plain(stream),
        };
        if let Some(tunnel) = &spec.tunnel {
            let opened = timeout_at(deadline, tunnel::open(&mut upstream, tunnel)).await;
            opened.map_err(|_elapsed| TunnelFailure::Timeout)??;
        }
        Ok(upstream)
    }
}

/// Nobody waits longer than this for a connection, whatever a rule says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn failed(error: &ConnectError) -> TransportFailure {
    tracing::debug!(%error, source = ?std::error::Error::source(error), "no connection");
    TransportFailure::from(error)
}

fn no_tls(failure: TlsFailure) -> TransportFailure {
    tracing::debug!(%failure, "no TLS connection");
    failure.into()
}

fn broke(error: &io::Error) -> TransportFailure {
    TransportFailure::Delayed(error.kind(), Errno::from(error))
}
