//! Names that a certificate must carry one of: `subjectAltNames` (semantics.md §4).
//!
//! Istio hands the list to Envoy as exact texts to compare with every kind of name in the
//! certificate: URIs (a SPIFFE identity), DNS names, where a wildcard in the certificate covers one
//! label, and addresses. Names outside the subjectAltName extension count for nothing.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use webpki::EndEntityCert;

use super::server_name;

/// The names, ready to be compared.
#[derive(Debug)]
pub(super) struct Expected(Vec<Name>);

#[derive(Debug)]
struct Name {
    text: Arc<str>,
    /// The text as an address or a DNS name, if it is one.
    server: Option<ServerName<'static>>,
}

impl Expected {
    /// Names of which one must be there; none asks for nothing.
    pub(super) fn new(names: &[Arc<str>]) -> Self {
        let name =
            |text: &Arc<str>| Name { text: Arc::clone(text), server: server_name::parse(text) };
        Self(names.iter().map(name).collect())
    }

    /// Whether one of the names is in the certificate.
    pub(super) fn match_one(&self, certificate: &EndEntityCert<'_>) -> bool {
        self.0.is_empty() || self.0.iter().any(|name| name.is_in(certificate))
    }

    /// The names, for people.
    pub(super) fn list(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|name| &*name.text).collect();
        names.join(",")
    }
}

impl Name {
    fn is_in(&self, certificate: &EndEntityCert<'_>) -> bool {
        if certificate.valid_uri_names().any(|uri| uri == &*self.text) {
            return true;
        }
        match &self.server {
            Some(server) => certificate.verify_is_valid_for_subject_name(server).is_ok(),
            // A wildcard stands for itself: the certificate must have that very wildcard.
            None if self.text.starts_with("*.") => {
                certificate.valid_dns_names().any(|name| name.eq_ignore_ascii_case(&self.text))
            }
            None => false,
        }
    }
}
