//! What hosts cost: the daemon's resident memory, and its maps in the kernel.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use egressd_tests::{Daemon, Node};

use super::places::{builder, names_off, names_on, with_hosts};
use crate::{bench::usage, cmd};

/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_secs(1);

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Resident in the process.
    pub(super) resident: f64,
    /// In eBPF maps, as the kernel accounts for them.
    pub(super) kernel: f64,
}

/// The daemon without hosts, with hosts whose names are nobody's business, and with names on.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) empty: Use,
    pub(super) services: Use,
    pub(super) names: Use,
}

impl Memory {
    /// Starts a daemon for each, one after the other.
    pub(super) fn measure(daemon: &Path, hosts: u32) -> Result<Self> {
        cmd::say("memory");
        let node = Node::new();
        let build = || builder(&node, daemon);
        Ok(Self {
            empty: weigh(names_on(build()).start())?,
            services: weigh(with_hosts(names_off(build()), hosts).start())?,
            names: weigh(with_hosts(names_on(build()), hosts).start())?,
        })
    }
}

fn weigh(daemon: Daemon) -> Result<Use> {
    thread::sleep(SETTLE);
    let found = Use { resident: usage::resident(daemon.pid()), kernel: maps(daemon.pid())? };
    daemon.stop();
    Ok(found)
}

/// Of each map once: several descriptors may be of the same one.
fn maps(pid: u32) -> Result<f64> {
    let mut seen = Vec::new();
    let mut sum = 0.0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the daemon is gone")? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        if let (Some(id), Some(bytes)) = (value(&text, "map_id:"), value(&text, "memlock:"))
            && !seen.contains(&id.to_bits())
        {
            seen.push(id.to_bits());
            sum += bytes;
        }
    }
    Ok(sum)
}

fn value(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}
