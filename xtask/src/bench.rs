//! `cargo xtask bench NAME`: a table measured side by side in one run, and a line for each goal.
//! `--record` also puts both into `tests/bench/README.md`.

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use crate::cmd;

mod capture;
mod dns;
mod figure;
mod goal;
mod http;
mod peer;
mod place;
mod record;
mod session;
mod stats;
mod tables;
mod tcp;
mod usage;

/// Arguments of `cargo xtask bench`.
#[derive(Parser)]
pub(crate) struct Args {
    /// What to measure.
    name: Name,
    /// Put the results into `tests/bench/README.md`, in the place of those before.
    #[arg(long)]
    record: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// connect() without and with the hook; round trips and bulk, direct and through the proxy.
    Capture,
    /// Names answered beside unbound, names forwarded, and the memory of 20,000.
    Dns,
    /// Small requests over HTTP/1 and HTTP/2, and the weight of rules, beside other proxies.
    Http,
    /// Reading, compiling, deciding and changing 10,000 services.
    Tables,
    /// Connections, small requests, bulk and memory beside other proxies.
    Tcp,
}

impl Name {
    /// Whether it is measured in a session of its own, before other work on the machine.
    fn goes_first(self) -> bool {
        match self {
            Self::Dns | Self::Http | Self::Tcp => true,
            Self::Capture | Self::Tables => false,
        }
    }
}

/// Measures, prints the table, and fails if a goal is missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.name.goes_first() && !session::has_priority() {
        return session::again_with_priority();
    }
    let report = match args.name {
        Name::Capture => capture::run()?,
        Name::Dns => dns::run()?,
        Name::Http => http::run()?,
        Name::Tables => tables::run()?,
        Name::Tcp => tcp::run()?,
    };
    let text = report.text();
    cmd::say(&text);
    if args.record {
        let name = args.name.to_possible_value().context("a benchmark without a name")?;
        record::write(name.get_name(), &text)?;
    }
    report.missed()
}

/// What a benchmark found.
struct Report {
    /// Left column and the values beside it; the first row is the head, and as long as any other.
    table: Vec<Vec<String>>,
    goals: Vec<Goal>,
}

/// A limit, and whether it was kept.
struct Goal {
    text: String,
    met: bool,
}

impl Report {
    /// The table and a line for each goal.
    fn text(&self) -> String {
        let mut widths = vec![0; self.table.first().map_or(0, Vec::len)];
        for row in &self.table {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut lines = Vec::new();
        for row in &self.table {
            let [name, cells @ ..] = row.as_slice() else { continue };
            let cells = cells.iter().zip(&widths[1..]);
            let cells: Vec<_> = cells.map(|(cell, width)| format!("{cell:>width$}")).collect();
            lines.push(format!("{name:<0$}  {1}", widths[0], cells.join("  ")));
        }
        lines.push(String::new());
        for goal in &self.goals {
            lines.push(format!("{}: {}", if goal.met { "met   " } else { "MISSED" }, goal.text));
        }
        lines.join("\n")
    }

    fn missed(&self) -> Result<()> {
        let missed = self.goals.iter().filter(|goal| !goal.met).count();
        if missed > 0 {
            bail!("{missed} of {} goals missed", self.goals.len());
        }
        Ok(())
    }
}
