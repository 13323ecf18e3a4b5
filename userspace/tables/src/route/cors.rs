//! Answers to browsers' preflight requests (semantics.md §3, corsPolicy).

use std::sync::Arc;

use crate::route::matcher::TextMatch;

/// A CORS policy. The lists are joined as they appear in the answer's headers.
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Origins of which one must match.
    pub origins: Vec<TextMatch>,
    /// `access-control-allow-methods`; empty to leave it out.
    pub methods: Arc<str>,
    /// `access-control-allow-headers`; empty to leave it out.
    pub headers: Arc<str>,
    /// `access-control-expose-headers`; empty to leave it out.
    pub expose: Arc<str>,
    /// `access-control-max-age` in seconds.
    pub max_age: Option<u64>,
    /// `access-control-allow-credentials: true`.
    pub credentials: bool,
    /// What becomes of a preflight whose origin does not match.
    pub unmatched: UnmatchedPreflight,
}

/// What becomes of a preflight whose origin does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmatchedPreflight {
    /// It goes to the upstream. The default.
    Forward,
    /// It is answered with 200 and no CORS headers.
    Ignore,
}
