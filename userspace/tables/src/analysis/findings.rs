//! Collecting findings.

use std::sync::Arc;

use egressd_model::resource::Meta;
use egressd_model::{Diagnostic, Severity, Span};

/// The findings so far.
#[derive(Debug)]
pub(super) struct Findings {
    complete: bool,
    all: Vec<Diagnostic>,
}

/// Where a finding is: a field of a resource.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    meta: &'a Meta,
    field: String,
    span: Span,
}

impl<'a> Place<'a> {
    /// A field and where it stands. A value that nobody wrote is shown at the resource's name.
    pub(super) fn new(meta: &'a Meta, field: impl Into<String>, span: Span) -> Self {
        let span = if span.is_written() { span } else { meta.span };
        Self { meta, field: field.into(), span }
    }
}

/// Findings about something that is not there.
const ABSENCE: [&str; 8] = [
    "unknown-host",
    "unknown-port",
    "unknown-subset",
    "unknown-gateway",
    "unknown-delegate",
    "selector-selects-nothing",
    "subset-selects-nothing",
    "subject-alt-names-without-tls",
];

impl Findings {
    pub(super) fn new(complete: bool) -> Self {
        Self { complete, all: Vec::new() }
    }

    /// Accepted, though probably not what was meant.
    pub(super) fn warn(
        &mut self,
        code: &'static str,
        place: Place<'_>,
        message: String,
        help: String,
    ) {
        self.add(Severity::Warning, code, place, message, help);
    }

    /// Worth knowing.
    pub(super) fn inform(
        &mut self,
        code: &'static str,
        place: Place<'_>,
        message: String,
        help: String,
    ) {
        self.add(Severity::Info, code, place, message, help);
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Place<'_>,
        message: String,
        help: String,
    ) {
        if !self.complete && ABSENCE.contains(&code) {
            return;
        }
        self.all.push(Diagnostic {
            severity,
            code,
            path: Arc::clone(&place.meta.path),
            span: place.span,
            field: place.field,
            message,
            help: Some(help),
        });
    }

    /// All of them, by file and place.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.all.sort_by(|a, b| {
            (&a.path, a.span, a.code, &a.field).cmp(&(&b.path, b.span, b.code, &b.field))
        });
        self.all
    }
}
