//! What distinguishes one TLS configuration from another. Clusters with equal settings share one,
//! with its sessions.

use std::sync::Arc;

use egressd_tables::{TlsMode, TlsOrigination, TlsVersion, Verification};

use super::{cache::Recipe, failure::TlsFailure, server_name::Speaks, sources::Sources};

/// Everything a configuration is made from, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Settings {
    /// The files.
    pub(super) files: FileNames,
    /// What is demanded of the peer's names.
    pub(super) demands: NameDemands,
    /// The application protocols, the best first.
    pub(super) alpn: Vec<Arc<str>>,
    /// TLS 1.2 is spoken.
    pub(super) v1_2: bool,
    /// TLS 1.3 is spoken.
    pub(super) v1_3: bool,
}

/// The files behind a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FileNames {
    /// Certificates we show, and their keys.
    pub(super) pairs: Vec<PairNames>,
    /// Whose signatures count; `None`: nobody is asked for any.
    pub(super) roots: Option<Arc<str>>,
    /// What is revoked.
    pub(super) crl: Option<Arc<str>>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PairNames {
    /// File with the certificate and its chain.
    pub(super) certificate: Arc<str>,
    /// File with the key.
    pub(super) key: Arc<str>,
}

/// What is demanded of the peer's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct NameDemands {
    /// One of these must be in the certificate; none asks for nothing.
    pub(super) one_of: Vec<Arc<str>>,
    /// The name of the handshake must be in it.
    pub(super) server_name: bool,
}

impl Settings {
    /// The settings of one handshake. `named`: the handshake has a name to compare with. `peer`: a
    /// name that is as good as those the origination lists, that of the endpoint under mesh TLS.
    ///
    /// # Errors
    /// An identity or a credential is not there.
    pub(super) fn new(
        origination: &TlsOrigination,
        speaks: Speaks<'_>,
        named: bool,
        peer: Option<&Arc<str>>,
        sources: &Sources,
    ) -> Result<Self, TlsFailure> {
        let mut files = FileNames::default();
        let mut demands = NameDemands::default();
        if let Verification::Verify { roots, names, match_sni, crl } = &origination.verification {
            files.roots = Some(sources.roots(roots)?);
            files.crl = crl.clone();
            demands.server_name = *match_sni && named;
            demands.one_of.clone_from(names);
            if origination.mode == TlsMode::IstioMutual {
                demands.one_of.extend(peer.filter(|peer| !names.contains(peer)).cloned());
            }
        }
        if let Some(identity) = &origination.identity {
            files.pairs.push(sources.pair(identity)?);
        }
        let spoken =
            |version| (origination.min_version..=origination.max_version).contains(&version);
        Ok(Self {
            files,
            demands,
            alpn: alpn(origination, speaks),
            v1_2: spoken(TlsVersion::V1_2),
            v1_3: spoken(TlsVersion::V1_3),
        })
    }
}

impl Recipe for Settings {
    fn files(&self) -> &FileNames {
        &self.files
    }
}

/// The application protocols offered.
///
/// Opaque bytes offer none, requests the version they are written in. Mesh TLS puts Istio's own
/// before that: its sidecars tell mesh traffic by them, and anything else at the other end takes the
/// plain one.
fn alpn(origination: &TlsOrigination, speaks: Speaks<'_>) -> Vec<Arc<str>> {
    let own = match speaks {
        Speaks::Opaque => None,
        Speaks::Http1 { .. } => Some(HTTP_1),
        Speaks::Http2 { .. } => Some(HTTP_2),
    };
    let mut offered: Vec<Arc<str>> = match origination.mode {
        TlsMode::IstioMutual => {
            let plain = |name: &&Arc<str>| matches!(&***name, HTTP_1 | HTTP_2);
            origination.alpn.iter().filter(|name| !plain(name)).cloned().collect()
        }
        TlsMode::Simple | TlsMode::Mutual => Vec::new(),
    };
    offered.extend(own.map(Arc::from));
    offered
}

const HTTP_1: &str = "http/1.1";
const HTTP_2: &str = "h2";

#[cfg(test)]
mod tests {
    use egressd_tables::{ClientIdentity, Sni, TrustAnchors};

    use super::*;
    use crate::tls::sources::MeshIdentity;

    fn origination(mode: TlsMode, names: &[&str]) -> TlsOrigination {
        TlsOrigination {
            mode,
            sni: Sni::RequestHost { service: "svc".into() },
            verification: Verification::Verify {
                roots: match mode {
                    TlsMode::IstioMutual => TrustAnchors::Mesh,
                    TlsMode::Simple | TlsMode::Mutual => TrustAnchors::File("ca".into()),
                },
                names: names.iter().map(|name| Arc::from(*name)).collect(),
                match_sni: names.is_empty(),
                crl: None,
            },
            identity: (mode == TlsMode::IstioMutual).then_some(ClientIdentity::Mesh),
            alpn: ["istio-peer-exchange", "istio", "h2"].map(Arc::from).to_vec(),
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
        }
    }

    fn sources() -> Sources {
        let identity = MeshIdentity {
            certificate: "c".into(),
            key: "k".into(),
            ca: "a".into(),
            trust_domain: "td".into(),
        };
        Sources { identity: Some(identity), credentials: None }
    }

    #[test]
    fn protocols_follow_what_is_spoken() {
        let offered = |mode, speaks| {
            let alpn = alpn(&origination(mode, &[]), speaks);
            alpn.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
        };
        let (http1, http2) = (Speaks::Http1 { host: "a" }, Speaks::Http2 { host: "a" });
        assert_eq!(offered(TlsMode::Simple, Speaks::Opaque), "");
        assert_eq!(offered(TlsMode::Simple, http1), "http/1.1");
        assert_eq!(offered(TlsMode::Mutual, http2), "h2");
        assert_eq!(offered(TlsMode::IstioMutual, Speaks::Opaque), "istio-peer-exchange istio");
        assert_eq!(offered(TlsMode::IstioMutual, http1), "istio-peer-exchange istio http/1.1");
        assert_eq!(offered(TlsMode::IstioMutual, http2), "istio-peer-exchange istio h2");
    }

    #[test]
    fn an_endpoints_identity_is_one_more_name_under_mesh_tls() {
        let peer: Arc<str> = "spiffe://td/ns/a/sa/b".into();
        let demands = |mode, names: &[&str]| {
            let origination = origination(mode, names);
            let settings =
                Settings::new(&origination, Speaks::Opaque, false, Some(&peer), &sources());
            settings.unwrap().demands.one_of
        };
        assert_eq!(demands(TlsMode::Simple, &[]), Vec::<Arc<str>>::new());
        assert_eq!(demands(TlsMode::IstioMutual, &[]), vec![Arc::clone(&peer)]);
        assert_eq!(demands(TlsMode::IstioMutual, &["x"]), vec![Arc::from("x"), Arc::clone(&peer)]);
    }

    #[test]
    fn a_name_is_compared_only_if_there_is_one() {
        let simple = origination(TlsMode::Simple, &[]);
        let compared = |named| {
            let settings = Settings::new(&simple, Speaks::Opaque, named, None, &sources());
            settings.unwrap().demands.server_name
        };
        assert!(compared(true));
        assert!(!compared(false));
    }
}
