//! `cargo xtask bench NAME`: a table measured side by side in one run, and a line for each goal.

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};

use crate::cmd;

mod capture;
mod stats;
mod tables;
mod tcp;

/// Arguments of `cargo xtask bench`.
#[derive(Parser)]
pub(crate) struct Args {
    /// What to measure.
    name: Name,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// connect() without and with the hook; round trips and bulk, direct and through the proxy.
    Capture,
    /// Reading, compiling, deciding and changing 10,000 services.
    Tables,
    /// Connections, small requests, bulk and memory beside other proxies.
    Tcp,
}

/// Measures, prints the table, and fails if a goal is missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let report = match args.name {
        Name::Capture => capture::run()?,
        Name::Tables => tables::run()?,
        Name::Tcp => tcp::run()?,
    };
    report.print()
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
    fn print(&self) -> Result<()> {
        let mut widths = vec![0; self.table.first().map_or(0, Vec::len)];
        for row in &self.table {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.table {
            let [name, cells @ ..] = row.as_slice() else { continue };
            let cells = cells.iter().zip(&widths[1..]);
            let cells: Vec<_> = cells.map(|(cell, width)| format!("{cell:>width$}")).collect();
            cmd::say(&format!("{name:<0$}  {1}", widths[0], cells.join("  ")));
        }
        cmd::say("");
        for goal in &self.goals {
            cmd::say(&format!("{}: {}", if goal.met { "met   " } else { "MISSED" }, goal.text));
        }
        let missed = self.goals.iter().filter(|goal| !goal.met).count();
        if missed > 0 {
            bail!("{missed} of {} goals missed", self.goals.len());
        }
        Ok(())
    }
}
