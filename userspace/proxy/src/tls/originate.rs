//! TLS towards endpoints.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use egressd_tables::{TlsOrigination, UpstreamTls, Verification};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::{
    RECHECK,
    cache::Cache,
    config,
    failure::TlsFailure,
    server_name::{Name, Speaks},
    settings::Settings,
    sources::Sources,
    stream::TlsStream,
    wire::Wire,
};
use crate::{addrs::UpstreamAddr, socket::Stream};

/// Opens TLS towards endpoints. One for the whole process; shared by all workers.
#[derive(Debug)]
pub struct Originator {
    sources: Sources,
    configs: Cache<Settings, ClientConfig>,
    warned: AtomicBool,
}

/// Whether TLS is spoken to an endpoint, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) origination: &'a TlsOrigination,
    /// Nobody asked for it: the endpoint announced that it speaks mesh TLS.
    auto: bool,
}

/// A TLS connection to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstream<'a> {
    /// Whether and how, from [`Originator::wanted`].
    pub(crate) wanted: Wanted<'a>,
    /// Where it goes.
    pub(crate) endpoint: &'a UpstreamAddr,
    /// What is spoken in it.
    pub(crate) speaks: Speaks<'a>,
    /// The SPIFFE identity of the endpoint's service account, if it has one
    /// ([`super::MeshIdentity::spiffe_id`]).
    pub(crate) peer: Option<&'a Arc<str>>,
}

/// A TLS connection for which everything is at hand but the connection.
#[derive(Debug)]
pub(crate) struct Prepared {
    config: Arc<ClientConfig>,
    name: Name,
}

impl Originator {
    /// An originator without any configuration yet; nothing is read here.
    pub fn new(sources: Sources) -> Self {
        Self::with_recheck(sources, RECHECK)
    }

    /// As [`Originator::new`], with another time between two looks at a file.
    pub(super) fn with_recheck(sources: Sources, recheck: Duration) -> Self {
        Self {
            sources,
            configs: Cache::new(recheck, config::client),
            warned: AtomicBool::new(false),
        }
    }

    /// The SPIFFE identity of a service account in our mesh; nothing without an identity of our own.
    pub fn spiffe_id(&self, namespace: &str, account: &str) -> Option<Arc<str>> {
        Some(self.sources.identity.as_ref()?.spiffe_id(namespace, account))
    }

    /// Whether TLS is spoken to an endpoint of a cluster; `None` is plaintext, and the only way to
    /// it. `mesh_tls`: the endpoint announces that it speaks mesh TLS.
    pub(crate) fn wanted<'a>(&self, tls: &'a UpstreamTls, mesh_tls: bool) -> Option<Wanted<'a>> {
        match tls {
            UpstreamTls::Plaintext => None,
            UpstreamTls::Originate(origination) => Some(Wanted { origination, auto: false }),
            UpstreamTls::Auto(_) if !mesh_tls => None,
            UpstreamTls::Auto(origination) if self.sources.identity.is_some() => {
                Some(Wanted { origination, auto: true })
            }
            UpstreamTls::Auto(_) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "mesh endpoints are spoken to in plaintext: no `identity` is set"
                    );
                }
                None
            }
        }
    }

    /// Gathers what the handshake needs, so that whatever is missing is known before a connection is
    /// made.
    ///
    /// # Errors
    /// A file, a credential, an identity or a name is missing or cannot be used.
    pub(crate) fn prepare(&self, upstream: &Upstream<'_>) -> Result<Prepared, TlsFailure> {
        let Wanted { origination, auto } = upstream.wanted;
        let name = Name::new(&origination.sni, upstream.speaks, upstream.endpoint)?;
        // A list of names is complete, unless nobody wrote it for this endpoint.
        let listed = match &origination.verification {
            Verification::Verify { names, .. } => !names.is_empty(),
            Verification::Skip => true,
        };
        let peer = upstream.peer.filter(|_| auto || !listed);
        let settings =
            Settings::new(origination, upstream.speaks, name.given, peer, &self.sources)?;
        let config = self.configs.get(&settings)?;
        Ok(Prepared { config, name })
    }

    /// Makes a connection that stands into a TLS connection, within the time for connecting.
    ///
    /// # Errors
    /// Anything in [`TlsFailure`]; the connection is closed.
    pub(crate) async fn connect(
        &self,
        upstream: &Upstream<'_>,
        stream: Stream,
        deadline: Instant,
    ) -> Result<TlsStream, TlsFailure> {
        self.prepare(upstream)?.handshake(stream, deadline).await
    }

    /// How many configurations there are.
    #[cfg(test)]
    pub(super) fn configs(&self) -> usize {
        self.configs.len()
    }
}

impl Prepared {
    /// Shakes hands. A peer that is refused is told why by an alert.
    ///
    /// # Errors
    /// The peer is not who it should be, or did not do its part; the connection is closed.
    pub(crate) async fn handshake(
        self,
        stream: Stream,
        deadline: Instant,
    ) -> Result<TlsStream, TlsFailure> {
        let connector = TlsConnector::from(self.config);
        // Boxed, and the connection is in it: what waits here and what comes out stay small.
        let connecting = connector.connect(self.name.server, Wire::new(stream)).into_fallible();
        let mut connecting = Box::pin(connecting);
        match timeout_at(deadline, connecting.as_mut()).await {
            Ok(Ok(stream)) => Ok(TlsStream::new(stream.into())),
            Ok(Err((error, wire))) => {
                wire.close();
                Err(TlsFailure::from_io(&error))
            }
            Err(_elapsed) => Err(TlsFailure::Timeout),
        }
    }
}
