//! The measurements.

use std::{fs, hint::black_box, path::Path};

use anyhow::{Result, bail};
use egressd_tables::{Call, Tables};

use crate::{
    calls::{self, WAYS},
    clock::{middle_and_most, peak, timed},
    node::{Large, Steps},
    resources,
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

/// One changed file to a new generation, and what of it the kernel must learn. Each round changes
/// another file; every second one a VirtualService.
pub(crate) fn change(folder: &Path) -> Result<Figures> {
    let (entries, rules) = (count(folder, "entry-")?, count(folder, "rule-")?);
    if rules == 0 {
        bail!("there is no VirtualService to change");
    }
    let mut large = Large::read(folder)?;
    let mut tables = large.compile()?;
    let (mut entry_rounds, mut rule_rounds) = (Vec::new(), Vec::new());
    for round in 1..=CHANGES {
        let n = round * STRIDE;
        let (path, text, rounds) = if round % 2 == 0 {
            let n = n % rules;
            (resources::rule_path(folder, n), resources::rule(n, round), &mut rule_rounds)
        } else {
            let n = n % entries;
            (resources::entry_path(folder, n), resources::entry(n, round), &mut entry_rounds)
        };
        fs::write(&path, text)?;
        large.refresh(path)?;
        let next = large.compile()?;
        let (diff, time) = timed(|| tables.kernel_rows().diff(next.kernel_rows()))?;
        drop(black_box(diff));
        rounds.push((large.steps, time));
        tables = next;
    }
    let mut figures = Figures::new();
    for (prefix, rounds) in [("entry-", entry_rounds), ("rule-", rule_rounds)] {
        let totals = rounds.iter().map(|(steps, diff)| steps.total() + diff).collect();
        let (middle, most) = middle_and_most(totals);
        let near = |(steps, diff): &&(Steps, u64)| (steps.total() + diff).abs_diff(middle);
        if let Some((steps, diff)) = rounds.iter().min_by_key(near) {
            figures.extend(named(prefix, *steps));
            figures.push((format!("{prefix}diff"), *diff));
        }
        figures.push((format!("{prefix}middle"), middle));
        figures.push((format!("{prefix}most"), most));
    }
    Ok(figures)
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

/// Rounds of each way.
const ROUNDS: usize = 15;
/// Services whose decisions are made again and again.
const FEW: usize = 2;
/// Decisions a round.
const DECISIONS: usize = 20_000;
/// Files that are changed.
const CHANGES: usize = 20;
/// A prime, so that changes are spread.
const STRIDE: usize = 613;
