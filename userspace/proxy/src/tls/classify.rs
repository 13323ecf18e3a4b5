//! From the errors of rustls, webpki and the socket to our own closed list.

use std::{fmt, io, sync::Arc};

use rustls::{CertificateError, OtherError};

use super::failure::{Alert, CertificateFault, TlsFailure, snake_case};
use crate::record::Errno;

/// None of the wanted names is in the certificate.
#[derive(Debug)]
pub(super) struct NameMismatch {
    /// The wanted names.
    pub(super) wanted: String,
}

impl TlsFailure {
    /// Reads the error of a TLS stream.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        if let Some(inner) = error.get_ref()
            && let Some(tls) = inner.downcast_ref::<rustls::Error>()
        {
            return of_tls(tls);
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Closed;
        }
        match error.raw_os_error() {
            Some(libc::ECONNRESET | libc::EPIPE) => Self::Reset,
            Some(_) | None => Self::Io(Errno::from(error)),
        }
    }
}

/// Reads an error of rustls.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign list that grows: the rest is named by its own word"
)]
pub(super) fn of_tls(error: &rustls::Error) -> TlsFailure {
    use rustls::{Error, InvalidMessage};
    match error {
        Error::InvalidCertificate(error) => certificate(error).into(),
        Error::InvalidCertRevocationList(_) => CertificateFault::RevocationListInvalid.into(),
        Error::NoCertificatesPresented => CertificateFault::Missing.into(),
        Error::AlertReceived(alert) => TlsFailure::Refused(Alert(u8::from(*alert))),
        // The first byte or the version of a record: the answer of a plaintext server.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => TlsFailure::NotTls,
        Error::PeerIncompatible(what) => TlsFailure::Incompatible(word(what)),
        Error::NoApplicationProtocol => TlsFailure::Incompatible("application_protocol".into()),
        Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::EncryptError
        | Error::General(_) => TlsFailure::Internal(word(error)),
        error => TlsFailure::Protocol(word(error)),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign list that grows: the rest is named by its own word"
)]
fn certificate(error: &CertificateError) -> CertificateFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CertificateFault::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::Revoked => CertificateFault::Revoked,
        CertificateError::UnknownRevocationStatus => CertificateFault::RevocationUnknown,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            CertificateFault::RevocationListExpired
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::WrongPurpose
        }
        CertificateError::BadSignature => CertificateFault::BadSignature,
        CertificateError::ApplicationVerificationFailure => {
            CertificateFault::Unacceptable("fingerprint_not_listed".into())
        }
        CertificateError::Other(OtherError(other)) => match other.downcast_ref::<NameMismatch>() {
            Some(mismatch) => CertificateFault::WrongName(mismatch.wanted.as_str().into()),
            None => CertificateFault::Unacceptable(word(other)),
        },
        error => CertificateFault::Unacceptable(word(error)),
    }
}

/// webpki's error as rustls passes it on. The peer is told by an alert that fits.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign list that grows: the rest is named by its own word"
)]
pub(super) fn of_path(error: webpki::Error) -> rustls::Error {
    use webpki::Error;
    let error = match error {
        Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        Error::InvalidCertValidity => CertificateError::Expired,
        Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Error::UnknownIssuer => CertificateError::UnknownIssuer,
        Error::CertRevoked => CertificateError::Revoked,
        Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
            CertificateError::InvalidPurpose
        }
        Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Error::InvalidCrlSignatureForPublicKey | Error::IssuerNotCrlSigner => {
            return rustls::CertRevocationListError::BadSignature.into();
        }
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => CertificateError::BadEncoding,
        error => CertificateError::Other(OtherError(Arc::new(error))),
    };
    error.into()
}

impl NameMismatch {
    /// As rustls passes it on.
    pub(super) fn into_error(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }
}

impl fmt::Display for NameMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate is not for {}", self.wanted)
    }
}

impl std::error::Error for NameMismatch {}

/// An error's variant as a word.
fn word(what: &impl fmt::Debug) -> Box<str> {
    let text = format!("{what:?}");
    let variant = text.split([' ', '{']).next().unwrap_or_default();
    snake_case(variant).into()
}
