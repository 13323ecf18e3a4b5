//! One JSON object a document, one a line.

use std::io::{self, Write};

use serde::Serialize;

use super::documents::Checked;

#[derive(Serialize)]
struct DocumentLine<'a> {
    path: &'a str,
    line: u32,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    verdict: &'static str,
    diagnostics: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    code: &'static str,
    field: &'a str,
    /// What is wrong and, behind a semicolon, what would be right.
    message: String,
    line: u32,
    column: u32,
}

/// Prints every document.
pub(super) fn print(checked: &[Checked<'_>], out: &mut dyn Write) -> io::Result<()> {
    for one in checked {
        let line = DocumentLine {
            path: one.path,
            line: one.line,
            kind: one.kind,
            namespace: one.namespace,
            name: one.name,
            verdict: one.verdict.as_str(),
            diagnostics: one.findings.iter().map(|finding| Finding::of(finding)).collect(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

impl<'a> Finding<'a> {
    fn of(finding: &'a egressd_model::Diagnostic) -> Self {
        let message = match &finding.help {
            Some(help) => format!("{}; {help}", finding.message),
            None => finding.message.clone(),
        };
        Self {
            severity: finding.severity.as_str(),
            code: finding.code,
            field: &finding.field,
            message,
            line: finding.line(),
            column: finding.column(),
        }
    }
}
