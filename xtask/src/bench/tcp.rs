//! `cargo xtask bench tcp`: egressd beside other transparent proxies, on connections that are made,
//! small requests, bulk, and memory.
//!
//! Every proxy has a network namespace of its own, linked to one namespace with the backend, so that
//! one's rules and connection tracking never touch another's traffic. Every round measures every
//! proxy in turn, and what a goal says is a ratio within the run: whatever else the machine does falls
//! on all alike. The load and the backend share one processor and the proxy has another.
//!
//! All loads are closed loops. Processor time is that of the proxy's processes, with what the kernel
//! did on their time.

mod peers;
mod report;

use std::{path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use egressd_tests::Spawn;

use self::peers::{Kind, Peer, Peers};
use super::{
    Report,
    figure::{Figure, Found},
    place::{LOAD_CPU, Place},
    stats::Rounds,
    usage,
};
use crate::{cmd, setup};

/// Rounds of every case.
const ROUNDS: usize = 5;
/// Rounds of the memory of a proxy, each a proxy just started.
const MEMORY_ROUNDS: usize = 3;
/// How long one case is measured, in milliseconds.
const TIME: &str = "1500";
/// Connections that wait, as far as the limit of open files has room for two each.
const WAITING: u64 = 8_000;
/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_secs(1);

/// What is measured: a load of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// One connection after the other: connect, 64 bytes there and back.
    Connect,
    /// The same with a ClientHello, routed by its SNI.
    Sni,
    /// 64 bytes there and back on 16 connections.
    Requests,
    /// As [`Case::Connect`], 64 at once.
    Storm,
    /// Bytes to the client on one connection.
    Download,
    /// The same on 16.
    Downloads,
    /// Bytes from the client on one connection.
    Upload,
}

/// What memory a proxy takes, each value once a round.
#[derive(Debug, Default)]
struct Memory {
    /// Resident when it has started, in bytes.
    start: Rounds,
    /// For each connection that waits.
    connection: Rounds,
}

pub(super) fn run() -> Result<Report> {
    if !setup::is_root()? {
        bail!("the benchmark makes namespaces and loads eBPF programs, which needs root");
    }
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("the proxy is to have a processor of its own: this machine has one");
    }
    let daemon = cmd::daemon(&["--release"])?;
    let load = ["--release", "--package", "egressd-tests", "--bin", "egressd-load"];
    let load = cmd::built_program(&load, "egressd-load")?;
    let place = Place::new(&load);
    let mut peers = Peers::start(&place, &daemon)?;
    let mut found = vec![Found::<Case>::new(); peers.all.len()];
    for round in 0..ROUNDS {
        cmd::say(&format!("round {} of {ROUNDS}", round + 1));
        for case in Case::ALL {
            // Each round begins elsewhere, so that no proxy always follows the same one.
            for index in 0..peers.all.len() {
                let at = (index + round) % peers.all.len();
                measure(&load, &peers.all[at], case, &mut found[at])?;
            }
        }
    }
    let mut memory: Vec<_> = peers.all.iter().map(|_| Memory::default()).collect();
    for round in 0..MEMORY_ROUNDS {
        cmd::say(&format!("memory, round {} of {MEMORY_ROUNDS}", round + 1));
        for (at, memory) in memory.iter_mut().enumerate() {
            peers.restart(at)?;
            weigh(&load, &peers.all[at], memory)?;
        }
    }
    let kinds: Vec<_> = peers.all.iter().map(|peer| peer.kind).collect();
    Ok(report::report(&kinds, &found, &memory))
}

fn measure(load: &Path, peer: &Peer, case: Case, found: &mut Found<Case>) -> Result<()> {
    let before = peer.processor_time();
    let mut client = Spawn::new(["taskset", "--cpu-list", LOAD_CPU]).arg(load);
    for word in case.words(peer) {
        client = client.arg(word);
    }
    client = client.netns(&peer.netns);
    if let Some(cgroup) = &peer.cgroup {
        client = client.cgroup(cgroup);
    }
    let text = client.run().text();
    let spent = peer.processor_time() - before;
    let value = |name: &str| -> Result<f64> {
        let words = text.split_whitespace().filter_map(|word| word.split_once('='));
        let value = words.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.parse());
        value
            .with_context(|| format!("the load printed no {name}: {text}"))?
            .with_context(|| format!("the load printed no number as {name}: {text}"))
    };
    if value("errors")? > 0.0 {
        cmd::say(&format!("{}, {case:?}: {text}", peer.kind.name()));
    }
    let mut note = |figure, value| found.entry((case, figure)).or_default().push(value);
    note(Figure::Rate, value("rate")?);
    note(Figure::Cpu, spent.as_secs_f64() * 1e3 / (value("total")? / case.unit()));
    if !case.is_bulk() {
        note(Figure::Median, value("p50")?);
        note(Figure::Slow, value("p99")?);
    }
    Ok(())
}

/// The memory of a proxy just started, and with connections that wait.
fn weigh(load: &Path, peer: &Peer, memory: &mut Memory) -> Result<()> {
    thread::sleep(SETTLE);
    let start = peer.resident();
    if peer.kind == Kind::Direct {
        return Ok(());
    }
    memory.start.push(start);
    let count = WAITING.min(usage::open_files()?.saturating_sub(1_500) / 2);
    let client = Spawn::new([load]).arg("hold").arg(peer.address(Case::Connect));
    let mut client = client.arg(count.to_string()).netns(&peer.netns);
    if let Some(cgroup) = &peer.cgroup {
        client = client.cgroup(cgroup);
    }
    let mut client = client.start();
    client.wait_stdout("that it holds its connections", |line| line.trim() == "holding");
    thread::sleep(SETTLE);
    memory.connection.push((peer.resident() - start) / count as f64);
    Ok(())
}

impl Case {
    const ALL: [Self; 7] = [
        Self::Connect,
        Self::Sni,
        Self::Requests,
        Self::Storm,
        Self::Download,
        Self::Downloads,
        Self::Upload,
    ];

    /// The load generator's arguments.
    fn words(self, peer: &Peer) -> Vec<String> {
        let (verb, at_once) = match self {
            Self::Connect => ("connections", "1"),
            Self::Sni => ("hellos", "1"),
            Self::Requests => ("requests", "16"),
            Self::Storm => ("connections", "64"),
            Self::Download => ("download", "1"),
            Self::Downloads => ("download", "16"),
            Self::Upload => ("upload", "1"),
        };
        let mut words = vec![verb.into(), peer.address(self), at_once.into(), TIME.into()];
        if self == Self::Sni {
            words.push(peers::SNI.into());
        }
        words
    }

    fn is_bulk(self) -> bool {
        matches!(self, Self::Download | Self::Downloads | Self::Upload)
    }

    /// Of how many requests, connections or bytes processor time is told.
    fn unit(self) -> f64 {
        if self.is_bulk() { 1e9 } else { 1e4 }
    }
}
