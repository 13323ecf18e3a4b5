//! Processor time, and the peak of memory.

use std::fs;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds that this thread has run.
fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}

/// What an action returns, and the nanoseconds that it took.
pub(crate) fn timed<T>(action: impl FnOnce() -> T) -> Result<(T, u64)> {
    let start = now()?;
    let value = action();
    Ok((value, now()? - start))
}

/// The most memory that this process has had at one time, in bytes.
pub(crate) fn peak() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("/proc/self/status has no VmHWM")?
        .trim()
        .parse()?;
    Ok(kib << 10)
}

/// The value in the middle, and the largest.
pub(crate) fn middle_and_most(mut values: Vec<u64>) -> (u64, u64) {
    values.sort_unstable();
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    (at(values.len() / 2), at(values.len().saturating_sub(1)))
}
