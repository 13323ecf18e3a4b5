//! `cargo xtask bench tables`: what resources cost to read, to compile, to decide by, and to change.
//!
//! Measured by `tests/bench/tables`, each measurement in a process of its own, in processor time of
//! its one thread. A row for each step says which one to look at when a goal is missed.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

use super::{Goal, Report};
use crate::{cmd, paths};

/// ServiceEntries and VirtualServices of a small and of a large node.
const SMALL: [u32; 2] = [10, 2];
const LARGE: [u32; 2] = [10_000, 2_000];
/// Processes from whose measurements of a first generation the middle one is taken.
const COLD_ROUNDS: usize = 3;

/// What a first generation of the large node may take, in milliseconds.
const COLD_LIMIT: f64 = 1_500.0;
/// What it may need at one time, in mebibytes (300 MB).
const PEAK_LIMIT: f64 = 300e6 / MIB;
/// What one decision may take, in microseconds.
const DECISION_LIMIT: f64 = 1.0;
/// What a decision of the large node may take beside the same one of the small node, both made again
/// and again. A search through services would take a thousand times as long.
const FLAT_LIMIT: f64 = 1.5;
/// What a changed file may take to a new generation, in milliseconds.
const CHANGE_LIMIT: f64 = 60.0;

const MIB: f64 = 1_048_576.0;

/// Ways to call a service: the program's name for it, and ours.
const WAYS: [(&str, &str); 5] = [
    ("tcp", "decide: TCP, virtual address"),
    ("tls", "decide: TLS, virtual address"),
    ("http", "decide: HTTP, virtual address"),
    ("http-elsewhere", "decide: HTTP, by Host alone"),
    ("unknown", "decide: no service"),
];

/// Changes of one file: the program's name for them, and ours.
const CHANGES: [(&str, &str); 4] = [
    ("endpoints", "changed endpoints"),
    ("rule", "changed VirtualService"),
    ("addresses", "changed addresses"),
    ("hosts", "one more host"),
];

pub(super) fn run() -> Result<Report> {
    let build = ["--release", "--package", "egressd-bench-tables"];
    let program = cmd::built_program(&build, "egressd-bench-tables")?;
    let small = measure(&program, "small", SMALL)?;
    let large = measure(&program, "large", LARGE)?;
    report(&small, &large)
}

/// Values by name.
type Figures = BTreeMap<String, f64>;

fn measure(program: &Path, name: &str, [entries, rules]: [u32; 2]) -> Result<Figures> {
    let folder = Folder::new(name)?;
    let numbers = [entries.to_string(), rules.to_string()];
    figures(program, "write", &folder.0, &numbers)?;
    let mut rounds = Vec::new();
    for _ in 0..COLD_ROUNDS {
        rounds.push(figures(program, "cold", &folder.0, &[])?);
    }
    rounds.sort_by(|a, b| a.get("total").partial_cmp(&b.get("total")).unwrap_or(Ordering::Equal));
    let mut all = rounds.swap_remove(COLD_ROUNDS / 2);
    all.extend(figures(program, "decide", &folder.0, &[])?);
    all.extend(figures(program, "change", &folder.0, &[])?);
    Ok(all)
}

fn figures(program: &Path, verb: &str, folder: &Path, numbers: &[String]) -> Result<Figures> {
    let program = program.to_string_lossy();
    let text = cmd::stdout(cmd::command(&program).arg(verb).arg(folder).args(numbers))?;
    let lines = text.lines().map(|line| {
        let (name, value) = line.split_once(' ').with_context(|| format!("no figure: {line}"))?;
        Ok((name.to_owned(), value.parse().with_context(|| format!("no number: {line}"))?))
    });
    lines.collect()
}

/// A folder under `target` that goes when this goes.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = paths::root().join("target/tmp").join(format!("bench-{name}-{}", process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.0).is_err() {
            cmd::say(&format!("{} could not be removed", self.0.display()));
        }
    }
}

fn report(small: &Figures, large: &Figures) -> Result<Report> {
    let value = |figures: &Figures, name: &str| {
        figures.get(name).copied().with_context(|| format!("{name} was not measured"))
    };
    let row = |text: &str, name: &str, unit: Unit| -> Result<[String; 4]> {
        let (few, many) = (value(small, name)?, value(large, name)?);
        Ok([text.to_owned(), unit.show(few), unit.show(many), unit.difference(few, many)])
    };
    let head = ["processor time", "10 services", "10,000 services", "difference"];
    let mut table = vec![head.map(str::to_owned)];
    for (name, text) in [
        ("parse", "read, parse, validate"),
        ("assemble", "assemble"),
        ("allocate", "virtual addresses"),
        ("compile", "compile"),
        ("total", "first generation"),
    ] {
        table.push(row(text, name, Unit::Milliseconds)?);
    }
    table.push(row("peak of memory", "peak", Unit::Mebibytes)?);
    for (name, text) in WAYS {
        table.push(row(text, name, Unit::Microseconds)?);
        table.push(row(&format!("{text}, again"), &format!("{name}-few"), Unit::Microseconds)?);
    }
    for (prefix, what) in CHANGES {
        for step in ["parse", "assemble", "allocate", "compile", "diff", "middle", "most"] {
            let text = match step {
                "diff" => format!("{what}: kernel rows' difference"),
                "middle" => format!("{what}: median"),
                "most" => format!("{what}: worst"),
                _ => format!("{what}: {step}"),
            };
            table.push(row(&text, &format!("{prefix}-{step}"), Unit::Milliseconds)?);
        }
    }
    let mut goals = Vec::new();
    let mut goal = |text: &str, found: f64, limit: f64, unit: &str| {
        let text = format!("{text}: {found:.2} {unit}, limit {limit:.2} {unit}");
        goals.push(Goal { text, met: found <= limit });
    };
    let milliseconds = |name: &str| Ok::<_, anyhow::Error>(value(large, name)? / 1e6);
    goal("first generation of 10,000", milliseconds("total")?, COLD_LIMIT, "ms");
    goal("peak of memory", value(large, "peak")? / MIB, PEAK_LIMIT, "MiB");
    for (name, text) in WAYS {
        let (few, many) = (value(small, name)? / 1e3, value(large, name)? / 1e3);
        goal(&format!("{text}, of 10"), few, DECISION_LIMIT, "µs");
        goal(&format!("{text}, of 10,000"), many, DECISION_LIMIT, "µs");
        let again = format!("{name}-few");
        let (few, many) = (value(small, &again)?, value(large, &again)?);
        goal(&format!("{text}, of 10,000 beside 10"), many / few, FLAT_LIMIT, "times");
    }
    for (prefix, what) in CHANGES {
        let found = milliseconds(&format!("{prefix}-middle"))?;
        goal(&format!("{what}, in one file of 10,000"), found, CHANGE_LIMIT, "ms");
    }
    Ok(Report { table: table.into_iter().map(Vec::from).collect(), goals })
}

#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    Microseconds,
    Mebibytes,
}

impl Unit {
    fn scale(self) -> (f64, &'static str) {
        match self {
            Self::Milliseconds => (1e6, "ms"),
            Self::Microseconds => (1e3, "µs"),
            Self::Mebibytes => (MIB, "MiB"),
        }
    }

    fn show(self, value: f64) -> String {
        let (scale, name) = self.scale();
        format!("{:.2} {name}", value / scale)
    }

    fn difference(self, few: f64, many: f64) -> String {
        let (scale, name) = self.scale();
        format!("{:+.2} {name}", (many - few) / scale)
    }
}
