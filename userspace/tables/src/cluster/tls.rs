//! TLS towards endpoints (semantics.md §4, tls).
//!
//! What is written here is what must happen. A connection for which it cannot be done (a missing
//! file, an unknown credential, no identity) fails with a reason; it never falls back to plaintext.

use std::sync::Arc;

/// Whether TLS is spoken to endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Bytes go out as they are; an application's own TLS passes through.
    Plaintext,
    /// TLS to every endpoint.
    Originate(Arc<TlsOrigination>),
    /// Mesh TLS to the endpoints that speak it ([`crate::Endpoint::mesh_tls`]), plaintext to the
    /// others: MESH_INTERNAL services without a `tls` block. Without an identity of our own,
    /// plaintext to all (semantics.md §1.1).
    Auto(Arc<TlsOrigination>),
}

/// How TLS is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOrigination {
    /// `SIMPLE`, `MUTUAL` or `ISTIO_MUTUAL`.
    pub mode: TlsMode,
    /// The name in the ClientHello.
    pub sni: Sni,
    /// What is demanded of the peer's certificate.
    pub verification: Verification,
    /// The certificate we show; always there for MUTUAL and ISTIO_MUTUAL.
    pub identity: Option<ClientIdentity>,
    /// Application protocols offered. `h2` alone for an HTTP/2 cluster, Istio's own for mesh TLS.
    pub alpn: Vec<Arc<str>>,
    /// Lowest version spoken. Default 1.2.
    pub min_version: TlsVersion,
    /// Highest version spoken. Default 1.3.
    pub max_version: TlsVersion,
}

/// `tls.mode`, without DISABLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// The server shows a certificate.
    Simple,
    /// Both sides do, ours from files or a credential.
    Mutual,
    /// Both sides do, with the mesh's identities.
    IstioMutual,
}

/// The name in the ClientHello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sni {
    /// As the DestinationRule says, or `outbound_.PORT_.SUBSET_.HOST` for ISTIO_MUTUAL.
    Fixed(Arc<str>),
    /// The Host of the request, without its port; for opaque bytes the service's own host, which is
    /// given here, unless it is a wildcard.
    RequestHost {
        /// The service's host.
        service: Arc<str>,
    },
}

/// What is demanded of the peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// Nothing: `insecureSkipVerify`.
    Skip,
    /// A chain to a trusted root, and a name.
    Verify {
        /// Whose signatures count.
        roots: TrustAnchors,
        /// Names of which one must be in the certificate; empty asks for none of them.
        names: Vec<Arc<str>>,
        /// The certificate must also match the name in the ClientHello: neither the DestinationRule's
        /// `sni` nor its `subjectAltNames` are set.
        match_sni: bool,
        /// File with revoked certificates.
        crl: Option<Arc<str>>,
    },
}

/// Whose signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustAnchors {
    /// The system's roots.
    System,
    /// The certificates in a file.
    File(Arc<str>),
    /// The CA of a named credential.
    Credential(Arc<str>),
    /// The mesh's CA.
    Mesh,
}

/// The certificate we show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIdentity {
    /// From files.
    Files {
        /// The certificate chain.
        certificate: Arc<str>,
        /// The private key.
        key: Arc<str>,
    },
    /// Of a named credential.
    Credential(Arc<str>),
    /// The node's own, `identity:` in egressd.yaml.
    Mesh,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}
