//! `cargo xtask bench http`: egressd beside HTTP proxies, on small requests over HTTP/1.1 and HTTP/2,
//! with thousands of rules, and its memory under load.
//!
//! Clients of egressd dial the service and are captured; those of the others dial the proxy, which
//! spares it the packet filter. Otherwise all is as in `bench tcp`.

mod peers;
mod report;

use std::{env, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use egressd_tests::Spawn;

use self::peers::{Kind, Peer};
use super::{
    Report,
    figure::{Figure, Found},
    place::LOAD_CPU,
};
use crate::{cmd, setup};

/// Rounds of every case.
const ROUNDS: usize = 5;
/// How long one case is measured, in seconds.
const TIME: u32 = 2;
/// How long memory is watched under load, in seconds; `EGRESSD_BENCH_SOAK` says otherwise.
const SOAK: u64 = 60;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    /// GET on one connection that is kept.
    One,
    /// GET on 32.
    Many,
    /// GET over HTTP/2, 32 at once on one connection.
    Http2,
    /// A call as gRPC makes it, 32 at once on one connection.
    Grpc,
}

pub(super) fn run() -> Result<Report> {
    if !setup::is_root()? {
        bail!("the benchmark makes namespaces and loads eBPF programs, which needs root");
    }
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        bail!("the proxy is to have a processor of its own: this machine has one");
    }
    let daemon = cmd::daemon(&["--release"])?;
    let (_place, peers) = peers::start(&daemon)?;
    let mut found = vec![Found::<Case>::new(); peers.len()];
    for round in 0..ROUNDS {
        cmd::say(&format!("round {} of {ROUNDS}", round + 1));
        for case in Case::ALL {
            // Each round begins elsewhere, so that no proxy always follows the same one.
            for index in 0..peers.len() {
                let at = (index + round) % peers.len();
                measure(&peers[at], case, &mut found[at])?;
            }
        }
    }
    let ours = peers.iter().find(|peer| peer.kind == Kind::Egressd).context("no egressd")?;
    let memory = soak(ours)?;
    let kinds: Vec<_> = peers.iter().map(|peer| peer.kind).collect();
    Ok(report::report(&kinds, &found, &memory))
}

fn measure(peer: &Peer, case: Case, found: &mut Found<Case>) -> Result<()> {
    let before = peer.processor_time();
    let text = load(peer, case, TIME).run().text();
    let spent = peer.processor_time() - before;
    let told = case.read(&text).with_context(|| format!("what the load printed: {text}"))?;
    if let Some(trouble) = text.lines().find(|line| is_trouble(line)) {
        cmd::say(&format!("{}, {case:?}: {}", peer.kind.name(), trouble.trim()));
    }
    let mut note = |figure, value| found.entry((case, figure)).or_default().push(value);
    note(Figure::Rate, told.rate);
    note(Figure::Cpu, spent.as_secs_f64() * 1e3 / (told.total / 1e4));
    if let Some((median, slow)) = told.times {
        note(Figure::Median, median);
        note(Figure::Slow, slow);
    }
    Ok(())
}

/// The generator, ready to run for so many seconds.
fn load(peer: &Peer, case: Case, seconds: u32) -> Spawn<'_> {
    let mut client = Spawn::new(["taskset", "--cpu-list", LOAD_CPU]);
    for word in case.words(seconds) {
        client = client.arg(word);
    }
    client = client.arg(peer.url(case)).netns(&peer.netns);
    match &peer.cgroup {
        Some(cgroup) => client.cgroup(cgroup),
        None => client,
    }
}

/// Resident bytes of a proxy under full load, sampled all the time.
fn soak(peer: &Peer) -> Result<Vec<f64>> {
    let seconds = match env::var("EGRESSD_BENCH_SOAK") {
        Ok(text) => text.parse().context("EGRESSD_BENCH_SOAK is a number of seconds")?,
        Err(_unset) => SOAK,
    };
    cmd::say(&format!("memory, {seconds} s"));
    let mut client = load(peer, Case::Many, u32::try_from(seconds)?).start();
    let mut samples = Vec::new();
    while client.is_running() {
        samples.push(peer.resident());
        thread::sleep(Duration::from_secs(1));
    }
    Ok(samples)
}

/// What a generator told.
struct Told {
    rate: f64,
    total: f64,
    /// The middle and the slow end, in microseconds.
    times: Option<(f64, f64)>,
}

impl Case {
    const ALL: [Self; 4] = [Self::One, Self::Many, Self::Http2, Self::Grpc];

    /// The load generator and its arguments but for the URL.
    fn words(self, seconds: u32) -> Vec<String> {
        let connections = match self {
            Self::One => "1",
            Self::Many => "32",
            Self::Http2 | Self::Grpc => return self.words_of_h2load(seconds),
        };
        let time = format!("{seconds}s");
        ["wrk", "--latency", "--threads", "1", "--connections", connections, "--duration", &time]
            .map(str::to_owned)
            .to_vec()
    }

    fn words_of_h2load(self, seconds: u32) -> Vec<String> {
        let time = seconds.to_string();
        let words = ["h2load", "--clients", "1", "--max-concurrent-streams", "32", "--duration"];
        let mut words: Vec<_> = words.into_iter().chain([&*time]).map(str::to_owned).collect();
        if self == Self::Grpc {
            // Any small file does for a message.
            let call = ["--data", "/etc/debian_version", "--header", "te: trailers"];
            words.extend(call.into_iter().map(str::to_owned));
            words.extend(["--header".to_owned(), "content-type: application/grpc".to_owned()]);
        }
        words
    }

    fn read(self, text: &str) -> Option<Told> {
        match self {
            Self::One | Self::Many => {
                let after =
                    |word: &str| text.lines().find_map(|line| line.trim().strip_prefix(word));
                let rate = after("Requests/sec:")?.trim().parse().ok()?;
                let total = text.lines().find_map(|line| line.trim().split_once(" requests in "));
                let times = (microseconds(after("50%")?)?, microseconds(after("99%")?)?);
                Some(Told { rate, total: total?.0.parse().ok()?, times: Some(times) })
            }
            Self::Http2 | Self::Grpc => {
                let rate = text.lines().find_map(|line| {
                    let (_, rest) = line.strip_prefix("finished in ")?.split_once(", ")?;
                    rest.split_once(" req/s")?.0.parse().ok()
                })?;
                let total = text.lines().find_map(|line| {
                    line.strip_prefix("status codes: ")?.split_once(" 2xx")?.0.parse().ok()
                })?;
                Some(Told { rate, total, times: None })
            }
        }
    }
}

/// A time as wrk writes it.
fn microseconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn is_trouble(line: &str) -> bool {
    let line = line.trim();
    let fine = |rest: &str| rest.contains(" 0 3xx, 0 4xx, 0 5xx");
    line.starts_with("Non-2xx")
        || line.starts_with("Socket errors")
        || line.strip_prefix("status codes:").is_some_and(|rest| !fine(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_generators_print() {
        let wrk = "  Latency Distribution\n     50%   19.00us\n     75%   21.00us\n     90%    1ms\n\
                   \x20    99%    1.50ms\n  100 requests in 2.10s, 1.21MB read\nRequests/sec:  47.61\n";
        let told = Case::One.read(wrk).unwrap();
        assert!((told.rate - 47.61).abs() < 1e-9 && (told.total - 100.0).abs() < 1e-9);
        assert_eq!(told.times, Some((19.0, 1500.0)));
        let h2load = "finished in 2.00s, 1234.50 req/s, 1.2MB/s\n\
                      status codes: 2469 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        let told = Case::Http2.read(h2load).unwrap();
        assert!((told.rate - 1234.5).abs() < 1e-9 && (told.total - 2469.0).abs() < 1e-9);
        assert!(!h2load.lines().any(is_trouble));
        assert!(is_trouble("status codes: 1 2xx, 0 3xx, 0 4xx, 2 5xx"));
    }
}
