//! The table, and what the goals say about it.

use super::{Case, Memory, peers::Kind};
use crate::bench::{
    Goal, Report,
    figure::{Figure, Found, median},
    goal::{Wanted, number, row},
};

const KIB: f64 = 1024.0;
const MIB: f64 = KIB * KIB;
/// What a proxy just started may have resident, in bytes.
const START_LIMIT: f64 = 14.0 * MIB;
/// What a connection that waits may take, in bytes.
const CONNECTION_LIMIT: f64 = 3.5 * KIB;

/// A row: its name, the case and the figure, and by what to divide for the unit of the name.
const ROWS: [(&str, Case, Figure, f64); 16] = [
    ("connect and first reply, µs", Case::Connect, Figure::Median, 1.0),
    ("- slowest in 100, µs", Case::Connect, Figure::Slow, 1.0),
    ("the same by SNI, µs", Case::Sni, Figure::Median, 1.0),
    ("- slowest in 100, µs", Case::Sni, Figure::Slow, 1.0),
    ("64 B on 16 connections, 1/s", Case::Requests, Figure::Rate, 1.0),
    ("- slowest in 100, µs", Case::Requests, Figure::Slow, 1.0),
    ("- proxy ms per 10,000", Case::Requests, Figure::Cpu, 1.0),
    ("new connections, 1/s", Case::Storm, Figure::Rate, 1.0),
    ("- slowest in 100, µs", Case::Storm, Figure::Slow, 1.0),
    ("- proxy ms per 10,000", Case::Storm, Figure::Cpu, 1.0),
    ("download, Gbit/s", Case::Download, Figure::Rate, 1e9),
    ("- proxy ms per GB", Case::Download, Figure::Cpu, 1.0),
    ("16 downloads, Gbit/s", Case::Downloads, Figure::Rate, 1e9),
    ("- proxy ms per GB", Case::Downloads, Figure::Cpu, 1.0),
    ("upload, Gbit/s", Case::Upload, Figure::Rate, 1e9),
    ("- proxy ms per GB", Case::Upload, Figure::Cpu, 1.0),
];

/// A goal: what, and the part of the best other that is wanted, at most or at least.
const GOALS: [(&str, Case, Figure, Wanted); 9] = [
    ("connect and first reply", Case::Connect, Figure::Median, Wanted::AtMost(0.80)),
    ("the same by SNI", Case::Sni, Figure::Median, Wanted::AtMost(0.85)),
    ("64 B on 16 connections", Case::Requests, Figure::Rate, Wanted::AtLeast(1.15)),
    ("processor for these", Case::Requests, Figure::Cpu, Wanted::AtMost(0.80)),
    ("new connections", Case::Storm, Figure::Rate, Wanted::AtLeast(1.15)),
    ("download", Case::Download, Figure::Rate, Wanted::AtLeast(1.0)),
    ("16 downloads", Case::Downloads, Figure::Rate, Wanted::AtLeast(1.0)),
    ("processor for a download", Case::Download, Figure::Cpu, Wanted::AtMost(1.0)),
    ("processor for 16 downloads", Case::Downloads, Figure::Cpu, Wanted::AtMost(1.0)),
];

pub(super) fn report(kinds: &[Kind], found: &[Found<Case>], memory: &[Memory]) -> Report {
    let head = kinds.iter().map(|kind| kind.name().to_owned());
    let mut table = vec![row("median of rounds", head)];
    for (name, case, figure, unit) in ROWS {
        let cells = kinds.iter().zip(found).map(|(kind, found)| {
            let idle = *kind == Kind::Direct && figure == Figure::Cpu;
            if idle { String::new() } else { number(median(found, case, figure) / unit) }
        });
        table.push(row(name, cells));
    }
    let cell = |value: f64| if value.is_nan() { String::new() } else { number(value) };
    let start = memory.iter().map(|memory| cell(memory.start.median() / MIB));
    table.push(row("resident at the start, MiB", start));
    let each = memory.iter().map(|memory| cell(memory.connection.median() / KIB));
    table.push(row("- per waiting connection, KiB", each));
    Report { table, goals: goals(kinds, found, memory) }
}

fn goals(kinds: &[Kind], found: &[Found<Case>], memory: &[Memory]) -> Vec<Goal> {
    let Some(ours) = kinds.iter().position(|kind| *kind == Kind::Egressd) else {
        return Vec::new();
    };
    let mut goals: Vec<_> = GOALS
        .into_iter()
        .map(|(name, case, figure, wanted)| {
            let others = kinds.iter().zip(found).filter(|(kind, _)| kind.is_other());
            let others = others.map(|(kind, found)| (kind.name(), median(found, case, figure)));
            let (best, value) = wanted.best(others).unwrap_or(("nobody", f64::NAN));
            let ratio = median(&found[ours], case, figure) / value;
            Goal {
                text: format!("{name}: {ratio:.2} × {best}, wanted {}", wanted.words()),
                met: wanted.is_met(ratio),
            }
        })
        .collect();
    let limits = [
        ("resident at the start", &memory[ours].start, START_LIMIT, MIB, "MiB"),
        ("per waiting connection", &memory[ours].connection, CONNECTION_LIMIT, KIB, "KiB"),
    ];
    goals.extend(limits.map(|(name, rounds, limit, unit, word)| {
        let value = rounds.median();
        let (shown, limit_shown) = (value / unit, limit / unit);
        let text = format!("{name}: {shown:.1} {word}, limit {limit_shown:.1} {word}");
        Goal { text, met: value <= limit }
    }));
    goals
}
