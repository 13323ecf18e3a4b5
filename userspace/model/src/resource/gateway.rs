//! Gateway (semantics.md §6): which ports a node opens as an egress gateway.

use crate::Spanned;
use crate::decode::{names, object};
use crate::value::{Labels, NamespacedHost, Protocol};

object! {
    /// Servers opened by the nodes it selects.
    pub struct Gateway {
        /// At least one.
        servers: Vec<Spanned<Server>> = "servers",
        /// Labels of the nodes that open them; empty selects all.
        selector: Labels = "selector",
    }
}

object! {
    /// One port and the hosts it serves.
    pub struct Server {
        /// The port.
        port: Option<Spanned<ServerPort>> = "port" required,
        /// Address to listen on; empty: all.
        bind: Spanned<String> = "bind",
        /// `host` or `namespace/host`; at least one.
        hosts: Vec<Spanned<NamespacedHost>> = "hosts" required,
        /// TLS towards clients.
        tls: Option<Spanned<ServerTlsSettings>> = "tls",
        /// Known to the API, never implemented.
        default_endpoint: Spanned<String> = "defaultEndpoint",
        /// Name for logs, unique in the gateway.
        name: Spanned<String> = "name",
    }
}

object! {
    /// A port that is opened.
    pub struct ServerPort {
        /// 1 to 65535.
        number: Spanned<u16> = "number" required,
        /// What is spoken on it.
        protocol: Spanned<Protocol> = "protocol" required,
        /// Unique in the gateway.
        name: Spanned<String> = "name" required,
        /// Deprecated and ignored, as in Istio.
        target_port: Spanned<u16> = "targetPort",
    }
}

object! {
    /// TLS towards clients.
    pub struct ServerTlsSettings {
        /// Answer plain HTTP with a redirect.
        https_redirect: Spanned<bool> = "httpsRedirect",
        /// How.
        mode: Spanned<ServerTlsMode> = "mode",
        /// File with the certificate chain.
        server_certificate: Spanned<String> = "serverCertificate",
        /// File with the key.
        private_key: Spanned<String> = "privateKey",
        /// File with the CAs for client certificates.
        ca_certificates: Spanned<String> = "caCertificates",
        /// File with revocations.
        ca_crl: Spanned<String> = "caCrl",
        /// A secret by name.
        credential_name: Spanned<String> = "credentialName",
        /// Secrets by name, at most two.
        credential_names: Vec<Spanned<String>> = "credentialNames",
        /// A secret with only the CA.
        ca_cert_credential_name: Spanned<String> = "caCertCredentialName",
        /// Certificates by file, at most two.
        tls_certificates: Vec<Spanned<TlsCertificate>> = "tlsCertificates",
        /// Names expected in client certificates.
        subject_alt_names: Vec<Spanned<String>> = "subjectAltNames",
        /// Key fingerprints expected in client certificates.
        verify_certificate_spki: Vec<Spanned<String>> = "verifyCertificateSpki",
        /// Fingerprints expected of client certificates.
        verify_certificate_hash: Vec<Spanned<String>> = "verifyCertificateHash",
        /// Oldest version.
        min_protocol_version: Spanned<TlsProtocolVersion> = "minProtocolVersion",
        /// Newest version.
        max_protocol_version: Spanned<TlsProtocolVersion> = "maxProtocolVersion",
        /// Cipher suites by OpenSSL name.
        cipher_suites: Vec<Spanned<String>> = "cipherSuites",
    }
}

object! {
    /// A certificate by file.
    pub struct TlsCertificate {
        /// File with the certificate chain.
        server_certificate: Spanned<String> = "serverCertificate",
        /// File with the key.
        private_key: Spanned<String> = "privateKey",
        /// File with the CAs for client certificates.
        ca_certificates: Spanned<String> = "caCertificates",
    }
}

names! {
    /// How TLS is used towards clients.
    pub enum ServerTlsMode {
        /// Forward TLS by SNI, do not terminate it.
        #[default]
        Passthrough = "PASSTHROUGH",
        /// TLS.
        Simple = "SIMPLE",
        /// TLS with a client certificate.
        Mutual = "MUTUAL",
        /// Forward by the SNI of the mesh.
        AutoPassthrough = "AUTO_PASSTHROUGH",
        /// TLS with the mesh identity.
        IstioMutual = "ISTIO_MUTUAL",
        /// TLS with a client certificate if the client has one.
        OptionalMutual = "OPTIONAL_MUTUAL",
    }
}

names! {
    /// A version of TLS.
    pub enum TlsProtocolVersion {
        /// The best both know.
        #[default]
        TlsAuto = "TLS_AUTO",
        /// 1.0.
        TlsV1_0 = "TLSV1_0",
        /// 1.1.
        TlsV1_1 = "TLSV1_1",
        /// 1.2.
        TlsV1_2 = "TLSV1_2",
        /// 1.3.
        TlsV1_3 = "TLSV1_3",
    }
}
