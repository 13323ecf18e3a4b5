//! From settings and the content of their files to rustls's configuration of a client.

use std::sync::Arc;

use rustls::{
    ClientConfig, SupportedProtocolVersion,
    client::Resumption,
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use super::{
    classify::of_tls,
    failure::TlsFailure,
    held::Materials,
    material::provider,
    names::Expected,
    settings::Settings,
    verify::{Demands, ServerVerifier, Trust},
};

/// The client's side of a connection. It holds its sessions: those made with other files, or with
/// other demands on the peer, are not found again.
pub(super) fn client(
    settings: &Settings,
    materials: Materials,
) -> Result<ClientConfig, TlsFailure> {
    let demands = match materials.roots {
        None => Demands::Nothing,
        Some(roots) => Demands::Path {
            trust: Trust {
                roots,
                crls: materials.crls,
                names: Expected::new(&settings.demands.one_of),
            },
            match_server_name: settings.demands.server_name,
        },
    };
    let versions = versions(settings)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&versions)
        .map_err(|error| of_tls(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(demands)));
    let mut identities = materials.identities.into_iter();
    let mut config = match identities.next() {
        None => builder.with_no_client_auth(),
        // Shown whatever issuers the server names: it is the one there is.
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
    };
    config.alpn_protocols = settings.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// The versions of TLS that are spoken; at least one.
pub(super) fn versions(
    settings: &Settings,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsFailure> {
    let v1_3 = settings.v1_3.then_some(&TLS13);
    let v1_2 = settings.v1_2.then_some(&TLS12);
    let versions: Vec<_> = v1_3.into_iter().chain(v1_2).collect();
    if versions.is_empty() {
        return Err(TlsFailure::Settings("no_version_of_TLS".into()));
    }
    Ok(versions)
}

/// Sessions kept for one configuration, eight for each name: enough for the names behind a wildcard,
/// and below 1 MiB where peers send long chains.
const SESSIONS: usize = 256;
