//! The trust that DNS over TLS rests on.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// A configuration that trusts the system's certificate authorities.
///
/// Reads files, so it is made when the first TLS upstream is, and kept.
pub(crate) fn client_config() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a file of certificate authorities cannot be read");
    }
    let (_added, _unusable) = roots.add_parsable_certificates(found.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
