//! `tls`, and mesh TLS without it (semantics.md §4, §1.1).

use std::sync::Arc;

use egressd_model::resource::{ClientTlsMode, ClientTlsSettings, MeshConfig};

use crate::cluster::{
    ClientIdentity, Sni, TlsMode, TlsOrigination, TlsVersion, TrustAnchors, UpstreamHttp,
    UpstreamTls, Verification,
};

/// What decides about TLS towards the endpoints of one cluster.
pub(crate) struct Inputs<'a> {
    pub(crate) settings: Option<&'a ClientTlsSettings>,
    pub(crate) mesh: &'a MeshConfig,
    /// The service's host.
    pub(crate) host: &'a str,
    /// Whether it is MESH_INTERNAL.
    pub(crate) inside: bool,
    pub(crate) port: u16,
    pub(crate) subset: &'a str,
    /// `subjectAltNames` of the ServiceEntries.
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) http: UpstreamHttp,
    /// Whether the endpoint is the address dialled: it announces nothing.
    pub(crate) original: bool,
}

/// Whether and how TLS is spoken.
pub(crate) fn build(inputs: &Inputs<'_>) -> UpstreamTls {
    let Some(settings) = inputs.settings else {
        let auto = inputs.mesh.enable_auto_mtls.as_deref().copied().unwrap_or(true);
        return if inputs.inside && auto && !inputs.original {
            UpstreamTls::Auto(Arc::new(inputs.of_mesh(&ClientTlsSettings::default())))
        } else {
            UpstreamTls::Plaintext
        };
    };
    let origination = match settings.mode.value {
        ClientTlsMode::Disable => return UpstreamTls::Plaintext,
        ClientTlsMode::IstioMutual => inputs.of_mesh(settings),
        ClientTlsMode::Simple => inputs.plain(settings, TlsMode::Simple, None),
        ClientTlsMode::Mutual => {
            let identity = match text(&settings.credential_name) {
                Some(name) => ClientIdentity::Credential(name),
                None => ClientIdentity::Files {
                    certificate: Arc::from(settings.client_certificate.as_str()),
                    key: Arc::from(settings.private_key.as_str()),
                },
            };
            inputs.plain(settings, TlsMode::Mutual, Some(identity))
        }
    };
    UpstreamTls::Originate(Arc::new(origination))
}

/// TLS towards hosts that no service has: `outboundTrafficPolicy.tls` of the mesh.
pub(crate) fn of_unknown(settings: Option<&ClientTlsSettings>) -> UpstreamTls {
    let Some(settings) = settings else { return UpstreamTls::Plaintext };
    let inputs = Inputs {
        settings: Some(settings),
        mesh: &MeshConfig::default(),
        host: "*",
        inside: false,
        port: 0,
        subset: "",
        names: Vec::new(),
        http: UpstreamHttp::AsDownstream,
        original: false,
    };
    build(&inputs)
}

impl Inputs<'_> {
    /// SIMPLE and MUTUAL.
    fn plain(
        &self,
        settings: &ClientTlsSettings,
        mode: TlsMode,
        identity: Option<ClientIdentity>,
    ) -> TlsOrigination {
        let sni = text(&settings.sni);
        let own_names = names(settings);
        let skip = settings.insecure_skip_verify.as_deref().copied().unwrap_or_default();
        let verification = if skip {
            Verification::Skip
        } else {
            Verification::Verify {
                roots: match (text(&settings.credential_name), text(&settings.ca_certificates)) {
                    (Some(credential), _) => TrustAnchors::Credential(credential),
                    (None, Some(file)) => TrustAnchors::File(file),
                    (None, None) => TrustAnchors::System,
                },
                match_sni: sni.is_none() && own_names.is_empty(),
                names: if own_names.is_empty() { self.names.clone() } else { own_names },
                crl: text(&settings.ca_crl),
            }
        };
        TlsOrigination {
            mode,
            sni: match sni {
                Some(name) => Sni::Fixed(name),
                None => Sni::RequestHost { service: Arc::from(self.host) },
            },
            verification,
            identity,
            alpn: if self.http == UpstreamHttp::Http2 { vec![Arc::from("h2")] } else { Vec::new() },
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
        }
    }

    /// ISTIO_MUTUAL.
    fn of_mesh(&self, settings: &ClientTlsSettings) -> TlsOrigination {
        let own_names = names(settings);
        let (port, subset, host) = (self.port, self.subset, self.host);
        let name = || Arc::from(format!("outbound_.{port}_.{subset}_.{host}"));
        let alpn = ["istio-peer-exchange", "istio", "h2"];
        let offered = if self.http == UpstreamHttp::Http2 { alpn.len() } else { alpn.len() - 1 };
        TlsOrigination {
            mode: TlsMode::IstioMutual,
            sni: Sni::Fixed(text(&settings.sni).unwrap_or_else(name)),
            verification: Verification::Verify {
                roots: TrustAnchors::Mesh,
                names: if own_names.is_empty() { self.names.clone() } else { own_names },
                match_sni: false,
                crl: None,
            },
            identity: Some(ClientIdentity::Mesh),
            alpn: alpn.into_iter().take(offered).map(Arc::from).collect(),
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
        }
    }
}

fn names(settings: &ClientTlsSettings) -> Vec<Arc<str>> {
    settings.subject_alt_names.iter().map(|name| Arc::from(name.as_str())).collect()
}

fn text(value: &str) -> Option<Arc<str>> {
    Some(value).filter(|value| !value.is_empty()).map(Arc::from)
}
