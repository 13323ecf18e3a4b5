//! dnsperf: what is asked, of whom, and what it says.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use egressd_tests::{Cgroup, Netns, Spawn};

use super::MANY;
use crate::cmd;

/// How long a closed loop runs, in seconds.
const LOOP_TIME: &str = "2";
/// Queries a second where times are taken, and for how many seconds.
const RATE: &str = "2000";
const TIMES_TIME: &str = "3";

/// Which names are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// The first so many hosts.
    Known(u32),
    /// As many names that no ServiceEntry has.
    Other,
}

/// A file of questions.
#[derive(Debug)]
pub(super) struct Ask(PathBuf);

impl Ask {
    /// Writes the file.
    pub(super) fn new(question: Question, folder: &Path) -> Result<Self> {
        let (name, count, of): (_, _, fn(u32) -> String) = match question {
            Question::Known(count) => (format!("known-{count}"), count, host),
            Question::Other => ("other".to_owned(), MANY, other),
        };
        let mut text = String::new();
        for number in 0..count {
            // In an order that no cache likes: a step that shares no factor with the count.
            let number = u32::try_from(u64::from(number) * 7919 % u64::from(count))?;
            writeln!(text, "{} A", of(number))?;
        }
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

/// The name of a host.
pub(super) fn host(number: u32) -> String {
    format!("host-{number:05}.service-{:02}.example.test", number % 100)
}

/// A name that is no host.
pub(super) fn other(number: u32) -> String {
    format!("other-{number:05}.elsewhere-{:02}.example.test", number % 100)
}

/// Who is asked, and from where.
pub(super) struct Server<'a> {
    pub(super) address: &'a str,
    pub(super) port: u16,
    pub(super) netns: &'a Netns,
    /// The captured cgroup, where the load is to be in it.
    pub(super) cgroup: Option<&'a Cgroup>,
}

/// What times come to, in microseconds.
pub(super) struct Found {
    pub(super) median: f64,
    pub(super) slow: f64,
}

/// Queries a second, in a closed loop of a hundred at a time from eight sockets.
pub(super) fn rate(server: &Server<'_>, ask: &Ask) -> Result<f64> {
    let text = run(server, ask, &["-c", "8", "-T", "2", "-q", "100", "-l", LOOP_TIME])?;
    number(&text, "Queries per second:")
}

/// Times at a fixed rate.
pub(super) fn times(server: &Server<'_>, ask: &Ask) -> Result<Found> {
    let words = ["-c", "8", "-T", "2", "-q", "100", "-Q", RATE, "-l", TIMES_TIME, "-v"];
    let text = run(server, ask, &words)?;
    // One line for each: > RCODE NAME TYPE SECONDS.
    let lines = text.lines().filter_map(|line| line.strip_prefix("> NOERROR "));
    let mut all: Vec<f64> = lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .map(|seconds| seconds * 1e6)
        .collect();
    if all.len() < 100 {
        bail!("dnsperf told {} times only:\n{text}", all.len());
    }
    all.sort_by(f64::total_cmp);
    let at = |part: f64| all[((all.len() - 1) as f64 * part).round() as usize];
    Ok(Found { median: at(0.5), slow: at(0.99) })
}

fn run(server: &Server<'_>, ask: &Ask, words: &[&str]) -> Result<String> {
    let mut dnsperf = Spawn::new(["dnsperf", "-s", server.address, "-p"]);
    dnsperf = dnsperf.arg(server.port.to_string()).arg("-d").arg(&ask.0).netns(server.netns);
    if let Some(cgroup) = server.cgroup {
        dnsperf = dnsperf.cgroup(cgroup);
    }
    let text = words.iter().fold(dnsperf, |dnsperf, word| dnsperf.arg(word)).run().text();
    let lost = number(&text, "Queries lost:")?;
    if lost > 0.0 {
        cmd::say(&format!("{lost} queries to {} were lost", server.address));
    }
    let codes = text.lines().find(|line| line.contains("Response codes:")).unwrap_or_default();
    if !codes.contains("NOERROR") || codes.contains(',') {
        bail!("not every answer was one:\n{codes}");
    }
    Ok(text)
}

fn number(text: &str, label: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    let word = word.with_context(|| format!("dnsperf printed no `{label}`:\n{text}"))?;
    word.parse().with_context(|| format!("`{label}` is no number: {word}"))
}
