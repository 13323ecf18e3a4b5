//! An authority of our own, and the files it writes.

use std::{
    fs,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// An authority with a directory for its files.
pub(super) struct Pki {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
    serial: AtomicU64,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(super) struct Leaf {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) serial: u64,
}

/// What a certificate is like.
#[derive(Clone, Copy)]
pub(super) struct Like<'a> {
    /// Names: addresses, URIs, and DNS names.
    pub(super) names: &'a [&'a str],
    /// Years of its begin and end.
    pub(super) years: (i32, i32),
    /// Its only purpose, if it has one.
    pub(super) purpose: Option<Purpose>,
}

#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Client,
    Server,
}

impl<'a> Like<'a> {
    /// For a server, valid for long.
    pub(super) fn names(names: &'a [&'a str]) -> Self {
        Self { names, years: (2020, 2090), purpose: None }
    }
}

impl Pki {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), issuer, serial: AtomicU64::new(1) }
    }

    /// The authority's own certificate.
    pub(super) fn ca(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate.
    pub(super) fn issue(&self, like: Like<'_>) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut params = params(like);
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }

    /// A list with one revoked certificate, valid until the end of a year.
    pub(super) fn revocations(&self, revoked: u64, until: i32) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(revoked),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 2),
            next_update: date_time_ymd(until, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Writes a file and gives its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Arc<str> {
        let path = self.path(name);
        fs::write(&*path, text).unwrap();
        path
    }

    /// Replaces a file in one step.
    pub(super) fn replace(&self, name: &str, text: &str) {
        let next = self.write(&format!("{name}.next"), text);
        fs::rename(&*next, &*self.path(name)).unwrap();
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(&*self.path(name)).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> Arc<str> {
        self.dir.path().join(name).to_str().unwrap().into()
    }
}

/// A certificate that signs itself and says that it is an authority, as `openssl req -x509` makes it.
pub(super) fn self_signed(like: Like<'_>) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let mut params = params(like);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    Leaf { certificate: certificate.pem(), key: key.serialize_pem(), serial: 0 }
}

fn params(like: Like<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished("leaf");
    params.subject_alt_names = like.names.iter().map(|name| san(name)).collect();
    params.not_before = date_time_ymd(like.years.0, 1, 1);
    params.not_after = date_time_ymd(like.years.1, 12, 31);
    params.extended_key_usages = match like.purpose {
        Some(Purpose::Client) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Some(Purpose::Server) => vec![ExtendedKeyUsagePurpose::ServerAuth],
        None => Vec::new(),
    };
    params
}

fn san(name: &str) -> SanType {
    if let Ok(ip) = name.parse::<IpAddr>() {
        SanType::IpAddress(ip)
    } else if name.contains("://") {
        SanType::URI(name.try_into().unwrap())
    } else {
        SanType::DnsName(name.try_into().unwrap())
    }
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
