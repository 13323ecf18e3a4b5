//! `cargo xtask soak`: the end-to-end test `soak` in full, with the daemon as `cargo build` makes it,
//! and its result in `tests/bench/soak.md`.

use std::fs;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::{cmd, origin, paths, setup};

/// Arguments of `cargo xtask soak`.
#[derive(Parser)]
pub(crate) struct Args {
    /// Connections held at once; the daemon needs two descriptors for each, and some more.
    #[arg(long, default_value_t = 8000)]
    connections: u32,
    /// Seconds, with a reload in each.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Keep the result.
    #[arg(long)]
    record: bool,
}

/// Runs it; fails if a connection does, or if something is left behind.
pub(crate) fn run(args: &Args) -> Result<()> {
    if !setup::is_root()? {
        bail!("the soak makes network namespaces and cgroups and loads eBPF programs: needs root");
    }
    let daemon = cmd::daemon(&[])?;
    let Args { connections, seconds, record } = args;
    let report = tempfile::NamedTempFile::new().context("a temporary file")?;
    let mut cargo = cmd::cargo();
    cargo.args(["test", "--package", "egressd-tests", "--test", "e2e", "soak::"]);
    cargo.env("EGRESSD_BIN", daemon).env("EGRESSD_SOAK", format!("{connections},{seconds}"));
    cmd::exec(cargo.env("EGRESSD_SOAK_REPORT", report.path()))?;
    let result = fs::read_to_string(report.path()).context("reading the result")?;
    cmd::say(&format!("soak: {}", result.trim()));
    if *record {
        let (date, commit, machine) = (origin::date()?, origin::commit()?, origin::machine()?);
        let text = format!(
            "# Soak\n\n\
             Connections to twenty services that talk, some of them replaced all the time, while \
             endpoints change and\na service comes and goes each second (`tests/e2e/soak.rs`).\n\n\
             `cargo xtask soak --record` on {date}, commit {commit}; {machine}.\n\n\
             ```text\n{}\n```\n",
            result.trim()
        );
        let path = paths::root().join(RESULT);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The result, from the root.
const RESULT: &str = "tests/bench/soak.md";
