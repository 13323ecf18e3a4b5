//! The table, and what the goals say about it.

use super::{Case, peers::Kind};
use crate::bench::{
    Goal, Report,
    figure::{Figure, Found, median},
    goal::{Wanted, number, row},
};

const MIB: f64 = 1024.0 * 1024.0;
/// How much memory may grow under load, once it has settled.
const GROWTH_LIMIT: f64 = 1.05;

/// A row: its name, the case and the figure.
const ROWS: [(&str, Case, Figure); 9] = [
    ("GET on 1 connection, µs", Case::One, Figure::Median),
    ("- slowest in 100, µs", Case::One, Figure::Slow),
    ("GET on 32 connections, 1/s", Case::Many, Figure::Rate),
    ("- slowest in 100, µs", Case::Many, Figure::Slow),
    ("- proxy ms per 10,000", Case::Many, Figure::Cpu),
    ("HTTP/2, 32 at once, 1/s", Case::Http2, Figure::Rate),
    ("- proxy ms per 10,000", Case::Http2, Figure::Cpu),
    ("gRPC unary, 32 at once, 1/s", Case::Grpc, Figure::Rate),
    ("- proxy ms per 10,000", Case::Grpc, Figure::Cpu),
];

/// A goal: what, and the part of the best other, or of Envoy, that is wanted.
const GOALS: [(&str, Case, Figure, Against, Wanted); 7] = [
    ("GET on 1 connection", Case::One, Figure::Median, Against::Best, Wanted::AtMost(1.0)),
    ("slowest in 100", Case::One, Figure::Slow, Against::Best, Wanted::AtMost(1.0)),
    ("GET on 32", Case::Many, Figure::Rate, Against::Envoy, Wanted::AtLeast(2.5)),
    ("GET on 32", Case::Many, Figure::Rate, Against::Best, Wanted::AtLeast(0.9)),
    ("processor for these", Case::Many, Figure::Cpu, Against::Best, Wanted::AtMost(1.13)),
    ("HTTP/2", Case::Http2, Figure::Rate, Against::Envoy, Wanted::AtLeast(1.5)),
    ("gRPC unary", Case::Grpc, Figure::Rate, Against::Envoy, Wanted::AtLeast(1.5)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    Best,
    Envoy,
}

pub(super) fn report(kinds: &[Kind], found: &[Found<Case>], memory: &[f64]) -> Report {
    let head = kinds.iter().map(|kind| kind.name().to_owned());
    let mut table = vec![row("median of rounds", head)];
    for (name, case, figure) in ROWS {
        let cells = kinds.iter().zip(found).map(|(kind, found)| {
            let idle = *kind == Kind::Direct && figure == Figure::Cpu;
            if idle { String::new() } else { number(median(found, case, figure)) }
        });
        table.push(row(name, cells));
    }
    let mut goals = goals(kinds, found);
    goals.extend(of_rules(kinds, found));
    goals.push(of_memory(memory));
    Report { table, goals }
}

fn goals(kinds: &[Kind], found: &[Found<Case>]) -> Vec<Goal> {
    let ours = |case, figure| of(kinds, found, Kind::Egressd, case, figure);
    let mut goals = Vec::new();
    for (name, case, figure, against, wanted) in GOALS {
        let others = kinds.iter().zip(found).filter(|(kind, _)| match against {
            Against::Best => kind.is_other(),
            Against::Envoy => **kind == Kind::Envoy,
        });
        let others = others.map(|(kind, found)| (kind.name(), median(found, case, figure)));
        // Where Envoy is not installed nothing is said about it.
        let Some((best, value)) = wanted.best(others) else { continue };
        let ratio = ours(case, figure) / value;
        let text = format!("{name}: {ratio:.2} × {best}, wanted {}", wanted.words());
        goals.push(Goal { text, met: wanted.is_met(ratio) });
    }
    goals
}

/// What many rules cost.
fn of_rules(kinds: &[Kind], found: &[Found<Case>]) -> Option<Goal> {
    let rate = |kind| {
        let at = kinds.iter().position(|one| *one == kind)?;
        found[at].get(&(Case::Many, Figure::Rate))
    };
    let (with, without) = (rate(Kind::Rules)?, rate(Kind::Egressd)?);
    // Within each round, as the machine is not the same in all of them.
    let change = with.over(without) / without.median();
    let text = format!("20,000 rules change GET on 32 by {:.1} %, at most -3 %", change * 100.0);
    Some(Goal { text, met: change >= -0.03 })
}

fn of_memory(samples: &[f64]) -> Goal {
    let highest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (first, rest) = samples.split_at(samples.len() / 3);
    let (before, after) = (highest(first), highest(rest));
    let text = format!(
        "memory under load for {} s: {:.1} MiB in the first third, {:.1} MiB later, at most {:.2} ×",
        samples.len(),
        before / MIB,
        after / MIB,
        GROWTH_LIMIT
    );
    Goal { text, met: after <= before * GROWTH_LIMIT }
}

fn of(kinds: &[Kind], found: &[Found<Case>], kind: Kind, case: Case, figure: Figure) -> f64 {
    let at = kinds.iter().position(|one| *one == kind);
    at.and_then(|at| found.get(at)).map_or(f64::NAN, |found| median(found, case, figure))
}
