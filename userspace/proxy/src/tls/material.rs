//! What is in the files: certificates, keys, roots, lists of revoked certificates; all PEM.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::SigningKey,
};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::failure::{FileFault, Role};

/// Something that is read from a file.
pub(super) trait Material: Sized {
    /// What the file is for.
    const ROLE: Role;

    /// Reads the content of a file.
    ///
    /// # Errors
    /// The content is not what it should be.
    fn parse(bytes: &[u8]) -> Result<Self, FileFault>;
}

/// A certificate and those of its issuers, its own first.
#[derive(Debug)]
pub(super) struct Chain(pub(super) Vec<CertificateDer<'static>>);

/// A private key.
#[derive(Debug)]
pub(super) struct Key(pub(super) Arc<dyn SigningKey>);

/// Certificates whose signatures count.
#[derive(Debug)]
pub(super) struct Roots {
    /// They as issuers.
    pub(super) anchors: RootCertStore,
    /// They as they are in the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// Lists of revoked certificates.
pub(super) struct Crls(pub(super) Vec<CertRevocationList<'static>>);

impl Material for Chain {
    const ROLE: Role = Role::Certificate;

    fn parse(bytes: &[u8]) -> Result<Self, FileFault> {
        Ok(Self(sections(bytes)?))
    }
}

impl Material for Key {
    const ROLE: Role = Role::Key;

    fn parse(bytes: &[u8]) -> Result<Self, FileFault> {
        let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
            if matches!(error, pem::Error::NoItemsFound) {
                FileFault::Empty
            } else {
                malformed(error)
            }
        })?;
        provider().key_provider.load_private_key(key).map(Self).map_err(malformed)
    }
}

impl Material for Roots {
    const ROLE: Role = Role::Roots;

    /// A certificate that cannot be a root is left out, as long as another one can.
    fn parse(bytes: &[u8]) -> Result<Self, FileFault> {
        let certificates: Vec<CertificateDer<'static>> = sections(bytes)?;
        let mut anchors = RootCertStore::empty();
        let mut fault = FileFault::Empty;
        for certificate in &certificates {
            if let Err(error) = anchors.add(certificate.clone()) {
                tracing::debug!(%error, "a certificate cannot be a root");
                fault = malformed(error);
            }
        }
        if anchors.is_empty() { Err(fault) } else { Ok(Self { anchors, certificates }) }
    }
}

impl Material for Crls {
    const ROLE: Role = Role::RevocationList;

    fn parse(bytes: &[u8]) -> Result<Self, FileFault> {
        let lists: Vec<CertificateRevocationListDer<'static>> = sections(bytes)?;
        let lists = lists.iter().map(|list| OwnedCertRevocationList::from_der(list));
        let lists = lists.map(|list| list.map(CertRevocationList::from).map_err(malformed));
        Ok(Self(lists.collect::<Result<_, _>>()?))
    }
}

impl fmt::Debug for Crls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crls({})", self.0.len())
    }
}

/// The one provider of cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    use std::sync::LazyLock;
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&PROVIDER)
}

/// All sections of one kind; there is at least one.
fn sections<T: PemObject>(bytes: &[u8]) -> Result<Vec<T>, FileFault> {
    let all = T::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    if all.is_empty() { Err(FileFault::Empty) } else { Ok(all) }
}

fn malformed(error: impl fmt::Display) -> FileFault {
    FileFault::Malformed(error.to_string().into())
}
