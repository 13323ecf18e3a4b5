//! Findings for people: the line with a caret, and what would be right.

mod finding;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal as _, Write},
};

use egressd_model::{Diagnostic, Severity, Verdict};
use miette::{GraphicalReportHandler, GraphicalTheme};

use super::{documents::Checked, input::Input};
use finding::Finding;
use source::Source;

/// Text is wrapped at this many columns where the terminal does not say.
const WIDTH: usize = 100;

/// Shows findings in their texts.
struct Renderer {
    handler: GraphicalReportHandler,
    sources: BTreeMap<String, Source>,
}

impl Renderer {
    /// For a stream that is or is not a terminal. Colours only on a terminal, and not with `NO_COLOR`.
    fn new(is_terminal: bool) -> Self {
        let colours =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let theme =
            if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let handler =
            GraphicalReportHandler::new_themed(theme).with_width(columns.unwrap_or(WIDTH));
        Self { handler, sources: BTreeMap::new() }
    }

    /// Makes a text known, so that places in it can be shown.
    fn add_text(&mut self, path: &str, text: &str) {
        self.sources.insert(path.to_owned(), Source::new(path, text));
    }

    /// One finding with its place, as far as its text is known.
    fn render(&self, diagnostic: &Diagnostic) -> String {
        let finding = Finding { diagnostic, source: self.sources.get(&*diagnostic.path) };
        let mut text = String::new();
        match self.handler.render_report(&mut text, &finding) {
            Ok(()) => text,
            // What cannot be drawn can still be said.
            Err(_) => format!("{diagnostic}\n"),
        }
    }
}

/// Errors with their places, for standard error; other findings are for `check`. Texts that cannot be
/// read are not shown.
pub(crate) fn errors_for_people(findings: &[Diagnostic]) -> String {
    let mut renderer = Renderer::new(io::stderr().is_terminal());
    let errors = || findings.iter().filter(|one| one.severity == Severity::Error);
    for path in errors().map(|one| &*one.path).collect::<BTreeSet<_>>() {
        if let Ok(text) = std::fs::read_to_string(path) {
            renderer.add_text(path, &text);
        }
    }
    errors().map(|one| format!("{}\n", renderer.render(one))).collect()
}

/// Prints every document of which there is something to say, and a summary.
pub(super) fn print(checked: &[Checked<'_>], input: &Input, out: &mut dyn Write) -> io::Result<()> {
    let mut renderer = Renderer::new(io::stdout().is_terminal());
    for (path, text) in &input.texts {
        renderer.add_text(path, text);
    }
    for one in checked.iter().filter(|one| !one.findings.is_empty()) {
        writeln!(out, "{}\n", heading(one))?;
        for finding in &one.findings {
            writeln!(out, "{}", renderer.render(finding))?;
        }
    }
    if input.failures.is_empty() || !checked.is_empty() {
        writeln!(out, "{}", summary(checked))?;
    }
    out.flush()
}

/// `reject ServiceEntry default/a (a.yaml:1)`.
fn heading(one: &Checked<'_>) -> String {
    let what = match (one.kind, one.name) {
        ("", "") => String::new(),
        (kind, "") => format!(" {kind}"),
        ("", name) => format!(" {}/{name}", one.namespace),
        (kind, name) => format!(" {kind} {}/{name}", one.namespace),
    };
    let place = if one.line == 0 { String::new() } else { format!(":{}", one.line) };
    format!("{}{what} ({}{place})", one.verdict, one.path)
}

fn summary(checked: &[Checked<'_>]) -> String {
    let count = |verdict| checked.iter().filter(|one| one.verdict == verdict).count();
    let (accepted, warned, rejected) =
        (count(Verdict::Accept), count(Verdict::Warn), count(Verdict::Reject));
    let findings: usize = checked.iter().map(|one| one.findings.len()).sum();
    let number = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    format!(
        "{}: {accepted} accepted, {warned} accepted with warnings, {rejected} rejected; {}",
        number(checked.len(), "document"),
        number(findings, "finding")
    )
}
