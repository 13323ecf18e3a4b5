//! TLS towards the upstream: which fields each mode needs and excludes.

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{ClientTlsMode, ClientTlsSettings};

/// Checks `tls` of a policy or of the mesh.
pub(super) fn client_tls(tls: Option<&Spanned<ClientTlsSettings>>, at: &At<'_>, cx: &mut Cx) {
    let Some(tls) = tls else { return };
    let mode = tls.mode.value;
    if !matches!(mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) {
        return;
    }
    if tls.insecure_skip_verify.as_deref() == Some(&true) {
        unverified(tls, at, cx);
    }
    if !tls.credential_name.is_empty() {
        let files = [
            ("clientCertificate", &tls.client_certificate),
            ("privateKey", &tls.private_key),
            ("caCertificates", &tls.ca_certificates),
            ("caCrl", &tls.ca_crl),
        ];
        for (field, file) in files {
            if !file.is_empty() {
                let message = format!("`{field}` and `credentialName` cannot be set together");
                cx.error(&at.field(field), "conflicting-fields", message);
            }
        }
    } else if mode == ClientTlsMode::Mutual {
        for (field, file) in
            [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)]
        {
            if file.is_empty() {
                cx.lacking(
                    &at.field(field),
                    "missing-field",
                    format!("mode MUTUAL needs `{field}`"),
                );
            }
        }
    }
}

/// Nothing is verified, so nothing may be given to verify with. A credential of mode MUTUAL may hold just the
/// client's certificate.
fn unverified(tls: &ClientTlsSettings, at: &At<'_>, cx: &mut Cx) {
    let credential = tls.mode.value == ClientTlsMode::Simple && !tls.credential_name.is_empty();
    let fields = [
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("credentialName", credential),
    ];
    for (field, present) in fields {
        if present {
            let message = format!("`{field}` has no use with `insecureSkipVerify: true`");
            cx.error(&at.field(field), "conflicting-fields", message);
        }
    }
}
