//! TLS towards the clients of a Gateway (semantics.md §6).

mod config;
mod gateway;
mod pins;
mod verify;

use std::{sync::Arc, time::Duration};

use egressd_tables::{ClientIdentity, TlsVersion, TrustAnchors};
use rustls::ServerConfig;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use self::{config::ServerSettings, pins::Pins};
use super::{
    RECHECK,
    cache::Cache,
    failure::TlsFailure,
    settings::{FileNames, NameDemands, Settings},
    sources::Sources,
    stream::TlsStream,
    wire::Wire,
};
use crate::socket::Stream;

/// Answers TLS for Gateways. One for the whole process; shared by all workers. Files are read, and
/// read again, as the [`super::Originator`] does.
#[derive(Debug)]
pub struct Terminator {
    sources: Sources,
    configs: Cache<ServerSettings, ServerConfig>,
}

/// `tls` of a Gateway's server, where TLS ends at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerTls {
    /// The certificates that can be shown, at least one; a client gets the first it can read.
    pub(crate) identities: Vec<ClientIdentity>,
    /// Whether clients show certificates.
    pub(crate) clients: Clients,
    /// The application protocols served, the best first; none: no client is asked for any.
    pub(crate) alpn: Vec<Arc<str>>,
    /// Lowest version spoken.
    pub(crate) min_version: TlsVersion,
    /// Highest version spoken.
    pub(crate) max_version: TlsVersion,
    /// The cipher suites of TLS 1.2 by OpenSSL's names, the best first; empty: those that are safe.
    /// Names of suites that we do not speak are passed over.
    pub(crate) cipher_suites: Vec<Arc<str>>,
}

/// Whether clients show certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// `SIMPLE`: they are not asked to.
    Anyone,
    /// `OPTIONAL_MUTUAL`: a certificate must be good if there is one.
    Optional(ClientDemands),
    /// `MUTUAL` and `ISTIO_MUTUAL`.
    Required(ClientDemands),
}

/// What is demanded of a client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientDemands {
    /// Whose signatures count.
    pub(crate) roots: TrustAnchors,
    /// File with revoked certificates.
    pub(crate) crl: Option<Arc<str>>,
    /// `subjectAltNames`: one of these must be in it; none asks for nothing.
    pub(crate) names: Vec<Arc<str>>,
    /// `verifyCertificateSpki`: SHA-256 of its public key in base64.
    pub(crate) spki: Vec<Arc<str>>,
    /// `verifyCertificateHash`: SHA-256 of itself in hexadecimal, with colons or without. It is
    /// enough that one of both lists has it.
    pub(crate) hashes: Vec<Arc<str>>,
}

/// Everything for a handshake but the connection.
#[derive(Debug)]
pub(crate) struct PreparedServer(Arc<ServerConfig>);

impl Terminator {
    /// A terminator without any configuration yet; nothing is read here.
    pub fn new(sources: Sources) -> Self {
        Self::with_recheck(sources, RECHECK)
    }

    /// As [`Terminator::new`], with another time between two looks at a file.
    pub(super) fn with_recheck(sources: Sources, recheck: Duration) -> Self {
        Self { sources, configs: Cache::new(recheck, config::server) }
    }

    /// Gathers what a handshake needs.
    ///
    /// # Errors
    /// A file, a credential or the identity is missing or cannot be used.
    pub(crate) fn prepare(&self, tls: &ServerTls) -> Result<PreparedServer, TlsFailure> {
        let settings = self.settings(tls)?;
        self.configs.get(&settings).map(PreparedServer)
    }

    /// Answers a client's handshake before the deadline.
    ///
    /// # Errors
    /// Anything in [`TlsFailure`]; the connection is closed.
    pub(crate) async fn accept(
        &self,
        tls: &ServerTls,
        stream: Stream,
        deadline: Instant,
    ) -> Result<TlsStream, TlsFailure> {
        self.prepare(tls)?.handshake(stream, deadline).await
    }

    fn settings(&self, tls: &ServerTls) -> Result<ServerSettings, TlsFailure> {
        let mut files = FileNames::default();
        for identity in &tls.identities {
            files.pairs.push(self.sources.pair(identity)?);
        }
        let (demands, required) = match &tls.clients {
            Clients::Anyone => (None, false),
            Clients::Optional(demands) => (Some(demands), false),
            Clients::Required(demands) => (Some(demands), true),
        };
        let mut names = NameDemands::default();
        let mut pins = Pins::default();
        if let Some(demands) = demands {
            files.roots = Some(self.sources.roots(&demands.roots)?);
            files.crl = demands.crl.clone();
            names.one_of.clone_from(&demands.names);
            pins = Pins::new(&demands.spki, &demands.hashes);
        }
        let spoken = |version| (tls.min_version..=tls.max_version).contains(&version);
        Ok(ServerSettings {
            common: Settings {
                files,
                demands: names,
                alpn: tls.alpn.clone(),
                v1_2: spoken(TlsVersion::V1_2),
                v1_3: spoken(TlsVersion::V1_3),
            },
            required,
            pins,
            cipher_suites: tls.cipher_suites.clone(),
        })
    }
}

impl PreparedServer {
    /// Answers a client's handshake before the deadline. A client that is refused is told why by an
    /// alert.
    ///
    /// # Errors
    /// The client is not who it should be, or did not do its part; the connection is closed.
    pub(crate) async fn handshake(
        self,
        stream: Stream,
        deadline: Instant,
    ) -> Result<TlsStream, TlsFailure> {
        let acceptor = TlsAcceptor::from(self.0);
        let mut accepting = Box::pin(acceptor.accept(Wire::new(stream)).into_fallible());
        match timeout_at(deadline, accepting.as_mut()).await {
            Ok(Ok(stream)) => Ok(TlsStream::new(stream.into())),
            Ok(Err((error, wire))) => {
                wire.close();
                Err(TlsFailure::from_io(&error))
            }
            Err(_elapsed) => Err(TlsFailure::Timeout),
        }
    }
}
