//! The seeds' cases: the verdict on every document, and every finding.
//!
//! `UPDATE_EXPECT=1` writes what is found into `expected.jsonl`; the differences are then to be read.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{egressd, root};

#[test]
fn every_case_has_its_verdicts_and_findings() {
    let mut wrong = Vec::new();
    for case in cases() {
        let found = found(&case);
        let file = case.join("expected.jsonl");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&file, &found).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}\nexpected:\n{expected}found:\n{found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_38_are_there() {
    let numbers: BTreeSet<u32> = cases()
        .iter()
        .map(|case| case.file_name().unwrap().to_str().unwrap()[..3].parse().unwrap())
        .collect();
    assert_eq!(numbers, (1..=38).collect());
}

/// A line a document: what it is, its verdict, and its findings with their places.
fn found(case: &Path) -> String {
    let with_config = case.join("egressd.yaml").exists();
    let path = if with_config { case.to_owned() } else { case.join("resources.yaml") };
    let run = egressd(&["check", "--output", "json", path.to_str().unwrap()]);
    let mut text = String::new();
    for line in run.stdout.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        let findings: Vec<_> = document["diagnostics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                let word = |key: &str| one[key].as_str().unwrap().to_owned();
                let place = format!("line {}", one["line"]);
                [word("severity"), word("code"), word("field"), place].join(" ")
            })
            .collect();
        let line = json!({
            "kind": document["kind"],
            "name": document["name"],
            "verdict": document["verdict"],
            "findings": findings,
        });
        text.push_str(&format!("{line}\n"));
    }
    let rejected = text.contains("\"verdict\":\"reject\"");
    assert_eq!(run.status, i32::from(rejected), "{}: {}", case.display(), run.stderr);
    text
}

fn cases() -> Vec<PathBuf> {
    let folder = root().join("tests/data/seeds");
    let mut cases: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}
