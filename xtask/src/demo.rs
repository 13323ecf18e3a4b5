//! `cargo xtask demo`: real `curl` against services that exist as YAML only.
//!
//! The daemon runs in a network namespace and a cgroup of its own, the servers in another namespace.
//! Nothing outside is touched and nothing is left.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use egressd_tests::{AccessLine, Behaviour, Daemon, Node, Servers, attached_programs};

use crate::{cmd, setup};

const SERVICES: &str = include_str!("demo/services.yaml");
const REGISTRY_ONLY: &str = "meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";

/// Addresses of servers in the world, beyond the link's own; the node has a route to each.
const FAR: [&str; 4] = ["2.2.2.2", "3.3.3.3", "192.168.1.100", "198.51.100.1"];

/// Connections until both of two endpoints must have been met: a fair coin misses one once in a
/// million times.
const TRIES: usize = 20;

/// Runs every case; fails at the first that is not as expected.
pub(crate) fn run() -> Result<()> {
    if !setup::is_root()? {
        bail!(
            "the demo makes a network namespace and a cgroup and loads eBPF programs, which needs \
             root; run `sudo -E env PATH=\"$PATH\" cargo xtask demo`"
        );
    }
    let binary = cmd::daemon(&[])?;
    let node = Node::new();
    for address in FAR {
        node.world.ip(&format!("address add {address}/32 dev lo"));
        node.netns.ip(&format!("route add {address}/32 via 10.77.0.2"));
    }
    let _servers = world(&node);
    cmd::say("A node without a default route; real curl; one daemon for each policy.\n");
    allow_any(&node, &binary)?;
    registry_only(&node, &binary)?;
    let left = attached_programs(&node.cgroup);
    ensure!(left.is_empty(), "programs are left attached: {left:?}");
    let cgroup = node.cgroup.path().to_owned();
    drop(node);
    ensure!(!cgroup.exists(), "{} is left", cgroup.display());
    cmd::say("Everything was as expected, and nothing is left.");
    Ok(())
}

/// Servers that say where they are.
fn world(node: &Node) -> Servers {
    let at = ["2.2.2.2:27018", "3.3.3.3:27018", "192.168.1.100:13306", "198.51.100.1:80"];
    Servers::tcp(&node.world, at.map(|at| (at.to_owned(), Behaviour::Page(at.to_owned()))))
}

fn allow_any(node: &Node, binary: &Path) -> Result<()> {
    let builder = node.daemon().binary(binary);
    let socket = builder.folder().join("socket");
    let _unix = Servers::unix(&socket, Behaviour::Page("the Unix socket".to_owned()));
    let socket = socket.display().to_string();
    let daemon = builder.resource(SERVICES.replace("SOCKET", &socket)).start();
    let mut shown = Shown { node, daemon: &daemon, records: 0 };
    let mongo = "outbound|27018||mymongodb.somedomain";
    let expected = |cluster: &'static str, answers: &[&'static str]| Expected {
        flags: "-",
        cluster,
        answers: answers.to_vec(),
    };
    cmd::say("== outboundTrafficPolicy: ALLOW_ANY\n");
    let both = ["2.2.2.2:27018", "3.3.3.3:27018"];
    title("a block of addresses, 192.192.192.192/24, with two endpoints");
    let first = shown.captured("192.192.192.192:27018", &expected(mongo, &both))?;
    // Endpoints get shares, not strict turns: the other one answers before long.
    let mut tries = 1..=TRIES;
    while shown.captured("192.192.192.7:27018", &expected(mongo, &both))? == first {
        ensure!(tries.next().is_some(), "{first} answered {TRIES} times in a row");
    }
    title("an endpoint that is a Unix socket");
    let unix = "outbound|80||example.unix.local";
    shown.captured("192.0.2.80:80", &expected(unix, &["the Unix socket"]))?;
    title("an endpoint with a port of its own");
    let database = "outbound|3306||database.example.com";
    shown.captured("240.0.0.1:3306", &expected(database, &["192.168.1.100:13306"]))?;
    title("a destination that is no service's: left in the kernel");
    shown.left_alone("198.51.100.1:80")?;
    daemon.stop();
    Ok(())
}

fn registry_only(node: &Node, binary: &Path) -> Result<()> {
    let services = SERVICES.replace("SOCKET", "/nowhere");
    let daemon = node.daemon().binary(binary).config(REGISTRY_ONLY).resource(services).start();
    let mut shown = Shown { node, daemon: &daemon, records: 0 };
    cmd::say("== outboundTrafficPolicy: REGISTRY_ONLY\n");
    title("a service is reached as before");
    let database = "outbound|3306||database.example.com";
    let answers = vec!["192.168.1.100:13306"];
    shown.captured("240.0.0.1:3306", &Expected { flags: "-", cluster: database, answers })?;
    title("a destination that is no service's, and the neighbour of a block: refused");
    shown.refused("198.51.100.1:80")?;
    // The block is 192.192.192.0/24: its neighbour is no service.
    shown.refused("192.192.193.1:27018")?;
    daemon.stop();
    Ok(())
}

/// What a captured connection must come to.
struct Expected {
    flags: &'static str,
    cluster: &'static str,
    /// Any of these may answer.
    answers: Vec<&'static str>,
}

/// Cases run against one daemon.
struct Shown<'a> {
    node: &'a Node,
    daemon: &'a Daemon,
    /// Access records seen so far.
    records: usize,
}

impl Shown<'_> {
    /// A destination that is a service's; gives who answered.
    fn captured(&mut self, dialled: &str, expected: &Expected) -> Result<String> {
        let (peer, answer) = self.curl(dialled)?;
        let record = self.next_record();
        show(dialled, &peer, &answer, &record.line);
        ensure!(peer == dialled, "getpeername() said {peer}, not {dialled}");
        ensure!(expected.answers.contains(&answer.as_str()), "{answer} answered");
        let decision = (expected.flags, expected.cluster, dialled);
        ensure!(record.decision() == decision, "{:?} is not {decision:?}", record.decision());
        Ok(answer)
    }

    /// A destination that is nobody's, where the policy lets it pass: no record, a counter.
    fn left_alone(&mut self, dialled: &str) -> Result<()> {
        let before = self.daemon.number("/counters/unknown");
        let (peer, answer) = self.curl(dialled)?;
        let count = self.daemon.number("/counters/unknown") - before;
        show(dialled, &peer, &answer, &format!("none; counted as unknown: {count}"));
        ensure!(answer == dialled, "{answer} answered");
        ensure!(count == 1, "the connection was counted {count} times");
        ensure!(self.daemon.records().len() == self.records, "there is a record");
        Ok(())
    }

    /// A destination that is nobody's, where the policy denies it.
    fn refused(&mut self, dialled: &str) -> Result<()> {
        let done = self.node.curl(&format!("http://{dialled}/")).run();
        let record = self.next_record();
        show(dialled, "-", &format!("nobody; curl says: {}", done.stderr.trim()), &record.line);
        // 7 is curl's "failed to connect".
        ensure!(done.code() == 7, "curl ended with {}", done.code());
        let decision = ("UH", "BlackHoleCluster", dialled);
        ensure!(record.decision() == decision, "{:?} is not {decision:?}", record.decision());
        Ok(())
    }

    /// What getpeername() said, and the page.
    fn curl(&self, dialled: &str) -> Result<(String, String)> {
        let curl = self.node.curl(&format!("http://{dialled}/"));
        let done = curl.arg("--write-out").arg("\n%{remote_ip}:%{remote_port}").run();
        if done.code() != 0 {
            bail!("curl of {dialled} failed: {}{}", done.stderr, self.daemon.log());
        }
        let Some((answer, peer)) = done.stdout.rsplit_once('\n') else {
            bail!("curl of {dialled} printed {:?}", done.stdout);
        };
        Ok((peer.to_owned(), answer.to_owned()))
    }

    fn next_record(&mut self) -> AccessLine {
        self.records += 1;
        self.daemon.wait_records(self.records).remove(self.records - 1)
    }
}

fn title(text: &str) {
    cmd::say(&format!("-- {text}\n"));
}

fn show(dialled: &str, peer: &str, answer: &str, record: &str) {
    cmd::say(&format!(
        "   dialled      {dialled}\n   getpeername  {peer}\n   answered by  {answer}\n   \
         record       {record}\n"
    ));
}
