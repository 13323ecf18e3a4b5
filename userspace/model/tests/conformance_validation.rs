//! Verdicts on single resources against Istio's own: every row of `validation/cases.tsv`.
//!
//! The data is looked for in `EGRESSD_CONFORMANCE`, else in `../shared/conformance` beside the workspace. Without it
//! the test says so and passes; with `EGRESSD_REQUIRE_CONFORMANCE=1` it fails.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it skipped, and stops at the first surprise"
)]

use std::fs;
use std::path::PathBuf;

use egressd_model::{Verdict, parse};

/// Cases where egressd deliberately answers otherwise, each with its reason.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// The conformance data, or nothing with a word about it.
fn conformance() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance");
    let folder = std::env::var_os("EGRESSD_CONFORMANCE")
        .map_or_else(|| PathBuf::from(beside), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let required =
        std::env::var_os("EGRESSD_REQUIRE_CONFORMANCE").is_some_and(|value| value == "1");
    assert!(!required, "no conformance data in {}", folder.display());
    println!(
        "SKIPPED: no conformance data in {}; set EGRESSD_CONFORMANCE to its folder",
        folder.display()
    );
    None
}

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
        println!("exception: {path}: {reason}");
    }
    println!("{} of {} verdicts agree", cases.len() - wrong.len(), cases.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
