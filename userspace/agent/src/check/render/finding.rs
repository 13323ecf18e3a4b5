//! A finding as miette draws it.

use std::fmt;

use egressd_model::{Diagnostic, Severity};
use miette::{LabeledSpan, SourceCode};

use super::source::Source;

/// A finding and the text it is about, if that is known.
#[derive(Debug)]
pub(super) struct Finding<'a> {
    pub(super) diagnostic: &'a Diagnostic,
    pub(super) source: Option<&'a Source>,
}

impl fmt::Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diagnostic { field, message, .. } = self.diagnostic;
        if field.is_empty() { f.write_str(message) } else { write!(f, "{field}: {message}") }
    }
}

impl std::error::Error for Finding<'_> {}

impl miette::Diagnostic for Finding<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Info => miette::Severity::Advice,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_ref().map(|help| -> Box<dyn fmt::Display> { Box::new(help) })
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.filter(|_| self.diagnostic.span.is_written()).map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let source = self.source.filter(|_| self.diagnostic.span.is_written())?;
        let place = source.within_line(self.diagnostic.bytes());
        Some(Box::new(std::iter::once(LabeledSpan::underline(place))))
    }
}
