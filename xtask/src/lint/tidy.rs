//! House rules that no other tool checks: file sizes, module docs, words, and what git tracks.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{cmd, paths};

/// Lines of code a file may have, tests and comments not counted.
const CEILING: usize = 800;
/// Lines of code from which a file is named in a warning.
const LARGE: usize = 500;

/// Endings and names of files that are made by a tool and do not belong in git.
const GENERATED: [&str; 8] =
    [".o", ".so", ".a", ".rlib", ".profraw", ".pyc", ".orig", "bindings.rs"];

/// Text that has no place in the project, and why.
const BANNED: [(&str, &str); 3] = [
    ("#[ignore", "a test that does not run shows nothing"),
    ("#[should_panic", "assert the behaviour instead"),
    ("#[allow(", "use #[expect(lint, reason = \"…\")]"),
];

pub(crate) fn check() -> Result<()> {
    let listed = cmd::stdout(cmd::command("git").args(["ls-files", "-z"]))?;
    let mut wrong = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let path = paths::root().join(name);
        if GENERATED.iter().any(|ending| name.ends_with(ending)) || name.starts_with("target/") {
            wrong.push(format!("{name}: generated, but tracked by git"));
        }
        if name.ends_with(".rs") && path.is_file() {
            wrong.extend(check_source(name, &path)?);
        }
    }
    if !wrong.is_empty() {
        bail!("untidy:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

fn check_source(name: &str, path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let mut wrong = Vec::new();
    let lines = lines_of_code(&text);
    if lines > CEILING {
        wrong.push(format!("{name}: {lines} lines of code; the ceiling is {CEILING}"));
    } else if lines > LARGE {
        cmd::say(&format!("warning: {name}: {lines} lines of code; can it be split by noun?"));
    }
    if !has_module_docs(&text) {
        wrong.push(format!("{name}: begins without //! docs"));
    }
    // This file names the banned words.
    if name != "xtask/src/lint/tidy.rs" {
        for (number, line) in text.lines().enumerate() {
            for (word, reason) in BANNED {
                if line.contains(word) {
                    wrong.push(format!("{name}:{}: {word}…: {reason}", number + 1));
                }
            }
        }
    }
    Ok(wrong)
}

/// Lines that hold code, up to the unit tests, which come last.
fn lines_of_code(text: &str) -> usize {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

/// Whether the first lines, inner attributes aside, are module docs.
fn has_module_docs(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.find(|line| !line.starts_with("#![")).is_some_and(|line| line.starts_with("//!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_counted_without_comments_and_tests() {
        let text = "//! Docs.\n\n// Why.\nfn a() {}\n    fn b() {}\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(lines_of_code(text), 2);
    }

    #[test]
    fn docs_may_follow_inner_attributes() {
        assert!(has_module_docs("#![no_std]\n//! Docs.\n"));
        assert!(!has_module_docs("use std::fs;\n//! Late.\n"));
    }
}
