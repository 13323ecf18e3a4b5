//! From `tls` of a Gateway's server to what a handshake needs.

use std::sync::Arc;

use egressd_tables::{
    ClientIdentity, ServerTlsMode, ServerTlsSettings, TlsProtocolVersion, TlsVersion, TrustAnchors,
};

use super::{ClientDemands, Clients, ServerTls};

impl ServerTls {
    /// TLS with requests in it: HTTP/2 or HTTP/1.1, as the client likes.
    pub(crate) fn for_requests(tls: &ServerTlsSettings) -> Self {
        Self::new(tls, &["h2", "http/1.1"])
    }

    /// TLS with bytes in it that nobody here reads.
    pub(crate) fn for_bytes(tls: &ServerTlsSettings) -> Self {
        Self::new(tls, &[])
    }

    fn new(tls: &ServerTlsSettings, alpn: &[&str]) -> Self {
        let (min_version, max_version) = versions(tls);
        Self {
            identities: identities(tls),
            clients: clients(tls),
            alpn: alpn.iter().map(|name| Arc::from(*name)).collect(),
            min_version,
            max_version,
            cipher_suites: texts(&tls.cipher_suites),
        }
    }
}

/// Files are named in three ways, credentials in two; a resource that names several is rejected.
fn identities(tls: &ServerTlsSettings) -> Vec<ClientIdentity> {
    if tls.mode.value == ServerTlsMode::IstioMutual {
        return vec![ClientIdentity::Mesh];
    }
    let credentials = tls.credential_names.iter().chain([&tls.credential_name]);
    let credentials = credentials.filter(|name| !name.is_empty());
    let mut all: Vec<_> =
        credentials.map(|name| ClientIdentity::Credential(name.as_str().into())).collect();
    let files = |certificate: &str, key: &str| ClientIdentity::Files {
        certificate: certificate.into(),
        key: key.into(),
    };
    all.extend(tls.tls_certificates.iter().map(|one| {
        let (certificate, key) = (&one.server_certificate, &one.private_key);
        files(certificate, key)
    }));
    if !tls.server_certificate.is_empty() {
        all.push(files(&tls.server_certificate, &tls.private_key));
    }
    all
}

fn clients(tls: &ServerTlsSettings) -> Clients {
    let demands = || ClientDemands {
        roots: roots(tls),
        crl: (!tls.ca_crl.is_empty()).then(|| tls.ca_crl.as_str().into()),
        names: texts(&tls.subject_alt_names),
        spki: texts(&tls.verify_certificate_spki),
        hashes: texts(&tls.verify_certificate_hash),
    };
    match tls.mode.value {
        // Those that pass TLS on are never asked.
        ServerTlsMode::Simple | ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            Clients::Anyone
        }
        ServerTlsMode::OptionalMutual => Clients::Optional(demands()),
        ServerTlsMode::Mutual | ServerTlsMode::IstioMutual => Clients::Required(demands()),
    }
}

/// Whose signatures count on clients' certificates.
fn roots(tls: &ServerTlsSettings) -> TrustAnchors {
    if tls.mode.value == ServerTlsMode::IstioMutual {
        return TrustAnchors::Mesh;
    }
    let of_pair = tls.tls_certificates.iter().map(|one| &one.ca_certificates);
    let mut files = [&tls.ca_certificates].into_iter().chain(of_pair);
    if let Some(file) = files.find(|path| !path.is_empty()) {
        return TrustAnchors::File(file.as_str().into());
    }
    let named = [&tls.ca_cert_credential_name, &tls.credential_name];
    let mut named = named.into_iter().chain(&tls.credential_names);
    let name = named.find(|name| !name.is_empty()).map_or("", |name| name.as_str());
    // An empty name is no credential, so that nobody gets in.
    TrustAnchors::Credential(name.into())
}

/// Versions below 1.2 are not spoken: a server that allows nothing better speaks to nobody.
fn versions(tls: &ServerTlsSettings) -> (TlsVersion, TlsVersion) {
    let lowest = match tls.min_protocol_version.value {
        TlsProtocolVersion::TlsV1_3 => TlsVersion::V1_3,
        TlsProtocolVersion::TlsAuto
        | TlsProtocolVersion::TlsV1_0
        | TlsProtocolVersion::TlsV1_1
        | TlsProtocolVersion::TlsV1_2 => TlsVersion::V1_2,
    };
    match tls.max_protocol_version.value {
        TlsProtocolVersion::TlsAuto | TlsProtocolVersion::TlsV1_3 => (lowest, TlsVersion::V1_3),
        TlsProtocolVersion::TlsV1_2 => (lowest, TlsVersion::V1_2),
        TlsProtocolVersion::TlsV1_0 | TlsProtocolVersion::TlsV1_1 => {
            (TlsVersion::V1_3, TlsVersion::V1_2)
        }
    }
}

fn texts(list: &[impl std::ops::Deref<Target = String>]) -> Vec<Arc<str>> {
    list.iter().map(|text| Arc::from(text.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(mode: ServerTlsMode, change: impl Fn(&mut ServerTlsSettings)) -> ServerTls {
        let mut settings = ServerTlsSettings::default();
        settings.mode.value = mode;
        change(&mut settings);
        ServerTls::for_bytes(&settings)
    }

    #[test]
    fn mesh_servers_show_and_ask_for_identities_of_the_mesh() {
        let tls = server(ServerTlsMode::IstioMutual, |_| {});
        assert_eq!(tls.identities, [ClientIdentity::Mesh]);
        let Clients::Required(demands) = tls.clients else { panic!("{:?}", tls.clients) };
        assert_eq!(demands.roots, TrustAnchors::Mesh);
    }

    #[test]
    fn credentials_and_files_are_found_however_they_are_named() {
        let one = server(ServerTlsMode::Mutual, |tls| tls.credential_name.value = "web".into());
        assert_eq!(one.identities, [ClientIdentity::Credential("web".into())]);
        let Clients::Required(demands) = one.clients else { panic!("{:?}", one.clients) };
        assert_eq!(demands.roots, TrustAnchors::Credential("web".into()));
        let files = server(ServerTlsMode::Simple, |tls| {
            tls.server_certificate.value = "c".into();
            tls.private_key.value = "k".into();
        });
        let expected = ClientIdentity::Files { certificate: "c".into(), key: "k".into() };
        assert_eq!((files.identities, files.clients), (vec![expected], Clients::Anyone));
        let nobody = server(ServerTlsMode::Mutual, |_| {});
        let Clients::Required(demands) = nobody.clients else { panic!("{:?}", nobody.clients) };
        assert_eq!(demands.roots, TrustAnchors::Credential("".into()));
    }

    #[test]
    fn old_versions_are_not_spoken() {
        let versions = |min, max| {
            let tls = server(ServerTlsMode::Simple, |tls| {
                tls.min_protocol_version.value = min;
                tls.max_protocol_version.value = max;
            });
            (tls.min_version, tls.max_version)
        };
        use TlsProtocolVersion::{TlsAuto, TlsV1_0, TlsV1_1, TlsV1_2, TlsV1_3};
        assert_eq!(versions(TlsAuto, TlsAuto), (TlsVersion::V1_2, TlsVersion::V1_3));
        assert_eq!(versions(TlsV1_0, TlsV1_2), (TlsVersion::V1_2, TlsVersion::V1_2));
        assert_eq!(versions(TlsV1_3, TlsV1_3), (TlsVersion::V1_3, TlsVersion::V1_3));
        let (lowest, highest) = versions(TlsV1_0, TlsV1_1);
        assert!(lowest > highest);
    }
}
