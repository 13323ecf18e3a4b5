//! `cargo xtask chaos`: the end-to-end test `direct::chaos` in full, with the daemon as `cargo build`
//! makes it.

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::{cmd, setup};

/// Arguments of `cargo xtask chaos`.
#[derive(Parser)]
pub(crate) struct Args {
    /// Seconds, with two reloads in each.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// How often the daemon is killed, or ended, and started again.
    #[arg(long, default_value_t = 20)]
    restarts: u32,
}

/// Runs it; fails if a connection reaches an endpoint that is gone, or if a count is wrong at the end.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !setup::is_root()? {
        bail!("chaos makes network namespaces and cgroups and loads eBPF programs: needs root");
    }
    let daemon = cmd::daemon(&[])?;
    let Args { seconds, restarts } = args;
    let report = tempfile::NamedTempFile::new().context("a temporary file")?;
    let mut cargo = cmd::cargo();
    cargo.args(["test", "--package", "egressd-tests", "--test", "e2e", "direct::chaos"]);
    cargo.env("EGRESSD_BIN", daemon).env("EGRESSD_CHAOS", format!("{seconds},{restarts}"));
    cmd::exec(cargo.env("EGRESSD_CHAOS_REPORT", report.path()))?;
    let result = fs::read_to_string(report.path()).context("reading the result")?;
    cmd::say(&format!("chaos: {}", result.trim()));
    Ok(())
}
