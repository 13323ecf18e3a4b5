//! Explanations for programs: one JSON object a target, one a line.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use egressd_tables::Path;
use serde::Serialize;

use super::Explained;

#[derive(Serialize)]
struct ExplanationLine<'a> {
    target: &'a str,
    result: String,
    listener: Cow<'a, str>,
    route: &'a str,
    /// `direct` or `proxy`.
    path: &'static str,
    /// Why not direct, in one word.
    #[serde(rename = "notDirect", skip_serializing_if = "Option::is_none")]
    not_direct: Option<&'static str>,
    steps: Vec<StepObject<'a>>,
    hints: &'a [String],
}

#[derive(Serialize)]
struct StepObject<'a> {
    stage: String,
    chosen: &'a str,
    because: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<PassedObject<'a>>,
}

#[derive(Serialize)]
struct PassedObject<'a> {
    what: &'a str,
    why: &'a str,
}

/// Prints one explanation.
pub(super) fn print(explained: &Explained<'_>, out: &mut dyn Write) -> io::Result<()> {
    let answer = &explained.explanation.answer;
    let steps = explained.explanation.steps.iter().map(|step| StepObject {
        stage: step.stage.to_string(),
        chosen: &step.chosen,
        because: &step.because,
        not: step.instead_of.as_ref().map(|one| PassedObject { what: &one.what, why: &one.why }),
    });
    let line = ExplanationLine {
        target: &explained.target.text,
        result: answer.result(),
        listener: answer.listener(),
        route: answer.route(),
        path: match explained.path {
            Path::Direct(_) => "direct",
            Path::Proxied(_) | Path::LeftAlone(_) => "proxy",
        },
        not_direct: match &explained.path {
            Path::Direct(_) => None,
            Path::Proxied(why) | Path::LeftAlone(why) => Some(why.code()),
        },
        steps: steps.collect(),
        hints: &explained.hints,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
