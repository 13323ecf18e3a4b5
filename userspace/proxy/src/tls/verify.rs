//! Whether a peer's certificate is good enough.
//!
//! rustls's own verifier always demands that the certificate be for the name in the ClientHello.
//! Istio does not: that name counts only where neither `sni` nor `subjectAltNames` is written, the
//! list of names counts whenever there is one, and a raw TCP service has no name at all. So the
//! path is built by webpki, which is what rustls's verifier does too, with the same algorithms,
//! the same rules for purpose and dates, and what is required of names is decided here.
//!
//! Where it is stricter than rustls's default: with a list of revoked certificates, every certificate
//! on the path must be covered by a list, and the list must be in date. That is what Envoy does
//! with `caCrl`.
//!
//! Where it is more lenient: a server whose own certificate is, byte for byte, in the file of roots
//! is trusted, though webpki refuses to take a CA's certificate for a server's. `openssl req -x509`
//! makes such certificates, and people put them in `caCertificates`.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::{
    EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};

use super::{
    classify::{NameMismatch, of_path},
    material::{Crls, Roots, provider},
    names::Expected,
};

/// Verifies servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) demands: Demands,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What is demanded of a peer.
#[derive(Debug)]
pub(super) enum Demands {
    /// Nothing: `insecureSkipVerify`.
    Nothing,
    /// A path to a root, and names.
    Path {
        /// The path.
        trust: Trust,
        /// The certificate must be for the name of the handshake.
        match_server_name: bool,
    },
}

/// Whom we believe, and what names we want.
#[derive(Debug)]
pub(super) struct Trust {
    /// Whose signatures count.
    pub(super) roots: Arc<Roots>,
    /// What is revoked; `None`: nobody looks.
    pub(super) crls: Option<Arc<Crls>>,
    /// Names of which one must be in the certificate.
    pub(super) names: Expected,
}

impl Trust {
    /// Checks path, dates, purpose, revocation and the list of names.
    pub(super) fn check<'a>(
        &self,
        certificate: &'a CertificateDer<'a>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<EndEntityCert<'a>, Error> {
        let parsed = EndEntityCert::try_from(certificate).map_err(of_path)?;
        match self.check_path(&parsed, intermediates, now, usage) {
            Ok(()) => {}
            // Dates are looked at before this is found, so an expired one never comes here.
            Err(webpki::Error::CaUsedAsEndEntity)
                if self.crls.is_none() && self.roots.certificates.contains(certificate) => {}
            Err(error) => return Err(of_path(error)),
        }
        if !self.names.match_one(&parsed) {
            tracing::debug!(
                dns = ?parsed.valid_dns_names().collect::<Vec<_>>(),
                uri = ?parsed.valid_uri_names().collect::<Vec<_>>(),
                wanted = %self.names.list(),
                "a certificate has none of the wanted names"
            );
            return Err(NameMismatch { wanted: self.names.list() }.into_error());
        }
        Ok(parsed)
    }

    fn check_path(
        &self,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), webpki::Error> {
        let lists: Vec<_> = self.crls.iter().flat_map(|crls| &crls.0).collect();
        let revocation = match &self.crls {
            None => None,
            Some(_) => Some(
                RevocationOptionsBuilder::new(&lists)
                    // A file without a list is refused when it is read.
                    .map_err(|_empty| webpki::Error::UnknownRevocationStatus)?
                    .with_depth(RevocationCheckDepth::Chain)
                    .with_status_policy(UnknownStatusPolicy::Deny)
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build(),
            ),
        };
        let algorithms = provider().signature_verification_algorithms.all;
        let anchors = &self.roots.anchors.roots;
        certificate
            .verify_for_usage(algorithms, anchors, intermediates, now, usage, revocation, None)
            .map(drop)
    }
}

impl ServerVerifier {
    /// A verifier.
    pub(super) fn new(demands: Demands) -> Self {
        Self { demands, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.demands {
            Demands::Nothing => {}
            Demands::Path { trust, match_server_name } => {
                let parsed =
                    trust.check(end_entity, intermediates, now, KeyUsage::server_auth())?;
                if *match_server_name
                    && parsed.verify_is_valid_for_subject_name(server_name).is_err()
                {
                    let wanted = server_name.to_str().into_owned();
                    return Err(NameMismatch { wanted }.into_error());
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.demands {
            // Whoever asks for nothing gets through with any key, also in a certificate that webpki
            // cannot read.
            Demands::Nothing => Ok(HandshakeSignatureValid::assertion()),
            Demands::Path { .. } => {
                verify_tls12_signature(message, certificate, signature, &self.algorithms)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.demands {
            Demands::Nothing => Ok(HandshakeSignatureValid::assertion()),
            Demands::Path { .. } => {
                verify_tls13_signature(message, certificate, signature, &self.algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
