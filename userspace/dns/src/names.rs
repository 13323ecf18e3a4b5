//! The names that are answered here, and the search domain that shortens a client's way to them.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};
use egressd_tables::Tables;

/// Finds the addresses of a name: one generation's name table (semantics.md §2, "Name table").
pub trait Names: Send + Sync {
    /// What belongs to a name, which comes dotted, in lower case and without the final dot: its own
    /// entry, else the longest wildcard above it. A wildcard's own spelling (`*.example.com`) finds
    /// that wildcard. Nothing: the name is asked upstream.
    fn find(&self, name: &str) -> Option<Found<'_>>;
}

/// The addresses of a name that is ours to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The host as configured; a wildcard begins with `*`.
    pub host: &'a str,
    /// For A. None: the answer has no records and no error.
    pub v4: &'a [Ipv4Addr],
    /// For AAAA. None: the answer has no records and no error.
    pub v6: &'a [Ipv6Addr],
}

impl Found<'_> {
    /// Whether the host stands for many names.
    pub fn is_wildcard(&self) -> bool {
        self.host.starts_with('*')
    }
}

impl Names for Tables {
    fn find(&self, name: &str) -> Option<Found<'_>> {
        let entry = self.names().lookup(name)?;
        Some(Found { host: &entry.host, v4: &entry.v4, v6: &entry.v6 })
    }
}

/// The names in force. Readers never wait; a new generation is one swap.
#[derive(Default)]
pub(crate) struct Published(ArcSwap<Snapshot>);

/// What one answer is made from.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// `None` before the first generation: SERVFAIL (semantics.md §2).
    pub(crate) names: Option<Arc<dyn Names>>,
    /// The first search domain of resolv.conf, in lower case and without dots at its ends; empty if
    /// there is none.
    pub(crate) search: Arc<str>,
}

impl Published {
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }

    pub(crate) fn set_names(&self, names: &Arc<dyn Names>) {
        self.0.rcu(|before| Snapshot { names: Some(Arc::clone(names)), ..(**before).clone() });
    }

    pub(crate) fn set_search(&self, domain: &str) {
        let domain: Arc<str> = domain.trim_matches('.').to_ascii_lowercase().into();
        self.0.rcu(|before| Snapshot { search: Arc::clone(&domain), ..(**before).clone() });
    }
}
