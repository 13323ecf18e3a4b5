//! `cargo xtask bench capture`: what capture costs a connect(), and the proxy a byte.
//!
//! Every round measures each case once, in one namespace: clients in a cgroup that is captured, and
//! in one that is not. Cases that are compared reach their server the same way: across the link for
//! destinations without a row; over loopback for those with one, because captured connections end at
//! the proxy on a loopback address.
//!
//! What the hook costs is measured where connect() wakes nobody: the server looks away, and the proxy
//! is stopped. Waking a thread, on a virtual machine perhaps another processor, takes several times as
//! long as the rest of connect() and varies with what else the machine does. What an application sees
//! of a proxy that is awake is a row of its own, without a goal.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use egressd_tests::{Cgroup, Node, Running, Signal, WORLD_V4};

use super::{Goal, Report, stats::Rounds};
use crate::{cmd, setup};

/// Rounds of every case.
const ROUNDS: usize = 15;
/// connect() calls a round.
const CONNECTS: &str = "400";
/// Round trips a round.
const TRIPS: &str = "3000";
/// Mebibytes a round.
const BULK: &str = "512";

/// What a connect() without a row may cost more, in nanoseconds at the median.
const MISS_LIMIT: f64 = 1_000.0;
/// What a captured connect() may cost more.
const HIT_LIMIT: f64 = 4_000.0;
/// What a round trip on a connection that is not captured may cost more before one calls it
/// measurable, as a part of it; the spread between rounds is allowed besides.
const ESTABLISHED_LIMIT: f64 = 0.02;

const VIP: &str = "192.0.2.10";
/// Beside the proxy's own, which are 127.64.0.1 to 127.64.0.16.
const LOOPBACK: &str = "127.0.0.9";
const PORTS: [(&str, u16); 4] = [("idle", 9000), ("close", 9001), ("echo", 9002), ("sink", 9003)];

/// A case: its arguments for the load generator, and where it runs.
struct Case {
    words: Vec<String>,
    place: Place,
    rounds: Rounds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a cgroup that is not captured.
    Free,
    /// In one that is.
    Captured,
    /// In one that is, and the proxy does not run meanwhile.
    Stopped,
}

pub(super) fn run() -> Result<Report> {
    if !setup::is_root()? {
        bail!("the benchmark makes namespaces and loads eBPF programs, which needs root");
    }
    let daemon = cmd::daemon(&["--release"])?;
    let load = ["--release", "--package", "egressd-tests", "--bin", "egressd-load"];
    let load = cmd::built_program(&load, "egressd-load")?;

    let node = Node::new();
    let free = Cgroup::new();
    let _servers = serve(&node, &load);
    let mut builder = node.daemon().binary(&daemon).attach_only(&node.apps);
    for (mode, port) in PORTS {
        builder = builder.resource(service(mode, port));
    }
    let daemon = builder.start();

    let mut cases = cases();
    for round in 0..ROUNDS {
        // Each round begins elsewhere, so that no case always follows the same one.
        for index in 0..cases.len() {
            let count = cases.len();
            let case = &mut cases[(index + round) % count];
            let cgroup = if case.place == Place::Free { &free } else { &node.apps };
            let client = node.app([load.as_os_str()]).cgroup(cgroup);
            let client = case.words.iter().fold(client, |client, word| client.arg(word));
            if case.place == Place::Stopped {
                daemon.signal(Signal::SIGSTOP);
            }
            let text = client.run().text();
            if case.place == Place::Stopped {
                daemon.signal(Signal::SIGCONT);
                daemon.wait_number("/flows", 0);
            }
            let value = text.parse().with_context(|| format!("the client printed {text:?}"))?;
            case.rounds.push(value);
        }
    }
    let rounds: Vec<_> = cases.into_iter().map(|case| case.rounds).collect();
    Ok(report(&rounds))
}

fn serve(node: &Node, load: &Path) -> Vec<Running> {
    let mut servers = Vec::new();
    for (mode, port) in PORTS {
        let start = |netns, address: &str| {
            let spawn = egressd_tests::Spawn::new([load]).netns(netns).arg("serve").arg(mode);
            let mut server = spawn.arg(format!("{address}:{port}")).start();
            server.wait_stdout("that it listens", |line| line.trim() == "listening");
            server
        };
        servers.push(start(&node.world, WORLD_V4[0]));
        servers.push(start(&node.netns, LOOPBACK));
    }
    servers
}

/// The services' endpoint is on loopback as well, so that a proxied connection has two loopback
/// hops where a direct one has one.
fn service(mode: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {mode}}}\n\
         spec:\n\
         \x20 hosts: [{mode}.example]\n\
         \x20 addresses: [{VIP}]\n\
         \x20 ports: [{{number: {port}, name: tcp, protocol: TCP}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {LOOPBACK}}}]\n"
    )
}

/// In the order in which [`report`] reads them.
fn cases() -> [Case; 12] {
    use Place::{Captured, Free, Stopped};
    let far = WORLD_V4[0];
    let case = |mode: &str, address: &str, last: &[&str], place| {
        let port = PORTS.iter().find(|(name, _)| *name == mode).map_or(0, |(_, port)| *port);
        let verb = match mode {
            "idle" => "connect-only",
            "close" => "connect",
            "echo" => "round-trip",
            _ => "bulk",
        };
        let words = [verb.to_owned(), format!("{address}:{port}")].into_iter();
        let words = words.chain(last.iter().map(|word| (*word).to_owned())).collect();
        Case { words, place, rounds: Rounds::default() }
    };
    [
        case("idle", far, &[CONNECTS], Free),
        case("idle", far, &[CONNECTS], Captured),
        case("idle", LOOPBACK, &[CONNECTS], Free),
        case("idle", VIP, &[CONNECTS], Stopped),
        case("close", LOOPBACK, &[CONNECTS], Free),
        case("close", VIP, &[CONNECTS], Captured),
        case("echo", far, &["64", TRIPS], Free),
        case("echo", far, &["64", TRIPS], Captured),
        case("echo", LOOPBACK, &["64", TRIPS], Free),
        case("echo", VIP, &["64", TRIPS], Captured),
        case("sink", LOOPBACK, &[BULK], Free),
        case("sink", VIP, &[BULK], Captured),
    ]
}

fn report(rounds: &[Rounds]) -> Report {
    let [bare, miss, near, hit, awake, proxy, free, watched, direct, proxied, bulk, proxied_bulk] =
        rounds
    else {
        return Report { table: Vec::new(), goals: Vec::new() };
    };
    let head = ["median of rounds", "without", "with", "difference"].map(str::to_owned);
    let time = |name: &str, base: &Rounds, with: &Rounds| {
        let micro = |value: f64| format!("{:.2} µs", value / 1000.0);
        let difference = format!("{:+.2} µs", with.over(base) / 1000.0);
        [name.to_owned(), micro(base.median()), micro(with.median()), difference]
    };
    let rate = |name: &str, base: &Rounds, with: &Rounds| {
        let giga = |value: f64| format!("{:.1} Gbit/s", value / 1e9);
        let part = format!("{:.0} %", 100.0 * with.median() / base.median());
        [name.to_owned(), giga(base.median()), giga(with.median()), part]
    };
    let table = vec![
        head,
        time("connect(), hook: no row", bare, miss),
        time("connect(), hook: captured", near, hit),
        time("connect(), server and proxy awake", awake, proxy),
        time("64 B round trip, hook: not captured", free, watched),
        time("64 B round trip, proxy", direct, proxied),
        rate("bulk, proxy", bulk, proxied_bulk),
    ];
    let goal = |name: &str, found: f64, limit: f64| Goal {
        text: format!("{name}: {:+.2} µs, limit {:.2} µs", found / 1000.0, limit / 1000.0),
        met: found <= limit,
    };
    let noise = free.median() * ESTABLISHED_LIMIT + free.spread().max(watched.spread());
    let goals = vec![
        goal("connect() without a row", miss.over(bare), MISS_LIMIT),
        goal("connect() that is captured", hit.over(near), HIT_LIMIT),
        goal("round trip on an established connection", watched.over(free), noise),
    ];
    Report { table: table.into_iter().map(Vec::from).collect(), goals }
}
