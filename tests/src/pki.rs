//! Certificates, made by openssl for the occasion.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::process::Spawn;

/// A certificate authority; its files go with it.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "making keys is no default")]
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("egressd-pki-").expect("a temporary folder");
        let authority = Self { folder };
        let spawn = request("/CN=test authority").arg("-x509").arg("-days").arg("2");
        let spawn = spawn.arg("-addext").arg("basicConstraints=critical,CA:true");
        let spawn = spawn.arg("-keyout").arg(authority.file("ca.key"));
        spawn.arg("-out").arg(authority.roots()).run().expect_code(0);
        authority
    }

    /// The file that trusts what this authority issues.
    pub fn roots(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// Issues a certificate for names such as `DNS:a.example` or `URI:spiffe://…`; `name` tells its
    /// files from others.
    #[track_caller]
    pub fn issue(&self, name: &str, names: &str) -> Issued {
        let issued = Issued {
            certificate: self.file(&format!("{name}.crt")),
            key: self.file(&format!("{name}.key")),
        };
        let (asked, extensions) = (self.file("asked.csr"), self.file("extensions"));
        fs::write(&extensions, format!("subjectAltName={names}\n")).expect("a new file");
        let spawn = request("/CN=a test").arg("-keyout").arg(&issued.key);
        spawn.arg("-out").arg(&asked).run().expect_code(0);
        let sign = ["openssl", "x509", "-req", "-days", "2", "-CAcreateserial", "-in"];
        let spawn = Spawn::new(sign).arg(&asked).arg("-CA").arg(self.roots());
        let spawn = spawn.arg("-CAkey").arg(self.file("ca.key")).arg("-extfile").arg(&extensions);
        spawn.arg("-out").arg(&issued.certificate).run().expect_code(0);
        issued
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Issued {
    /// The directives with which nginx shows it.
    pub fn for_nginx(&self) -> String {
        let show = |path: &Path| path.display().to_string();
        format!(
            "ssl_certificate {}; ssl_certificate_key {};",
            show(&self.certificate),
            show(&self.key)
        )
    }
}

fn request<'a>(subject: &str) -> Spawn<'a> {
    let words = ["openssl", "req", "-nodes", "-newkey", "ec", "-subj", subject];
    Spawn::new(words).arg("-pkeyopt").arg("ec_paramgen_curve:prime256v1")
}
