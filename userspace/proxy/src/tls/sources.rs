//! Which files stand behind the system's roots, the mesh's identity and named credentials.

use std::{
    path::{Component, Path, PathBuf},
    sync::{Arc, OnceLock},
};

use egressd_tables::{ClientIdentity, TrustAnchors};

use super::{failure::TlsFailure, settings::PairNames};

/// Where keys and certificates come from that resources name without a path. Default: nowhere, and
/// whatever needs them fails closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Who the node is in a mesh: `identity` of egressd.yaml.
    pub identity: Option<MeshIdentity>,
    /// A directory with a directory for each credential, of the credential's name, in which the
    /// files are called as in a Kubernetes secret: `tls.crt`, `tls.key`, `ca.crt`.
    pub credentials: Option<PathBuf>,
}

/// Who the node is in a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshIdentity {
    /// File with the certificate and its chain.
    pub certificate: Arc<str>,
    /// File with its key.
    pub key: Arc<str>,
    /// File with the mesh's roots.
    pub ca: Arc<str>,
    /// The mesh's name in SPIFFE identities. Default in egressd.yaml: `cluster.local`.
    pub trust_domain: Arc<str>,
}

impl MeshIdentity {
    /// The SPIFFE identity of a service account (semantics.md §1.3); an account that is written as
    /// a URI already is taken as it is.
    pub fn spiffe_id(&self, namespace: &str, account: &str) -> Arc<str> {
        if account.starts_with("spiffe://") {
            return account.into();
        }
        format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain).into()
    }
}

impl Sources {
    /// The file with the roots.
    pub(super) fn roots(&self, roots: &TrustAnchors) -> Result<Arc<str>, TlsFailure> {
        match roots {
            TrustAnchors::System => system_roots(),
            TrustAnchors::File(path) => Ok(Arc::clone(path)),
            TrustAnchors::Credential(name) => self.credential(name, "ca.crt"),
            TrustAnchors::Mesh => Ok(Arc::clone(&self.mesh()?.ca)),
        }
    }

    /// The files with the certificate we show, and its key.
    pub(super) fn pair(&self, identity: &ClientIdentity) -> Result<PairNames, TlsFailure> {
        Ok(match identity {
            ClientIdentity::Files { certificate, key } => {
                PairNames { certificate: Arc::clone(certificate), key: Arc::clone(key) }
            }
            ClientIdentity::Credential(name) => PairNames {
                certificate: self.credential(name, "tls.crt")?,
                key: self.credential(name, "tls.key")?,
            },
            ClientIdentity::Mesh => {
                let MeshIdentity { certificate, key, .. } = self.mesh()?;
                PairNames { certificate: Arc::clone(certificate), key: Arc::clone(key) }
            }
        })
    }

    fn mesh(&self) -> Result<&MeshIdentity, TlsFailure> {
        self.identity.as_ref().ok_or(TlsFailure::NoIdentity)
    }

    fn credential(&self, name: &Arc<str>, file: &str) -> Result<Arc<str>, TlsFailure> {
        let unknown = || TlsFailure::UnknownCredential(Arc::clone(name));
        let directory = self.credentials.as_ref().ok_or_else(unknown)?;
        // A name, not a path that leads elsewhere.
        let mut parts = Path::new(&**name).components();
        let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
            return Err(unknown());
        };
        let path = directory.join(&**name).join(file);
        path.to_str().map(Arc::from).ok_or_else(unknown)
    }
}

/// The file in which the system keeps its roots, `SSL_CERT_FILE` first. Its place is looked for until
/// it is found, and then kept: a distribution does not move it.
fn system_roots() -> Result<Arc<str>, TlsFailure> {
    static FOUND: OnceLock<Arc<str>> = OnceLock::new();
    if let Some(path) = FOUND.get() {
        return Ok(Arc::clone(path));
    }
    let path = openssl_probe::probe().cert_file.ok_or(TlsFailure::NoSystemRoots)?;
    let path = path.to_str().ok_or(TlsFailure::NoSystemRoots)?;
    Ok(Arc::clone(FOUND.get_or_init(|| path.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_identities() {
        let mesh = MeshIdentity {
            certificate: "c".into(),
            key: "k".into(),
            ca: "a".into(),
            trust_domain: "td".into(),
        };
        assert_eq!(&*mesh.spiffe_id("ns1", "details"), "spiffe://td/ns/ns1/sa/details");
        assert_eq!(&*mesh.spiffe_id("ns1", "spiffe://x/y"), "spiffe://x/y");
    }

    #[test]
    fn a_credential_is_a_name() {
        let sources = Sources { identity: None, credentials: Some("/creds".into()) };
        let path = |name: &str| sources.credential(&name.into(), "tls.crt");
        assert_eq!(path("a").unwrap(), "/creds/a/tls.crt".into());
        for name in ["", "..", "../a", "/a", "a/b", "."] {
            assert_eq!(path(name), Err(TlsFailure::UnknownCredential(name.into())), "{name}");
        }
        let nowhere = Sources::default();
        let name = Arc::from("a");
        assert_eq!(
            nowhere.credential(&name, "tls.crt"),
            Err(TlsFailure::UnknownCredential(Arc::clone(&name)))
        );
        assert_eq!(nowhere.roots(&TrustAnchors::Mesh), Err(TlsFailure::NoIdentity));
    }
}
