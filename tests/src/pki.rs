//! Certificates, made for the occasion.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// A certificate authority; its files go with it.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
    serial: u64,
}

/// Every certificate has a number of its own, whoever issues it.
static SERIAL: AtomicU64 = AtomicU64::new(1);

impl Authority {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "making keys is no default")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let number = SERIAL.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name = common_name(&format!("test authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = TempDir::with_prefix("egressd-pki-").expect("a temporary folder");
        let authority = Self { folder, issuer };
        authority.write("ca.crt", &authority.issuer.pem());
        authority
    }

    /// The file that trusts what this authority issues.
    pub fn roots(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// Issues a certificate for names such as `DNS:a.example` or `URI:spiffe://…`, with commas
    /// between them; `name` tells its files from others, and is its common name.
    #[track_caller]
    pub fn issue(&self, name: &str, names: &str) -> Issued {
        self.issue_until(name, names, 2090)
    }

    /// Issues one that is valid from 2020 to the end of a year.
    #[track_caller]
    pub fn issue_until(&self, name: &str, names: &str, year: i32) -> Issued {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.subject_alt_names = names.split(',').map(|name| san(name.trim())).collect();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued {
            certificate: self.write(&format!("{name}.crt"), &certificate.pem()),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
            serial,
        }
    }

    /// A list that revokes these.
    pub fn revoke(&self, issued: &[&Issued]) -> PathBuf {
        let revoked = |issued: &&Issued| RevokedCertParams {
            serial_number: SerialNumber::from(issued.serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 2),
            next_update: date_time_ymd(2090, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: issued.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).and_then(|list| list.pem());
        self.write("revoked.crl", &list.expect("a revocation list"))
    }

    /// A path in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Issued {
    /// The directives with which nginx shows it.
    pub fn for_nginx(&self) -> String {
        let show = |path: &Path| path.display().to_string();
        format!(
            "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            show(&self.certificate),
            show(&self.key)
        )
    }

    /// Puts certificate and key at these paths, each in one step.
    pub fn put(&self, certificate: &Path, key: &Path) {
        for (from, to) in [(&self.certificate, certificate), (&self.key, key)] {
            let next = to.with_extension("next");
            fs::copy(from, &next).expect("a copy");
            fs::rename(&next, to).expect("a renamed file");
        }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[track_caller]
fn san(name: &str) -> SanType {
    let (kind, text) = name.split_once(':').expect("KIND:NAME");
    match kind {
        "DNS" => SanType::DnsName(text.try_into().expect("an ASCII name")),
        "URI" => SanType::URI(text.try_into().expect("an ASCII name")),
        "IP" => SanType::IpAddress(text.parse().expect("an address")),
        kind => panic!("{kind}: DNS, URI or IP"),
    }
}
