//! TLS towards clients, of gateways and of Sidecar's inbound listeners.

use std::collections::HashSet;

use crate::decode::{At, Cx};
use crate::resource::{ServerTlsMode, ServerTlsSettings, TlsProtocolVersion};
use crate::validate::limits;

/// Cipher suites that the proxy knows, by OpenSSL's names.
const SUITES: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// Checks the block.
pub(super) fn server_tls(tls: &ServerTlsSettings, at: &At<'_>, cx: &mut Cx) {
    limits::count(tls.tls_certificates.len(), 2, &at.field("tlsCertificates"), cx);
    limits::count(tls.credential_names.len(), 2, &at.field("credentialNames"), cx);
    suites(tls, at, cx);
    match tls.mode.value {
        ServerTlsMode::IstioMutual => mesh_identity(tls, at, cx),
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            let unused = material(tls)
                .into_iter()
                .chain([("caCrl", !tls.ca_crl.is_empty())])
                .find(|(_, set)| *set);
            if let Some((field, _)) = unused {
                let message = format!("mode {} does not use `{field}`", tls.mode);
                cx.warning(&at.field(field), "no-effect", message);
            }
            one_source(tls, at, cx);
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            one_source(tls, at, cx);
            if tls.credential_name.is_empty() && tls.credential_names.is_empty() {
                files(tls, at, cx);
            }
        }
    }
}

/// The fields that hold certificates, and whether each is set.
fn material(tls: &ServerTlsSettings) -> [(&'static str, bool); 6] {
    [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ]
}

fn mesh_identity(tls: &ServerTlsSettings, at: &At<'_>, cx: &mut Cx) {
    for (field, set) in material(tls) {
        if set {
            let message =
                format!("mode ISTIO_MUTUAL uses the mesh identity and takes no `{field}`");
            cx.error(&at.field(field), "conflicting-fields", message);
        }
    }
}

fn one_source(tls: &ServerTlsSettings, at: &At<'_>, cx: &mut Cx) {
    let sources = [
        ("serverCertificate", !tls.server_certificate.is_empty() && !tls.private_key.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    let mut set = sources.into_iter().filter(|(_, set)| *set).map(|(field, _)| field);
    if let (Some(first), Some(second)) = (set.next(), set.next()) {
        let message = format!("certificates come from one place, `{first}` and `{second}` are set");
        cx.error(&at.field(second), "conflicting-fields", message);
    }
}

fn files(tls: &ServerTlsSettings, at: &At<'_>, cx: &mut Cx) {
    let mode = tls.mode.value;
    let need = |cx: &mut Cx, at: &At<'_>, field: &str, file: &str| {
        if file.is_empty() {
            let message = format!("mode {mode} needs `{field}`");
            cx.lacking(&at.field(field), "missing-field", message);
        }
    };
    if tls.tls_certificates.is_empty() {
        need(cx, at, "serverCertificate", &tls.server_certificate);
        need(cx, at, "privateKey", &tls.private_key);
    }
    for (index, certificate) in tls.tls_certificates.iter().enumerate() {
        let at = at.field("tlsCertificates");
        let at = at.index(index);
        need(cx, &at, "serverCertificate", &certificate.server_certificate);
        need(cx, &at, "privateKey", &certificate.private_key);
    }
    if mode == ServerTlsMode::Simple {
        if !tls.ca_crl.is_empty() {
            let message = "mode SIMPLE asks clients for no certificate and takes no `caCrl`";
            cx.error(&at.field("caCrl"), "conflicting-fields", message);
        }
    } else {
        need(cx, at, "caCertificates", &tls.ca_certificates);
    }
}

fn suites(tls: &ServerTlsSettings, at: &At<'_>, cx: &mut Cx) {
    let old = matches!(
        tls.min_protocol_version.value,
        TlsProtocolVersion::TlsV1_0 | TlsProtocolVersion::TlsV1_1
    );
    if old && tls.cipher_suites.is_empty() {
        let message =
            "versions below 1.2 need `cipherSuites`: the default ones do not work with them";
        cx.warning(&at.field("minProtocolVersion"), "cipher-suites-needed", message);
    }
    let mut seen = HashSet::new();
    for (index, suite) in tls.cipher_suites.iter().enumerate() {
        let at = at.field("cipherSuites");
        let at = at.index(index);
        // Signs such as `-` and `+` begin an expression that is not looked into.
        let expression = !suite.starts_with(|c: char| c.is_alphanumeric());
        if suite.value != "ALL" && !expression && !SUITES.contains(&suite.as_str()) {
            cx.warning(
                &at,
                "unknown-value",
                format!("{:?} is not a cipher suite; ignored", suite.value),
            );
        } else if !seen.insert(suite.as_str()) {
            cx.warning(&at, "duplicate-value", format!("{:?} is already in the list", suite.value));
        }
    }
}
