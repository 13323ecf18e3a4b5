//! Explanations for people.

use std::io::{self, Write};

use egressd_tables::{Stage, Step};

use super::Explained;

/// How emphasis looks.
#[derive(Clone, Copy)]
pub(super) struct Style {
    strong: &'static str,
    weak: &'static str,
    plain: &'static str,
}

impl Style {
    /// For a stream that is or is not a terminal. Emphasis only on a terminal, and not with `NO_COLOR`.
    pub(super) fn new(is_terminal: bool) -> Self {
        let coloured =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if coloured {
            Self { strong: "\x1b[1m", weak: "\x1b[2m", plain: "\x1b[0m" }
        } else {
            Self { strong: "", weak: "", plain: "" }
        }
    }
}

/// Width of the column with the stages' names.
const MARGIN: usize = 14;

/// Prints the chain from the address dialled to the endpoint, with the reasons.
pub(super) fn print(
    explained: &Explained<'_>,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Style { strong, plain, .. } = style;
    writeln!(out, "{strong}{}{plain}", explained.target.text)?;
    for step in &explained.explanation.steps {
        print_step(step, style, out)?;
    }
    let answer = &explained.explanation.answer;
    line("result", &format!("{strong}{}{plain}", answer.result()), out)?;
    for hint in &explained.hints {
        line("hint", hint, out)?;
    }
    Ok(())
}

fn print_step(step: &Step, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let Style { strong, plain, .. } = style;
    let chosen = format!("{strong}{}{plain}", step.chosen);
    let stage = step.stage.to_string();
    if step.stage == Stage::Retries && step.because.starts_with("on ") {
        // Conditions rather than reasons.
        line(&stage, &format!("{chosen} {}", step.because), out)?;
    } else {
        line(&stage, &chosen, out)?;
        if !step.because.is_empty() {
            aside("why", &step.because, style, out)?;
        }
    }
    match &step.instead_of {
        Some(passed) => aside("not", &format!("{}: {}", passed.what, passed.why), style, out),
        None => Ok(()),
    }
}

fn line(name: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  {name:<MARGIN$}{text}")
}

/// A reason, its word at the right end of the margin.
fn aside(word: &str, text: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let Style { weak, plain, .. } = style;
    let width = MARGIN - 2;
    writeln!(out, "  {weak}{word:>width$}{plain}  {text}")
}
