//! What is said about a text: one [`Diagnostic`] a finding, one [`Verdict`] a document.

use std::fmt;
use std::sync::Arc;

use crate::Span;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// Accepted, though probably not what was meant.
    Warning,
    /// Istio's webhook or schema refuses it, and so does egressd.
    Error,
}

impl Severity {
    /// The word used in text and JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding: where, what is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Stable name of the finding in kebab-case, for example `unknown-field`.
    pub code: &'static str,
    /// The file, as the caller named it.
    pub path: Arc<str>,
    /// The place in the file. Line 0 when the finding is about the file as a whole.
    pub span: Span,
    /// The field, for example `spec.ports[0].protocol`; empty for the document as a whole.
    pub field: String,
    /// What is wrong, with the value in it. One sentence without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Diagnostic {
    /// 1-based line; 0 when the finding is about the file as a whole.
    pub fn line(&self) -> u32 {
        self.span.line
    }

    /// 1-based column in characters.
    pub fn column(&self) -> u32 {
        self.span.column
    }

    /// The byte range in the text, for renderers that underline it.
    pub fn bytes(&self) -> std::ops::Range<usize> {
        self.span.start as usize..self.span.end as usize
    }
}

/// `path:line:column: severity[code]: field: message`, then the help on a line of its own.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, code, path, span, field, message, help } = self;
        write!(f, "{path}:")?;
        if span.is_written() {
            write!(f, "{}:{}:", span.line, span.column)?;
        }
        write!(f, " {severity}[{code}]: ")?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        f.write_str(message)?;
        match help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// What `check` says about one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing but infos.
    Accept,
    /// Loaded (or, for a foreign document, ignored) with at least one warning.
    Warn,
    /// At least one error; nothing of it is loaded.
    Reject,
}

impl Verdict {
    /// The verdict that a set of findings adds up to.
    pub fn of<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> Self {
        diagnostics.into_iter().map(|d| Self::from(d.severity)).max().unwrap_or(Self::Accept)
    }

    /// The word used in text and JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Warn => "warn",
            Self::Reject => "reject",
        }
    }
}

impl From<Severity> for Verdict {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Accept,
            Severity::Warning => Self::Warn,
            Severity::Error => Self::Reject,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
