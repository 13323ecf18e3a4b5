//! Host names that may begin with a wildcard label, and how they cover each other.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A host as resources write it: `api.example.com`, `*.example.com`, `*foo.com` or `*`.
///
/// Text is kept as written. Matching is byte for byte: compare names in lower case where DNS or HTTP rules ask for
/// it (semantics.md §1.5). Which forms a field allows is checked by that field's rules, not here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(Arc<str>);

impl HostPattern {
    /// Wraps a host as written.
    pub fn new(host: &str) -> Self {
        Self(Arc::from(host))
    }

    /// The host as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text, for tables that keep many references to it.
    pub fn to_arc(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Whether the host begins with `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether the host is exactly `*`.
    pub fn is_catch_all(&self) -> bool {
        &*self.0 == "*"
    }

    /// Whether the host is a wildcard that does not stand for whole labels, such as `*foo.com`.
    pub fn is_partial_wildcard(&self) -> bool {
        self.is_wildcard() && !self.is_catch_all() && !self.0.starts_with("*.")
    }

    /// What follows the `*` of a wildcard (`.example.com`), or nothing for an exact host.
    pub fn suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }

    /// Whether a concrete name is covered: equal, or longer than the suffix and ending in it.
    ///
    /// `*.b.example` covers `x.b.example` and `y.x.b.example`, not `b.example` (semantics.md §1.5).
    pub fn covers_name(&self, name: &str) -> bool {
        match self.suffix() {
            Some("") => true,
            Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
            None => &*self.0 == name,
        }
    }

    /// Whether some name could be covered by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.suffix(), other.suffix()) {
            (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
            (Some(_), None) => self.covers_name_or_suffix(&other.0),
            (None, Some(_)) => other.covers_name_or_suffix(&self.0),
            (None, None) => self.0 == other.0,
        }
    }

    /// Whether every name that `self` covers is also covered by `other`.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        match (self.suffix(), other.suffix()) {
            (Some(a), Some(b)) => a.ends_with(b),
            (Some(_), None) => false,
            (None, Some(_)) => other.covers_name_or_suffix(&self.0),
            (None, None) => self.0 == other.0,
        }
    }

    /// What both lists cover: of each overlapping pair the more specific one, in the order of `a`, without repeats.
    pub fn intersection(a: &[Self], b: &[Self]) -> Vec<Self> {
        let mut common: Vec<Self> = Vec::new();
        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
            let narrow = if a.is_subset_of(b) { a } else { b };
            if a.overlaps(b) && !common.contains(narrow) {
                common.push(narrow.clone());
            }
        }
        common
    }

    /// Most specific first: exact hosts before wildcards, then the longer, then by text.
    pub fn cmp_specific(&self, other: &Self) -> Ordering {
        self.is_wildcard()
            .cmp(&other.is_wildcard())
            .then_with(|| other.0.len().cmp(&self.0.len()))
            .then_with(|| self.0.cmp(&other.0))
    }

    /// A wildcard's suffix also counts as covered when a name equals it: the rule Istio uses between hosts of
    /// resources, where an empty remainder is allowed.
    fn covers_name_or_suffix(&self, name: &str) -> bool {
        self.suffix().is_some_and(|suffix| name.ends_with(suffix))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Default for HostPattern {
    fn default() -> Self {
        Self::new("")
    }
}

impl From<&str> for HostPattern {
    fn from(host: &str) -> Self {
        Self::new(host)
    }
}

/// A host with a namespace before it, as Sidecar egress and Gateway servers write it: `ns/host`, `./*`, `~/*`,
/// `*/host`, and the exclusions `~ns1/*` and `~/foo.com`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NamespacedHost {
    /// What stands before the `/`; absent when there is no `/` (gateways: any namespace).
    pub namespace: Option<String>,
    /// What stands after it.
    pub host: HostPattern,
}

impl NamespacedHost {
    /// Splits at the first `/`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('/') {
            Some((namespace, host)) => {
                Self { namespace: Some(namespace.to_owned()), host: HostPattern::new(host) }
            }
            None => Self { namespace: None, host: HostPattern::new(text) },
        }
    }
}

impl fmt::Display for NamespacedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.host),
            None => self.host.fmt(f),
        }
    }
}
