//! Verdicts on single resources against Istio's own: every row of `validation/cases.tsv`.
//!
#![expect(clippy::unwrap_used, reason = "a test whose data is not as expected must fail")]

use std::fs;

use egressd_model::{Verdict, parse};

use crate::folder::{conformance, say};

#[path = "../../../tests/conformance/folder.rs"]
mod folder;

/// Cases where egressd deliberately answers otherwise, each with its reason.
const EXCEPTIONS: [(&str, &str); 0] = [];

struct Case {
    path: String,
    expected: String,
}

fn cases(table: &str) -> Vec<Case> {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| header.iter().position(|title| *title == name).unwrap();
    let (path, expected) = (column("path"), column("expected_overall"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        Case { path: cells[path].to_owned(), expected: cells[expected].to_owned() }
    };
    lines.filter(|line| !line.is_empty()).map(row).collect()
}

#[test]
fn verdicts_agree_with_istio() {
    let Some(folder) = conformance() else { return };
    let folder = folder.join("validation");
    let cases = cases(&fs::read_to_string(folder.join("cases.tsv")).unwrap());
    let mut wrong = Vec::new();
    for case in &cases {
        let text = fs::read_to_string(folder.join(&case.path)).unwrap();
        let file = parse(&case.path, &text);
        let found = file
            .documents()
            .iter()
            .map(|document| document.verdict())
            .max()
            .unwrap_or(Verdict::Accept);
        if found.as_str() != case.expected && !EXCEPTIONS.iter().any(|(path, _)| *path == case.path)
        {
            let findings: Vec<String> = file.diagnostics().map(ToString::to_string).collect();
            wrong.push(format!(
                "{}: expected {}, found {found}\n{}",
                case.path,
                case.expected,
                findings.join("\n")
            ));
        }
    }
    for (path, reason) in EXCEPTIONS {
        say(&format_args!("exception: {path}: {reason}"));
    }
    let agree = cases.len() - wrong.len();
    say(&format_args!("validation: {agree} of {} verdicts agree", cases.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
