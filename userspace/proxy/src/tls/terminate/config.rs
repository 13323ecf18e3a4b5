//! From settings and the content of their files to rustls's configuration of a server.

use std::sync::Arc;

use rustls::{
    ServerConfig, SupportedCipherSuite,
    crypto::{CryptoProvider, ring::cipher_suite},
    server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
};

use super::{pins::Pins, verify::ClientVerifier};
use crate::tls::{
    cache::Recipe,
    config::versions,
    failure::TlsFailure,
    held::Materials,
    material::provider,
    names::Expected,
    settings::{FileNames, Settings},
    verify::Trust,
};

/// Everything a server's configuration is made from, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ServerSettings {
    /// What a client's configuration has too. With roots, clients are asked for certificates.
    pub(super) common: Settings,
    /// A client without a certificate is refused.
    pub(super) required: bool,
    /// Which certificates and keys are good.
    pub(super) pins: Pins,
    /// The suites of TLS 1.2 by OpenSSL's names.
    pub(super) cipher_suites: Vec<Arc<str>>,
}

impl Recipe for ServerSettings {
    fn files(&self) -> &FileNames {
        &self.common.files
    }
}

/// The server's side of a connection.
pub(super) fn server(
    settings: &ServerSettings,
    materials: Materials,
) -> Result<ServerConfig, TlsFailure> {
    let versions = versions(&settings.common)?;
    let builder = ServerConfig::builder_with_provider(speaking(&settings.cipher_suites))
        .with_protocol_versions(&versions)
        .map_err(|error| {
            tracing::debug!(%error, "suites and versions leave nothing");
            TlsFailure::Settings("no_usable_cipher_suite".into())
        })?;
    let builder = match materials.roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let trust = Trust {
                roots,
                crls: materials.crls,
                names: Expected::new(&settings.common.demands.one_of),
            };
            let verifier = ClientVerifier::new(trust, settings.pins.clone(), settings.required);
            builder.with_client_cert_verifier(Arc::new(verifier))
        }
    };
    if materials.identities.is_empty() {
        return Err(TlsFailure::Settings("no_certificate_to_show".into()));
    }
    let mut config = builder.with_cert_resolver(Arc::new(FirstReadable(materials.identities)));
    let alpn = settings.common.alpn.iter();
    config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).collect();
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(config)
}

/// Shows the first certificate whose key makes signatures that the client can check.
#[derive(Debug)]
struct FirstReadable(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for FirstReadable {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let readable = |identity: &&Arc<CertifiedKey>| {
            identity.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        self.0.iter().find(readable).cloned()
    }
}

/// The provider, with these suites of TLS 1.2 only. Those of TLS 1.3 are not a matter of choice,
/// neither here nor in Envoy.
fn speaking(suites: &[Arc<str>]) -> Arc<CryptoProvider> {
    if suites.is_empty() {
        return provider();
    }
    let mut chosen: Vec<SupportedCipherSuite> =
        suites.iter().filter_map(|name| suite(name)).collect();
    let mut restricted = (*provider()).clone();
    chosen.extend(restricted.cipher_suites.iter().filter(|suite| suite.tls13().is_some()));
    restricted.cipher_suites = chosen;
    Arc::new(restricted)
}

/// A suite of TLS 1.2 by OpenSSL's name; those without forward secrecy or without an AEAD are not
/// spoken.
fn suite(name: &str) -> Option<SupportedCipherSuite> {
    Some(match name {
        "ECDHE-ECDSA-AES256-GCM-SHA384" => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES128-GCM-SHA256" => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "ECDHE-RSA-AES256-GCM-SHA384" => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES128-GCM-SHA256" => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305" => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => {
            tracing::debug!(name, "a cipher suite is not spoken here");
            return None;
        }
    })
}

/// Sessions of clients kept for one configuration, so that they can be taken up again.
const SESSIONS: usize = 1024;
