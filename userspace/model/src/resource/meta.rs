//! What every resource has: a name, a namespace, labels, an age and a place.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

use crate::Span;
use crate::value::{Labels, Timestamp};

/// Metadata of one resource. Compares without the place, as [`Spanned`](crate::Spanned) values do.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.namespace`; `default` when absent.
    pub namespace: Arc<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `metadata.creationTimestamp`. Absent in most files: see [`Meta::cmp_age`].
    pub creation: Option<Timestamp>,
    /// The file it came from, as the caller named it.
    pub path: Arc<str>,
    /// The place of `metadata.name` in that file.
    pub span: Span,
    /// The place of the annotation [`PathMode::ANNOTATION`]; not written where it is not set.
    pub path_span: Span,
}

impl PartialEq for Meta {
    fn eq(&self, other: &Self) -> bool {
        let parts = |meta: &'_ Self| (meta.key(), meta.creation);
        parts(self) == parts(other)
            && self.labels == other.labels
            && self.annotations == other.annotations
    }
}

/// Namespace and name: what identifies a resource within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What becomes of connections to a service while egressd does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnProxyDown {
    /// They go where the application dialled.
    Passthrough,
    /// They are refused.
    Reject,
}

impl OnProxyDown {
    /// The annotation on a ServiceEntry that overrides the node's setting.
    pub const ANNOTATION: &str = "egressd.io/on-proxy-down";

    /// Reads a value; nothing for an unknown one.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "passthrough" => Some(Self::Passthrough),
            "reject" => Some(Self::Reject),
            _ => None,
        }
    }
}

/// How connections reach their endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMode {
    /// Straight from the kernel where that keeps the meaning, else by the proxy.
    #[default]
    Auto,
    /// By the proxy.
    Proxy,
    /// Straight from the kernel; where that cannot be, it is an error.
    Direct,
}

impl PathMode {
    /// The annotation on a ServiceEntry that overrides the node's setting.
    pub const ANNOTATION: &str = "egressd.io/path";

    /// Reads a value; nothing for an unknown one.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "proxy" => Some(Self::Proxy),
            "direct" => Some(Self::Direct),
            _ => None,
        }
    }
}

impl Meta {
    /// [`PathMode::ANNOTATION`], where it is set to a known value.
    pub fn path_mode(&self) -> Option<PathMode> {
        self.annotations.get(PathMode::ANNOTATION).and_then(|value| PathMode::parse(value))
    }

    /// [`OnProxyDown::ANNOTATION`], where it is set to a known value.
    pub fn on_proxy_down(&self) -> Option<OnProxyDown> {
        self.annotations.get(OnProxyDown::ANNOTATION).and_then(|value| OnProxyDown::parse(value))
    }

    /// Namespace and name.
    pub fn key(&self) -> Key {
        Key { namespace: Arc::clone(&self.namespace), name: Arc::clone(&self.name) }
    }

    /// Oldest first (semantics.md §9.3): by creation time, ties by name and then namespace. Resources without
    /// a time count as older than all with one and are ordered by namespace, then name. Never by file or mtime.
    pub fn cmp_age(&self, other: &Self) -> Ordering {
        match (self.creation, other.creation) {
            (Some(a), Some(b)) => a
                .cmp(&b)
                .then_with(|| (&self.name, &self.namespace).cmp(&(&other.name, &other.namespace))),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => (&self.namespace, &self.name).cmp(&(&other.namespace, &other.name)),
        }
    }
}

/// A resource: metadata and the typed `spec`, to which it dereferences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource<T> {
    /// Name, namespace, labels, age, place.
    pub meta: Meta,
    /// The API type.
    pub spec: T,
}

impl<T> Deref for Resource<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.spec
    }
}
