//! What is wrong with `egressd.yaml`, and where.

use std::path::{Path, PathBuf};

use egressd_model::{Diagnostic, Severity, Span, place_of};

/// Why the daemon's own file is no good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file or directory cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Keys or values are not what they should be; every finding is here.
    #[error("{}", lines(.0))]
    Rejected(Vec<Diagnostic>),
}

fn lines(findings: &[Diagnostic]) -> String {
    findings.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

/// The findings about one text.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    path: &'a Path,
    text: &'a str,
    found: Vec<Diagnostic>,
}

impl<'a> Faults<'a> {
    /// None so far.
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, found: Vec::new() }
    }

    /// A value that is outside its limits, at a key such as `capture.excludeCidrs[1]`.
    pub(super) fn add(&mut self, key: &str, message: String) {
        let span = place_of(self.text, steps(key)).unwrap_or_default();
        self.push(span, key.to_owned(), message);
    }

    /// What serde_yaml says. It puts the key before what is wrong, and the place behind.
    pub(super) fn of_yaml(mut self, error: &serde_yaml::Error) -> ConfigError {
        let said = error.to_string();
        let said = said.rsplit_once(" at line ").map_or(&*said, |(said, _)| said);
        let (key, message) = match said.split_once(": ") {
            Some((key, message)) if is_key(key) => (key, message),
            Some(_) | None => ("", said),
        };
        let given = error.location().map(|at| self.at(at.line(), at.column()));
        let unknown = message.starts_with("unknown field");
        let span = match place_of(self.text, steps(key)) {
            // An unknown key stands elsewhere than the map that it is in.
            Some(span) if !unknown => span,
            Some(_) | None => given.unwrap_or_default(),
        };
        self.push(span, key.to_owned(), message.to_owned());
        ConfigError::Rejected(self.found)
    }

    /// Nothing, or everything that was found.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        if self.found.is_empty() { Ok(()) } else { Err(ConfigError::Rejected(self.found)) }
    }

    fn push(&mut self, span: Span, field: String, message: String) {
        self.found.push(Diagnostic {
            severity: Severity::Error,
            code: "invalid-config",
            path: self.path.to_string_lossy().into(),
            span,
            field,
            message,
            help: None,
        });
    }

    /// The word at a line and a column, both from 1.
    fn at(&self, line: usize, column: usize) -> Span {
        let lines = self.text.split_inclusive('\n');
        let start: usize = lines.take(line.saturating_sub(1)).map(str::len).sum();
        let rest = self.text.get(start..).unwrap_or_default();
        let inside = rest.char_indices().nth(column.saturating_sub(1)).map_or(0, |(at, _)| at);
        let word = rest.get(inside..).unwrap_or_default();
        let ends = |c: char| c.is_whitespace() || matches!(c, ':' | ',' | '}' | ']');
        let length = word.find(ends).unwrap_or(word.len());
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Span {
            line: narrow(line),
            column: narrow(column),
            start: narrow(start + inside),
            end: narrow(start + inside + length),
        }
    }
}

/// `capture.excludeCidrs[1]` as steps: keys, and numbers of items.
fn steps(key: &str) -> impl Iterator<Item = &str> {
    key.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

fn is_key(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '[' | ']');
    !text.is_empty() && text.chars().all(fits)
}
