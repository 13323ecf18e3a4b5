//! TLS: towards endpoints as a DestinationRule says ([`Originator`]), and towards the clients of a
//! Gateway ([`Terminator`]).
//!
//! ```text
//! UpstreamTls -> wanted -> Upstream -> prepare -> Prepared -> handshake -> TlsStream | TlsFailure
//! ```
//!
//! # Invariants
//! - Plaintext goes out only where the tables say so. Whatever is missing for TLS (a file, a
//!   credential, an identity, a usable name) is a [`TlsFailure`] of that cluster alone.
//! - What was demanded of a peer's certificate is part of what a resumed session is found by, so a
//!   session never stands in for a check that was not made.
//! - Files are looked at when they are needed, each at most once in [`RECHECK`]; connections that
//!   stand are never touched.
//!
//! # Cryptography
//! rustls with ring. There is no second implementation in the process.

mod cache;
mod classify;
mod config;
mod failure;
mod file;
mod held;
mod library;
mod material;
mod names;
mod originate;
mod server_name;
mod settings;
mod sources;
mod stream;
mod terminate;
#[cfg(test)]
mod tests;
mod verify;
mod wire;

use std::time::Duration;

pub(crate) use self::terminate::ServerTls;
#[cfg(test)]
pub(crate) use self::terminate::{ClientDemands, Clients};
pub use self::{
    failure::{Alert, CertificateFault, FileFailure, FileFault, Role, TlsFailure},
    originate::Originator,
    sources::{MeshIdentity, Sources},
    terminate::Terminator,
};
pub(crate) use self::{originate::Upstream, server_name::Speaks, stream::TlsStream};

/// Time between two looks at one file.
pub const RECHECK: Duration = Duration::from_secs(1);
