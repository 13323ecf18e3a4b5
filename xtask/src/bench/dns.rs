//! `cargo xtask bench dns`: names answered by egressd beside unbound, names forwarded, and what
//! 20,000 of them cost.
//!
//! The load is dnsperf with two threads, and so have both servers. Applications ask a server in
//! another namespace, and egressd answers in its place: their load is inside the captured cgroup.
//! unbound answers on loopback of the same namespace, out of its cache, to a load that is not
//! captured. Every round asks each in turn.
//!
//! Rates are those of a closed loop; times are taken at a fixed rate that is far below them, where
//! they say something of the server and not of the queue before it.

mod load;
mod memory;
mod places;
mod report;

use std::thread;

use anyhow::{Result, bail};

use self::{
    load::{Ask, Found, Question},
    memory::Memory,
    places::{Place, Places},
};
use super::{Report, stats::Rounds};
use crate::{cmd, setup};

/// Rounds of every case.
const ROUNDS: usize = 9;
/// Names of a large and of a small table.
const MANY: u32 = 20_000;
const FEW: u32 = 10;

/// What is found of one case, each value once a round.
#[derive(Debug, Default)]
struct Case {
    /// Queries a second, in a closed loop.
    rate: Rounds,
    /// The middle of the times, in microseconds.
    median: Rounds,
    /// The time that one in a hundred exceeds, in microseconds.
    slow: Rounds,
}

impl Case {
    fn rate(&mut self, place: &Place<'_>, ask: &Ask) -> Result<()> {
        self.rate.push(load::rate(place, ask)?);
        Ok(())
    }

    fn times(&mut self, place: &Place<'_>, ask: &Ask) -> Result<()> {
        let Found { median, slow } = load::times(place, ask)?;
        self.median.push(median);
        self.slow.push(slow);
        Ok(())
    }
}

/// Every case.
#[derive(Debug, Default)]
struct Cases {
    /// Known names: unbound's cache, egressd as an application sees it, and its server alone.
    unbound: Case,
    captured: Case,
    server: Case,
    /// The same few names, of a table that has only them and of the large one.
    few: Case,
    of_many: Case,
    /// Other names: the upstream asked directly, and by way of egressd.
    direct: Case,
    forwarded: Case,
}

pub(super) fn run() -> Result<Report> {
    if !setup::is_root()? {
        bail!("the benchmark makes namespaces and loads eBPF programs, which needs root");
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    cmd::say(&format!("{threads} processors, {ROUNDS} rounds"));
    let daemon = cmd::daemon(&["--release"])?;
    let memory = Memory::measure(&daemon, MANY)?;
    let places = Places::start(&daemon, MANY, FEW)?;
    let mut cases = Cases::default();
    let [known, few, other] = [Question::Known(MANY), Question::Known(FEW), Question::Other]
        .map(|question| Ask::new(question, places.folder()));
    let (known, few, other) = (known?, few?, other?);
    // Once for all names, so that unbound has them in its cache.
    load::rate(&places.unbound(), &known)?;
    for round in 0..ROUNDS {
        cmd::say(&format!("round {} of {ROUNDS}", round + 1));
        let steps: [&mut dyn FnMut() -> Result<()>; 4] = [
            &mut || cases.unbound.rate(&places.unbound(), &known),
            &mut || cases.captured.rate(&places.captured(), &known),
            &mut || cases.server.rate(&places.server(), &known),
            &mut || cases.few.rate(&places.small(), &few),
        ];
        // Each round begins elsewhere, so that no case always follows the same one.
        let count = steps.len();
        let mut steps = Vec::from(steps);
        steps.rotate_left(round % count);
        for step in steps {
            step()?;
        }
        cases.of_many.rate(&places.server(), &few)?;
        for turn in 0..2 {
            if (turn + round) % 2 == 0 {
                cases.unbound.times(&places.unbound(), &known)?;
                cases.direct.times(&places.direct(), &other)?;
            } else {
                cases.captured.times(&places.captured(), &known)?;
                cases.forwarded.times(&places.captured(), &other)?;
            }
        }
    }
    Ok(report::report(&cases, &memory))
}
