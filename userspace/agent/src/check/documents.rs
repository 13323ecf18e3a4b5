//! Findings by document.

use std::collections::HashMap;

use egressd_model::{Diagnostic, Document, Severity, Verdict};

use super::input::Input;

/// One document with everything that is said of it.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    /// The file, as it was named or found.
    pub(super) path: &'a str,
    /// The line of its first key, from 1; 0 where nothing is known.
    pub(super) line: u32,
    /// `kind`; empty where it is missing.
    pub(super) kind: &'a str,
    /// `metadata.namespace`.
    pub(super) namespace: &'a str,
    /// `metadata.name`; empty where it is missing.
    pub(super) name: &'a str,
    /// What Istio says of it by itself.
    pub(super) verdict: Verdict,
    /// What is found in it and about it, in the order of the text.
    pub(super) findings: Vec<&'a Diagnostic>,
}

impl<'a> Checked<'a> {
    fn of_document(path: &'a str, document: &'a Document) -> Self {
        Self {
            path,
            line: document.span.line,
            kind: &document.kind,
            namespace: &document.namespace,
            name: &document.name,
            verdict: document.verdict(),
            findings: document.diagnostics.iter().collect(),
        }
    }

    /// A finding about a file that holds no resources.
    fn of_settings(finding: &'a Diagnostic) -> Self {
        Self {
            path: &finding.path,
            line: finding.line(),
            kind: "",
            namespace: "",
            name: "",
            verdict: Verdict::of([finding]),
            findings: vec![finding],
        }
    }

    /// Whether a daemon would not load it.
    pub(super) fn is_rejected(&self) -> bool {
        self.verdict == Verdict::Reject
            || self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Puts findings across resources to the documents they are about.
pub(super) fn distribute<'a>(input: &'a Input, across: &'a [Diagnostic]) -> Vec<Checked<'a>> {
    let mut by_path: HashMap<&str, Vec<&Diagnostic>> = HashMap::new();
    for finding in across {
        by_path.entry(&finding.path).or_default().push(finding);
    }
    let mut all: Vec<Checked<'a>> = input.settings.iter().map(Checked::of_settings).collect();
    for file in &input.files {
        let path = &**file.path();
        let begin = all.len();
        let documents = file.documents();
        all.extend(documents.iter().map(|document| Checked::of_document(path, document)));
        for finding in by_path.remove(path).unwrap_or_default() {
            let after = documents.partition_point(|one| one.span.start <= finding.span.start);
            if let Some(one) = all.get_mut(begin + after.saturating_sub(1)) {
                one.findings.push(finding);
                one.findings.sort_by_key(|finding| finding.span);
            }
        }
    }
    all
}
