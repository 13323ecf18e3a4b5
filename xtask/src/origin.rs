//! Where results come from: which code, when, and on what machine.

use std::{fs, thread};

use anyhow::{Context as _, Result};

use crate::cmd;

/// The commit that is checked out, and whether there is more than that. Results are no change to
/// what was measured.
pub(crate) fn commit() -> Result<String> {
    let git = |words: &[&str]| cmd::stdout(cmd::command("git").args(words));
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--", "."], &RESULTS[..]].concat())?;
    let and_more = if changed.trim().is_empty() { "" } else { " and uncommitted changes" };
    Ok(format!("{}{and_more}", commit.trim()))
}

/// The date in UTC, as `2026-11-20`.
pub(crate) fn date() -> Result<String> {
    let date = cmd::stdout(cmd::command("date").args(["--utc", "+%F"]))?;
    Ok(date.trim().to_owned())
}

/// Processor and kernel, and how busy it is.
pub(crate) fn machine() -> Result<String> {
    let kernel = cmd::stdout(cmd::command("uname").arg("-r"))?;
    let cpus = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model);
    let processors = thread::available_parallelism().context("counting processors")?;
    let load = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "{model}, {processors} processors (load {load} at the end), Linux {}",
        kernel.trim()
    ))
}

/// Where results are kept, as git excludes it.
const RESULTS: [&str; 3] =
    [":!tests/bench/README.md", ":!tests/fuzz/RESULTS.md", ":!tests/bench/soak.md"];
