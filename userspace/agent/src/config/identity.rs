//! `identity:` and `credentials:`: the files behind mesh TLS and named credentials.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use egressd_proxy::{MeshIdentity, Sources};
use serde::Deserialize;

use super::fault::Faults;

/// `identity:`, as it is written. All three files or none: without them the node has no identity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct IdentityFile {
    /// File with the certificate and its chain, PEM. Relative to egressd.yaml.
    certificate: PathBuf,
    /// File with its key, PEM.
    key: PathBuf,
    /// File with the mesh's roots, PEM.
    ca: PathBuf,
    /// The mesh's name in SPIFFE identities. Default: `cluster.local`.
    trust_domain: String,
}

impl Default for IdentityFile {
    fn default() -> Self {
        Self {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            ca: PathBuf::new(),
            trust_domain: "cluster.local".to_owned(),
        }
    }
}

impl IdentityFile {
    /// Who the node is in a mesh; `None` without files. The files themselves are looked at when a
    /// connection needs them, and again when they have changed. What is wrong goes to `faults`.
    pub(super) fn finish(self, base: &Path, faults: &mut Faults<'_>) -> Option<MeshIdentity> {
        let files = [
            ("identity.certificate", &self.certificate),
            ("identity.key", &self.key),
            ("identity.ca", &self.ca),
        ];
        if files.iter().all(|(_, path)| path.as_os_str().is_empty()) {
            return None;
        }
        let [certificate, key, ca] = files.map(|(name, path)| {
            if path.as_os_str().is_empty() {
                let why = "an identity needs `certificate`, `key` and `ca`; this one is missing";
                faults.add(name, why.to_owned());
            }
            let path = base.join(path);
            if path.to_str().is_none() {
                faults.add(name, format!("`{}` is not UTF-8", path.display()));
            }
            path.to_str().map(Arc::<str>::from)
        });
        let domain = &self.trust_domain;
        if !is_trust_domain(domain) {
            let why = format!("`{domain}` is not a trust domain like cluster.local");
            faults.add("identity.trustDomain", why);
        }
        let trust_domain = domain.as_str().into();
        Some(MeshIdentity { certificate: certificate?, key: key?, ca: ca?, trust_domain })
    }
}

/// The name part of a SPIFFE identity: letters of lower case, digits, dots, dashes, underscores.
fn is_trust_domain(text: &str) -> bool {
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
    };
    !text.is_empty() && text.len() <= 255 && text.bytes().all(fits)
}

/// Where keys and certificates come from that resources name without a path.
pub(super) fn sources(identity: Option<MeshIdentity>, credentials: PathBuf) -> Sources {
    Sources { identity, credentials: Some(credentials) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(text: &str) -> (Option<MeshIdentity>, String) {
        let file: IdentityFile = serde_yaml::from_str(text).unwrap();
        let whole = format!("identity: {text}");
        let mut faults = Faults::new(Path::new("x"), &whole);
        let identity = file.finish(Path::new("/etc/egressd"), &mut faults);
        (identity, faults.finish().map_or_else(|error| error.to_string(), |()| String::new()))
    }

    #[test]
    fn files_are_found_beside_egressd_yaml() {
        assert_eq!(finish("{}"), (None, String::new()));
        let found = finish("{certificate: pki/chain.pem, key: /run/key.pem, ca: pki/ca.pem}");
        let expected = MeshIdentity {
            certificate: "/etc/egressd/pki/chain.pem".into(),
            key: "/run/key.pem".into(),
            ca: "/etc/egressd/pki/ca.pem".into(),
            trust_domain: "cluster.local".into(),
        };
        assert_eq!(found, (Some(expected), String::new()));
    }

    #[test]
    fn half_an_identity_is_none() {
        for (text, key) in [
            ("{certificate: a, key: b}", "identity.ca"),
            ("{certificate: a, ca: b}", "identity.key"),
            ("{key: a, ca: b}", "identity.certificate"),
            ("{certificate: a, key: b, ca: c, trustDomain: Example.org}", "identity.trustDomain"),
            ("{certificate: a, key: b, ca: c, trustDomain: \"\"}", "identity.trustDomain"),
            ("{certificate: a, key: b, ca: c, trustDomain: a/b}", "identity.trustDomain"),
        ] {
            let (_, said) = finish(text);
            assert!(said.contains(key), "{text}: {said}");
        }
    }
}
