//! `cargo xtask test [TIER] [FILTER]`: lint and every tier, from cheap to dear, or one tier.

use std::{env, time::Instant};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::{cmd, demo, fuzz, lint, setup};

mod initramfs;
mod kernels;

/// Arguments of `cargo xtask test`.
#[derive(Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    tier: Option<Tier>,
}

#[derive(Subcommand)]
enum Tier {
    /// Tests beside the code.
    Unit {
        /// Part of a test's name.
        filter: Option<String>,
    },
    /// The daemon in namespaces and cgroups of its own, with real clients and servers; needs root.
    E2e {
        /// Part of a test's name.
        filter: Option<String>,
    },
    /// The daemon on Debian's kernels, in an emulator.
    Kernels,
}

/// Runs one tier, or lint and all of them.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.tier {
        Some(Tier::Unit { filter }) => unit(filter.as_deref()),
        Some(Tier::E2e { filter }) => e2e(filter.as_deref()),
        Some(Tier::Kernels) => kernels::run(),
        None => everything(),
    }
}

/// Runs every tier, and names those that failed. End-to-end tests come last, so that the output ends
/// as cargo's does.
fn everything() -> Result<()> {
    // Said before half an hour of work rather than after it.
    require_root()?;
    let tiers: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("lint", &lint::run),
        ("unit", &|| unit(None)),
        ("fuzz", &fuzz::short),
        ("kernels", &kernels::run),
        ("demo", &demo::run),
        ("e2e", &|| e2e(None)),
    ];
    let mut failed = Vec::new();
    for (name, run) in tiers {
        let start = Instant::now();
        let result = run();
        if let Err(error) = &result {
            cmd::say(&format!("error: {error:#}"));
            failed.push(name);
        }
        let minutes = start.elapsed().as_secs_f32() / 60.0;
        // The last tier's own lines end the output of a run without failures.
        if name != "e2e" || result.is_err() {
            cmd::say(&format!("xtask: {name} took {minutes:.1} minutes"));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("tiers that failed: {}", failed.join(", ")) }
}

/// Unit tests of every host crate.
fn unit(filter: Option<&str>) -> Result<()> {
    let mut cargo = cmd::cargo();
    cargo.args(["test", "--no-fail-fast", "--workspace"]);
    cargo.args(["--exclude", "egressd-ebpf", "--exclude", "egressd-tests"]);
    cmd::exec(cargo.args(filter))
}

/// End-to-end tests, of the daemon as `cargo build` makes it.
fn e2e(filter: Option<&str>) -> Result<()> {
    require_root()?;
    let daemon = cmd::daemon(&[])?;
    let mut cargo = cmd::cargo();
    cargo.args(["test", "--no-fail-fast", "--package", "egressd-tests"]).args(filter);
    cmd::exec(cargo.env("EGRESSD_BIN", daemon))
}

/// A test that cannot run must not look as if it had passed.
fn require_root() -> Result<()> {
    if setup::is_root()? {
        return Ok(());
    }
    let typed: Vec<_> = env::args().skip(1).collect();
    bail!(
        "end-to-end tests make network namespaces and cgroups and load eBPF programs, which needs \
         root; run `sudo -E env PATH=\"$PATH\" cargo xtask {}`",
        typed.join(" ")
    )
}
