//! A condition on one string.

/// `exact`, `prefix` or `regex`, or `{}` for mere presence.
///
/// Regular expressions are RE2's and match the whole string. They are kept as text that is known to compile;
/// tables compile them once a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// `{}`: whatever the value, it must be there.
    #[default]
    Present,
    /// The whole string.
    Exact(String),
    /// The first bytes.
    Prefix(String),
    /// A regular expression over the whole string.
    Regex(String),
}

impl StringMatch {
    /// The text to compare with; empty for [`StringMatch::Present`].
    pub fn text(&self) -> &str {
        match self {
            Self::Present => "",
            Self::Exact(text) | Self::Prefix(text) | Self::Regex(text) => text,
        }
    }
}
