//! The table and the goals.

use super::{
    Case, Cases, FEW, MANY,
    memory::{Memory, Use},
};
use crate::bench::{Goal, Report, stats::Rounds};

/// What a forwarded query may take more than one asked directly, in microseconds at the median.
const FORWARD_LIMIT: f64 = 100.0;
/// What names may cost, in bytes.
const MEMORY_LIMIT: f64 = 30e6;
/// What the rate of a large table may differ from that of a small one before one calls it
/// measurable; the spread between rounds is allowed besides.
const FLAT_LIMIT: f64 = 0.02;

pub(super) fn report(cases: &Cases, memory: &Memory) -> Report {
    let Cases { unbound, captured, server, few, of_many, direct, forwarded } = cases;
    let head = ["median of rounds", "queries/s", "median", "p99"].map(str::to_owned).to_vec();
    let mut table = vec![
        head,
        row(&format!("{MANY} known names: unbound, cache"), unbound),
        row(&format!("{MANY} known names: egressd, captured"), captured),
        row(&format!("{MANY} known names: egressd's server"), server),
        row(&format!("{FEW} names of {FEW}: egressd's server"), few),
        row(&format!("{FEW} names of {MANY}: egressd's server"), of_many),
        row("other names: upstream, directly", direct),
        row("other names: egressd, captured", forwarded),
    ];
    table.push(["memory", "resident", "maps", "both"].map(str::to_owned).to_vec());
    let Memory { empty, services, names } = *memory;
    table.push(weight("daemon without hosts", empty));
    table.push(weight(&format!("{MANY} hosts, names off"), less(services, empty)));
    table.push(weight(&format!("{MANY} hosts, names on"), less(names, empty)));
    let cost = less(names, services);
    table.push(weight("difference: what names cost", cost));

    let mut goals = Vec::new();
    let mut goal = |text: String, met| goals.push(Goal { text, met });
    for (who, case) in [("captured", captured), ("the server alone", server)] {
        let ratio = case.rate.ratio(&unbound.rate);
        let text = format!("known names, {who}: {ratio:.2} of unbound's queries/s, limit 1.00");
        goal(text, ratio >= 1.0);
    }
    let (ours, theirs) = (captured.slow.median(), unbound.slow.median());
    goal(format!("known names, p99: {ours:.0} µs, unbound {theirs:.0} µs"), ours <= theirs);
    let added = forwarded.median.over(&direct.median);
    goal(
        format!("forwarded names: {added:+.0} µs at the median, limit {FORWARD_LIMIT:.0} µs"),
        added <= FORWARD_LIMIT,
    );
    let ratio = of_many.rate.ratio(&few.rate);
    let noise = (few.rate.spread() + of_many.rate.spread()) / few.rate.median();
    let limit = 1.0 - FLAT_LIMIT - noise;
    goal(
        format!("the same names in a table of {MANY}: {ratio:.2} of the rate, limit {limit:.2}"),
        ratio >= limit,
    );
    let bytes = cost.resident + cost.kernel;
    goal(
        format!("names of {MANY} hosts: {}, limit {}", mega(bytes), mega(MEMORY_LIMIT)),
        bytes <= MEMORY_LIMIT,
    );
    Report { table, goals }
}

fn row(name: &str, case: &Case) -> Vec<String> {
    let or_dash = |rounds: &Rounds, unit: &str| match rounds.median() {
        value if value.is_nan() => "-".to_owned(),
        value => format!("{value:.0}{unit}"),
    };
    let cells = [or_dash(&case.rate, ""), or_dash(&case.median, " µs"), or_dash(&case.slow, " µs")];
    std::iter::once(name.to_owned()).chain(cells).collect()
}

fn weight(name: &str, used: Use) -> Vec<String> {
    let both = used.resident + used.kernel;
    [name.to_owned(), mega(used.resident), mega(used.kernel), mega(both)].to_vec()
}

fn less(one: Use, other: Use) -> Use {
    Use { resident: one.resident - other.resident, kernel: one.kernel - other.kernel }
}

fn mega(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}
