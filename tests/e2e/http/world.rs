//! A node with an outside that has names and addresses of its own, and what curl says of it.

use egressd_tests::{AccessLine, Daemon, DaemonBuilder, Nginx, Node, Running, WORLD_V4, until};

const DNS: &str = include_str!("../clients/dns.py");

/// A node, and servers at addresses that people know, found by name.
pub(crate) struct World {
    pub(crate) node: Node,
    _dns: Running,
}

/// What curl says of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The answer as it is written: its head if that was asked for, and its body.
    pub(crate) body: String,
    pub(crate) seconds: f64,
}

impl World {
    /// An outside with these names. Their addresses, if they are not of the world already, lead
    /// there.
    pub(crate) fn new(names: &[(&str, &str)]) -> Self {
        let node = Node::new();
        for (_, address) in names {
            lead_to_world(&node, address);
        }
        let spawn = node.server(["/usr/bin/python3", "-c", DNS, WORLD_V4[0]]);
        let pairs = names.iter().map(|(name, address)| format!("{name}={address}"));
        let mut dns = pairs.fold(spawn, |spawn, pair| spawn.arg(pair)).start();
        dns.wait_stdout("that it answers", |line| line.contains("ready"));
        Self { node, _dns: dns }
    }

    /// A daemon that asks the outside's DNS server, and is asked by captured programs.
    pub(crate) fn daemon(&self) -> DaemonBuilder<'_> {
        let server = WORLD_V4[0];
        self.node.daemon().config(&format!("dns: {{capture: all, upstreams: [{server}]}}"))
    }

    /// nginx that answers everything with its name, Host and the path.
    pub(crate) fn named(&self, name: &str, address: &str, port: u16) -> Nginx {
        Nginx::start(&self.node.world, address, port, &telling(name))
    }

    /// What `curl URL`, with further arguments, is told.
    pub(crate) fn get(&self, url: &str, arguments: &[&str]) -> Answer {
        let spawn = self.node.curl(url).arg("--ipv4").arg("--write-out").arg(SUMMARY);
        Answer::parse(&arguments.iter().fold(spawn, |spawn, word| spawn.arg(word)).run().text())
    }
}

impl Answer {
    /// Reads what curl has written, its summary last.
    pub(crate) fn parse(text: &str) -> Self {
        let (body, summary) = text.rsplit_once('\n').unwrap();
        let (status, seconds) = summary.split_once(' ').unwrap();
        let (status, seconds) = (status.parse().unwrap(), seconds.parse().unwrap());
        Self { status, body: body.trim_end().to_owned(), seconds }
    }

    /// Status and body, for comparing.
    pub(crate) fn told(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}

/// Directives of an nginx that answers everything with `name`, Host and the path.
pub(crate) fn telling(name: &str) -> String {
    format!("location / {{ return 200 \"{name} $http_host $request_uri\\n\"; }}")
}

/// Makes an address one of the world's.
pub(crate) fn lead_to_world(node: &Node, address: &str) {
    if !WORLD_V4.contains(&address) {
        node.world.ip(&format!("address replace {address}/32 dev down0"));
        node.netns.ip(&format!("route replace {address}/32 via {}", WORLD_V4[0]));
    }
}

/// The last record, when there are `count`.
pub(crate) fn last(daemon: &Daemon, count: usize) -> AccessLine {
    daemon.wait_records(count).remove(count - 1)
}

/// An access line without what changes from run to run: time, identifier, addresses, durations.
pub(crate) fn masked(record: &AccessLine) -> String {
    let mut words: Vec<_> = record.line.split(' ').map(str::to_owned).collect();
    let end = words.len();
    words[0] = "TIME".to_owned();
    let (duration, service_time) = (11, 12);
    for at in [duration, service_time] {
        if words[at] != "-" {
            words[at] = "MS".to_owned();
        }
    }
    for word in &mut words[service_time + 1..end - 2] {
        let bare = word.trim_matches('"');
        if bare.starts_with("curl/") {
            *word = "\"curl\"".to_owned();
        } else if bare.len() == 36 && bare.matches('-').count() == 4 {
            *word = "\"ID\"".to_owned();
        } else if bare.parse::<std::net::SocketAddr>().is_ok() {
            *word = word.replace(bare, "ADDRESS");
        }
    }
    words.join(" ")
}

/// Waits until the daemon has this generation.
pub(crate) fn wait_generation(daemon: &Daemon, generation: u64) {
    let words = format!("generation={generation} ");
    until(&words, || daemon.log().contains(&words).then_some(()));
}

const SUMMARY: &str = "\n%{http_code} %{time_total}";
