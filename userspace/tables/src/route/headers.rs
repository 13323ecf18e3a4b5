//! Changes to headers (semantics.md §3, headers).

use std::sync::Arc;

/// The changes in one direction, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOps {
    /// Headers set or added: first what is set, then what is added, each by name.
    pub changes: Vec<HeaderChange>,
    /// Headers removed, after the others are set; lower case.
    pub remove: Vec<Arc<str>>,
}

/// One header set or added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChange {
    /// Its lower-case name; never `host` or a pseudo header.
    pub name: Arc<str>,
    /// Its value; may hold Envoy's `%COMMAND%`s.
    pub value: Arc<str>,
    /// Added to what is there, instead of replacing it.
    pub append: bool,
}

impl HeaderOps {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.remove.is_empty()
    }

    /// These changes and then those.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.changes.extend(other.changes);
        self.remove.extend(other.remove);
        self
    }
}
