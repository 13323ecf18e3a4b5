//! Why there is no TLS connection: a closed list, the text of `upstream_transport_failure_reason`.

use std::{fmt, io, sync::Arc};

use crate::record::{Errno, ResponseFlag};

/// Why there is no TLS connection, or why one broke.
///
/// Printed, it is one word without spaces, as Envoy's reasons are in an access log:
/// `TLS_error:_KIND` or `TLS_error:_KIND:_DETAIL`, with KIND from [`TlsFailure::kind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// A file that is needed cannot be used; nothing was sent.
    File(Box<FileFailure>),
    /// The key does not belong to the certificate; nothing was sent.
    KeyMismatch {
        /// The file with the certificate.
        certificate: Arc<str>,
        /// The file with the key.
        key: Arc<str>,
    },
    /// There is no credential of this name; nothing was sent.
    UnknownCredential(Arc<str>),
    /// Mesh TLS is asked for and the node has no `identity`; nothing was sent.
    NoIdentity,
    /// The system's roots are asked for and there is no file with them; nothing was sent.
    NoSystemRoots,
    /// The name for the ClientHello, or the one to verify, is no name; nothing was sent.
    BadServerName(Box<str>),
    /// The settings contradict each other; nothing was sent.
    Settings(Box<str>),
    /// The peer's certificate is not good enough.
    Certificate(CertificateFault),
    /// The peer refused, and said why.
    Refused(Alert),
    /// What the peer sent is not TLS: most often a plaintext port.
    NotTls,
    /// The peer's TLS and ours have nothing in common.
    Incompatible(Box<str>),
    /// The peer broke the rules of TLS.
    Protocol(Box<str>),
    /// The peer reset the connection.
    Reset,
    /// The peer closed the connection where it must not: in the handshake, or later without saying
    /// so, as somebody on the way could.
    Closed,
    /// The handshake was not over when the time for connecting was.
    Timeout,
    /// The socket failed.
    Io(Errno),
    /// Something in egressd or the system failed: no random numbers, no clock.
    Internal(Box<str>),
}

/// What is wrong with a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// None was presented.
    Missing,
    /// It, or one of its issuers, has expired.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// No trusted root has issued it.
    UnknownIssuer,
    /// It is for other names than this.
    WrongName(Box<str>),
    /// It is on the list of revoked ones.
    Revoked,
    /// No list says whether it is revoked; its issuer's is not in `caCrl`.
    RevocationUnknown,
    /// The list of revoked ones is out of date.
    RevocationListExpired,
    /// The list of revoked ones is not signed as it must be.
    RevocationListInvalid,
    /// It is not meant for this side of TLS.
    WrongPurpose,
    /// A signature is wrong.
    BadSignature,
    /// Anything else; the word says what.
    Unacceptable(Box<str>),
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFailure {
    /// What it is for.
    pub role: Role,
    /// The path as configured.
    pub path: Arc<str>,
    /// What is wrong.
    pub fault: FileFault,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The certificate we show, with its chain.
    Certificate,
    /// Its key.
    Key,
    /// The certificates whose signatures count.
    Roots,
    /// Revoked certificates.
    RevocationList,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// It is not there.
    Missing,
    /// It cannot be read.
    Unreadable(io::ErrorKind, Errno),
    /// It is a directory, a pipe or a device.
    NotAFile,
    /// It has more than this many bytes.
    TooLarge(u64),
    /// There is nothing in it of what it is for.
    Empty,
    /// What is in it cannot be understood.
    Malformed(Box<str>),
}

/// A TLS alert by its number (RFC 8446 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(pub u8);

impl TlsFailure {
    /// The response flag of every failure to reach an endpoint by TLS.
    pub const FLAG: ResponseFlag = ResponseFlag::UpstreamConnectionFailure;

    /// The kind, one of a few dozen words: fit for a metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(failure) => match failure.fault {
                FileFault::Missing => "file_missing",
                FileFault::Unreadable(..) | FileFault::NotAFile | FileFault::TooLarge(_) => {
                    "file_unreadable"
                }
                FileFault::Empty | FileFault::Malformed(_) => "file_malformed",
            },
            Self::KeyMismatch { .. } => "key_does_not_match_certificate",
            Self::UnknownCredential(_) => "unknown_credential",
            Self::NoIdentity => "no_mesh_identity",
            Self::NoSystemRoots => "no_system_roots",
            Self::BadServerName(_) => "unusable_server_name",
            Self::Settings(_) => "unusable_settings",
            Self::Certificate(fault) => fault.kind(),
            Self::Refused(_) => "refused_by_peer",
            Self::NotTls => "peer_does_not_speak_TLS",
            Self::Incompatible(_) => "nothing_in_common_with_peer",
            Self::Protocol(_) => "protocol_error",
            Self::Reset => "reset_by_peer",
            Self::Closed => "closed_by_peer_without_notice",
            Self::Timeout => "handshake_timeout",
            Self::Io(_) => "socket_error",
            Self::Internal(_) => "internal_error",
        }
    }

    /// Whether the cause may be that a file is being written: it is there, but not whole, or its
    /// counterpart is not yet there.
    pub(super) fn may_be_half_written(&self) -> bool {
        match self {
            Self::KeyMismatch { .. } => true,
            Self::File(failure) => {
                matches!(failure.fault, FileFault::Empty | FileFault::Malformed(_))
            }
            Self::UnknownCredential(_)
            | Self::NoIdentity
            | Self::NoSystemRoots
            | Self::BadServerName(_)
            | Self::Settings(_)
            | Self::Certificate(_)
            | Self::Refused(_)
            | Self::NotTls
            | Self::Incompatible(_)
            | Self::Protocol(_)
            | Self::Reset
            | Self::Closed
            | Self::Timeout
            | Self::Io(_)
            | Self::Internal(_) => false,
        }
    }

    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |f: &mut fmt::Formatter<'_>, text: &str| write!(f, ":_{}", Plain(text));
        match self {
            Self::File(failure) => {
                write!(f, ":_{}_{}", failure.role, Plain(&failure.path))?;
                failure.fault.detail(f)
            }
            Self::KeyMismatch { certificate, key } => {
                write!(f, ":_{}_{}", Plain(certificate), Plain(key))
            }
            Self::UnknownCredential(name) => text(f, name),
            Self::BadServerName(name) => text(f, name),
            Self::Settings(what)
            | Self::Incompatible(what)
            | Self::Protocol(what)
            | Self::Internal(what)
            | Self::Certificate(CertificateFault::Unacceptable(what)) => text(f, what),
            Self::Certificate(CertificateFault::WrongName(wanted)) => {
                write!(f, ":_wanted_{}", Plain(wanted))
            }
            Self::Refused(alert) => write!(f, ":_{alert}"),
            Self::Io(errno) => write!(f, ":_{errno}"),
            Self::NoIdentity
            | Self::NoSystemRoots
            | Self::Certificate(_)
            | Self::NotTls
            | Self::Reset
            | Self::Closed
            | Self::Timeout => Ok(()),
        }
    }
}

impl CertificateFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "certificate_missing",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::UnknownIssuer => "certificate_of_unknown_issuer",
            Self::WrongName(_) => "certificate_for_another_name",
            Self::Revoked => "certificate_revoked",
            Self::RevocationUnknown => "certificate_revocation_unknown",
            Self::RevocationListExpired => "revocation_list_expired",
            Self::RevocationListInvalid => "revocation_list_invalid",
            Self::WrongPurpose => "certificate_for_another_purpose",
            Self::BadSignature => "certificate_signature_wrong",
            Self::Unacceptable(_) => "certificate_not_acceptable",
        }
    }
}

impl FileFault {
    fn detail(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => Ok(()),
            Self::Unreadable(_, errno) => write!(f, ":_{errno}"),
            Self::NotAFile => f.write_str(":_not_a_file"),
            Self::TooLarge(most) => write!(f, ":_more_than_{most}_bytes"),
            Self::Empty => f.write_str(":_nothing_of_the_kind_in_it"),
            Self::Malformed(what) => write!(f, ":_{}", Plain(what)),
        }
    }
}

impl From<FileFailure> for TlsFailure {
    fn from(failure: FileFailure) -> Self {
        Self::File(Box::new(failure))
    }
}

impl From<CertificateFault> for TlsFailure {
    fn from(fault: CertificateFault) -> Self {
        Self::Certificate(fault)
    }
}

impl std::error::Error for TlsFailure {}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS_error:_{}", self.kind())?;
        self.detail(f)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "key",
            Self::Roots => "ca",
            Self::RevocationList => "crl",
        })
    }
}

impl fmt::Display for Alert {
    /// The alert's name as RFC 8446 writes it, or its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alert = rustls::AlertDescription::from(self.0);
        if matches!(alert, rustls::AlertDescription::Unknown(_)) {
            return write!(f, "alert_{}", self.0);
        }
        f.write_str(&snake_case(&format!("{alert:?}")))
    }
}

/// `UnknownCA` as `unknown_ca`.
pub(super) fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    let mut after_capital = true;
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !after_capital {
            snake.push('_');
        }
        after_capital = letter.is_ascii_uppercase();
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Text from outside as part of a word in a log line.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars().take(LONGEST_DETAIL) {
            let plain = letter.is_ascii_graphic() && !matches!(letter, '"' | '\\');
            fmt::Write::write_char(f, if plain { letter } else { '_' })?;
        }
        Ok(())
    }
}

/// Characters of a detail that are printed: a path or a few names.
const LONGEST_DETAIL: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_print_as_one_word() {
        let file = |fault| {
            TlsFailure::from(FileFailure {
                role: Role::Key,
                path: "/etc/my certs/k.pem".into(),
                fault,
            })
        };
        let errno = Errno(libc::EACCES);
        for (failure, text) in [
            (file(FileFault::Missing), "TLS_error:_file_missing:_key_/etc/my_certs/k.pem"),
            (
                file(FileFault::Unreadable(io::ErrorKind::PermissionDenied, errno)),
                "TLS_error:_file_unreadable:_key_/etc/my_certs/k.pem:_Permission_denied",
            ),
            (CertificateFault::Expired.into(), "TLS_error:_certificate_expired"),
            (
                CertificateFault::WrongName("a.example\n\"b\"".into()).into(),
                "TLS_error:_certificate_for_another_name:_wanted_a.example__b_",
            ),
            (TlsFailure::Refused(Alert(48)), "TLS_error:_refused_by_peer:_unknown_ca"),
            (TlsFailure::Refused(Alert(116)), "TLS_error:_refused_by_peer:_certificate_required"),
            (TlsFailure::Refused(Alert(7)), "TLS_error:_refused_by_peer:_alert_7"),
            (TlsFailure::Timeout, "TLS_error:_handshake_timeout"),
        ] {
            assert_eq!(failure.to_string(), text);
        }
    }
}
