//! `exportTo`: which namespaces see a resource.

use std::fmt;

use crate::Spanned;

/// One entry of `exportTo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExportTarget {
    /// `*`: every namespace.
    #[default]
    Public,
    /// `.`: the resource's own namespace.
    Own,
    /// `~`: nobody.
    Nobody,
    /// One named namespace.
    Namespace(String),
}

impl ExportTarget {
    /// Reads one entry; what is not a sign is a namespace, whose form the resource's rules check.
    pub fn parse(text: &str) -> Self {
        match text {
            "*" => Self::Public,
            "." => Self::Own,
            "~" => Self::Nobody,
            namespace => Self::Namespace(namespace.to_owned()),
        }
    }
}

impl fmt::Display for ExportTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "*",
            Self::Own => ".",
            Self::Nobody => "~",
            Self::Namespace(namespace) => namespace,
        })
    }
}

/// The whole list. Empty means that the mesh-wide default for the kind applies, `*` if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportTo(pub Vec<Spanned<ExportTarget>>);

impl ExportTo {
    /// Whether a client in `client` sees a resource of namespace `own`, given the mesh-wide default for its kind.
    pub fn is_visible(&self, own: &str, client: &str, mesh_default: &[ExportTarget]) -> bool {
        let sees = |target: &ExportTarget| match target {
            ExportTarget::Public => true,
            ExportTarget::Own => own == client,
            ExportTarget::Nobody => false,
            ExportTarget::Namespace(namespace) => namespace == client,
        };
        if !self.0.is_empty() {
            self.0.iter().any(|target| sees(target))
        } else {
            mesh_default.is_empty() || mesh_default.iter().any(sees)
        }
    }
}
