//! The measurements.

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use egressd_tables::{Call, Tables};

use crate::{
    calls::{self, WAYS},
    clock::{middle_and_most, peak, timed},
    node::{Large, Steps},
    resources::{self, Edit, KINDS},
};

/// Names and values.
pub(crate) type Figures = Vec<(String, u64)>;

/// From files to tables, for the first time.
pub(crate) fn cold(folder: &Path) -> Result<Figures> {
    let mut large = Large::read(folder)?;
    let tables = large.compile()?;
    let peak = peak()?;
    drop(tables);
    let mut figures = named("", large.steps);
    figures.push(("peak".to_owned(), peak));
    Ok(figures)
}

/// One decision, of each way to call a service.
pub(crate) fn decide(folder: &Path) -> Result<Figures> {
    let tables = Large::read(folder)?.compile()?;
    let entries = count(folder, "entry-")?;
    let mut figures = Figures::new();
    for (name, way) in WAYS {
        let targets = calls::targets(&tables, entries, way)?;
        let calls: Vec<_> = targets.iter().map(|target| target.call(way)).collect();
        figures.push((name.to_owned(), decisions(&tables, &calls)?));
        // The same few at any size: what is left is what the number of services costs, and not what
        // a larger part of memory does.
        let few = calls.get(..FEW.min(calls.len())).unwrap_or_default();
        figures.push((format!("{name}-few"), decisions(&tables, few)?));
    }
    Ok(figures)
}

/// Nanoseconds of one decision, the calls taking turns.
fn decisions(tables: &Tables, calls: &[Call<'_>]) -> Result<u64> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let ((), time) = timed(|| {
            for call in calls.iter().cycle().take(DECISIONS) {
                drop(black_box(tables.answer(black_box(call))));
            }
        })?;
        rounds.push(time / DECISIONS as u64);
    }
    Ok(middle_and_most(rounds).0)
}

/// One changed file to a new generation, and what of it the kernel must learn: every kind of change
/// in turn, each round in another file. What comes of it is compared with what a fresh start gives.
pub(crate) fn change(folder: &Path) -> Result<Figures> {
    let (entries, rules) = (count(folder, "entry-")?, count(folder, "rule-")?);
    let mut large = Large::read(folder)?;
    let mut tables = large.compile()?;
    let mut figures = Figures::new();
    for (name, kind) in CHANGES {
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            let (path, text) = kind.file(folder, round, entries, rules);
            fs::write(&path, text)?;
            large.refresh(path)?;
            let next = large.compile()?;
            let (diff, time) = timed(|| tables.kernel_rows().diff(next.kernel_rows()))?;
            drop(black_box(diff));
            rounds.push((large.steps, time));
            if tables == next {
                bail!("round {round} of {name} changed a file and nothing else");
            }
            tables = next;
        }
        large.verify(&tables)?;
        let totals = rounds.iter().map(|(steps, diff)| steps.total() + diff).collect();
        let (middle, most) = middle_and_most(totals);
        let near = |(steps, diff): &&(Steps, u64)| (steps.total() + diff).abs_diff(middle);
        if let Some((steps, diff)) = rounds.iter().min_by_key(near) {
            figures.extend(named(&format!("{name}-"), *steps));
            figures.push((format!("{name}-diff"), *diff));
        }
        figures.push((format!("{name}-middle"), middle));
        figures.push((format!("{name}-most"), most));
    }
    Ok(figures)
}

/// What changes in a file.
enum Change {
    Entry(Edit),
    Rule,
}

/// Every kind of change.
const CHANGES: [(&str, Change); 4] = [
    ("endpoints", Change::Entry(Edit::Endpoints)),
    ("rule", Change::Rule),
    ("addresses", Change::Entry(Edit::Addresses)),
    ("hosts", Change::Entry(Edit::Hosts)),
];

impl Change {
    /// The file of a round, and its new text.
    fn file(&self, folder: &Path, round: usize, entries: usize, rules: usize) -> (PathBuf, String) {
        let n = round * STRIDE;
        match self {
            Self::Entry(edit) => {
                let kind = match edit {
                    Edit::Endpoints => [0, 1, 3][round % 3],
                    Edit::Addresses => 2 + round % 2,
                    Edit::Hosts => round % 2,
                };
                let n = n % (entries / KINDS) * KINDS + kind;
                (resources::entry_path(folder, n), resources::entry(n, *edit, round))
            }
            Self::Rule => {
                let n = n % rules.max(1);
                (resources::rule_path(folder, n), resources::rule(n, round))
            }
        }
    }
}

fn named(prefix: &str, steps: Steps) -> Figures {
    let Steps { parse, assemble, allocate, compile } = steps;
    let all = [
        ("parse", parse),
        ("assemble", assemble),
        ("allocate", allocate),
        ("compile", compile),
        ("total", steps.total()),
    ];
    all.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
}

fn count(folder: &Path, prefix: &str) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        count += usize::from(entry?.file_name().to_string_lossy().starts_with(prefix));
    }
    Ok(count)
}

/// Rounds of each measurement.
const ROUNDS: usize = 15;
/// Services whose decisions are made again and again.
const FEW: usize = 2;
/// Decisions a round.
const DECISIONS: usize = 20_000;
/// A prime, so that changes are spread.
const STRIDE: usize = 613;
