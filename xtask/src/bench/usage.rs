//! What processes use, from /proc.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// A process and what it has started, directly or not.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children: Vec<u32> = threads
            .flat_map(|thread| {
                let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
            })
            .collect();
        found.extend(children);
        at += 1;
    }
    found
}

/// Processor time of a process so far, in the kernel and outside; zero if it has ended.
pub(super) fn processor_time(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may contain anything, a closing bracket as well.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * MS_PER_TICK)
}

/// Resident memory of a process in bytes; zero if it has ended.
pub(super) fn resident(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

/// How many files a process may have open.
pub(super) fn open_files() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/limits").context("cannot read /proc/self/limits")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.context("/proc/self/limits has no limit of open files")
}

/// USER_HZ is 100 wherever Linux runs.
const MS_PER_TICK: u64 = 10;
