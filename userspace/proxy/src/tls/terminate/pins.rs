//! Certificates and keys that are good because somebody wrote down their fingerprints.

use std::{fmt::Write, sync::Arc};

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Fingerprints, in one form of writing each; none asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pins {
    /// Of public keys, in base64.
    keys: Vec<Box<str>>,
    /// Of certificates, in lower-case hexadecimal.
    certificates: Vec<Box<str>>,
}

impl Pins {
    /// Fingerprints as they are written in a Gateway.
    pub(super) fn new(keys: &[Arc<str>], certificates: &[Arc<str>]) -> Self {
        let hexadecimal = |text: &Arc<str>| text.replace(':', "").to_ascii_lowercase().into();
        Self {
            keys: keys.iter().map(|text| (**text).into()).collect(),
            certificates: certificates.iter().map(hexadecimal).collect(),
        }
    }

    /// Whether the certificate or its key is among them.
    pub(super) fn allow(&self, der: &CertificateDer<'_>, certificate: &EndEntityCert<'_>) -> bool {
        if self.keys.is_empty() && self.certificates.is_empty() {
            return true;
        }
        let whole = digest(&SHA256, der);
        let key = digest(&SHA256, &certificate.subject_public_key_info());
        let (whole, key) = (hexadecimal(whole.as_ref()), base64(key.as_ref()));
        self.certificates.iter().any(|pin| **pin == *whole)
            || self.keys.iter().any(|pin| **pin == *key)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Base64 with its standard alphabet and padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let padded = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let group = (padded[0] << 16) | (padded[1] << 8) | padded[2];
        for at in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * at)) as usize & 63];
            text.push(if at > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    #[test]
    fn a_certificate_is_known_by_its_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        let der = CertificateDer::from(params.self_signed(&key).unwrap());
        let parsed = EndEntityCert::try_from(&der).unwrap();
        let allow = |pin: String| Pins::new(&[pin.into()], &[]).allow(&der, &parsed);
        assert!(allow(base64(digest(&SHA256, &key.subject_public_key_info()).as_ref())));
        assert!(!allow(base64(digest(&SHA256, b"another key").as_ref())));
        assert!(Pins::default().allow(&der, &parsed));
    }

    #[test]
    fn bytes_are_written_as_people_write_them() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(hexadecimal(&[0, 10, 255]), "000aff");
    }
}
