//! Two nodes and an outside: applications on one, a gateway on the other, and a server that only the
//! gateway reaches.

use egressd_tests::{
    AccessLine, Cgroup, Daemon, DaemonBuilder, Finished, Netns, Nginx, Node, Running, Spawn,
    WORLD_V4,
};

const DNS: &str = include_str!("../clients/dns.py");

/// The server's address, beyond the gateway.
pub(crate) const OUTSIDE: &str = "10.78.0.2";
/// The gateway's address on its link to the node.
pub(crate) const GATEWAY: &str = WORLD_V4[0];

/// The two nodes and the outside.
pub(crate) struct Hops {
    /// With the applications.
    pub(crate) node: Node,
    /// What the gateway reaches.
    pub(crate) outside: Netns,
    agent: Cgroup,
    cgroup: Cgroup,
    _dns: Running,
}

impl Hops {
    /// The outside's server is known by these names.
    pub(crate) fn new(names: &[&str]) -> Self {
        let (node, outside) = (Node::new(), Netns::new());
        let (here, there) = (["10.78.0.1/24"], [format!("{OUTSIDE}/24")]);
        node.world.link("up1", &here, &outside, "down1", &[&there[0]]);
        let cgroup = Cgroup::new();
        let agent = cgroup.child("agent");
        let spawn = Spawn::new(["/usr/bin/python3", "-c", DNS, OUTSIDE]).netns(&outside);
        let pairs = names.iter().map(|name| format!("{name}={OUTSIDE}"));
        let mut dns = pairs.fold(spawn, |spawn, pair| spawn.arg(pair)).start();
        dns.wait_stdout("that it answers", |line| line.contains("ready"));
        Self { node, outside, agent, cgroup, _dns: dns }
    }

    /// The daemon of the gateway's node, which captures nothing of the applications'.
    pub(crate) fn gateway(&self) -> DaemonBuilder<'_> {
        let builder = DaemonBuilder::new(&self.node.world).inside(&self.agent);
        builder.attach(&self.cgroup).config(&format!(
            "node: {{namespace: istio-system, labels: {{istio: egressgateway}}}}\n\
             dns: {{capture: none, upstreams: [{OUTSIDE}]}}"
        ))
    }

    /// The daemon of the applications' node.
    pub(crate) fn mesh(&self) -> DaemonBuilder<'_> {
        self.node.daemon().config("dns: {capture: all}")
    }

    /// nginx in the outside that answers with its name, Host and the path.
    pub(crate) fn server(&self, port: u16) -> Nginx {
        Nginx::start(&self.outside, OUTSIDE, port, TELLING)
    }

    /// A program on the applications' node that is not captured.
    pub(crate) fn stranger<'a>(&'a self, words: &[&str]) -> Spawn<'a> {
        Spawn::new(words).netns(&self.node.netns)
    }

    /// What curl says that is not captured: body, and status on a line of its own.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Finished {
        let words = ["curl", "--silent", "--show-error", "--max-time", "15", "--noproxy", ""];
        let spawn = self.stranger(&words).arg("--write-out").arg("%{http_code}\n");
        arguments.iter().fold(spawn, |spawn, word| spawn.arg(word)).run()
    }
}

/// What the outside's servers do.
pub(crate) const TELLING: &str =
    "location / { return 200 \"outside $http_host $request_uri\\n\"; }";

/// The last record, when there are `count`.
pub(crate) fn last(daemon: &Daemon, count: usize) -> AccessLine {
    daemon.wait_records(count).remove(count - 1)
}

/// A ServiceEntry of namespace `istio-system` for a host with one port of HTTP, resolved by name.
pub(crate) fn entry(name: &str, host: &str, port: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: istio-system}}\n\
         spec: {{hosts: [{host}], resolution: DNS, ports: [{port}]}}\n---\n"
    )
}

/// A Gateway of the node's with these servers.
pub(crate) fn gateway(servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: Gateway\n\
         metadata: {{name: edge, namespace: istio-system}}\n\
         spec: {{selector: {{istio: egressgateway}}, servers: [{servers}]}}\n---\n"
    )
}

/// A VirtualService of that Gateway's.
pub(crate) fn rule(name: &str, host: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: VirtualService\n\
         metadata: {{name: {name}, namespace: istio-system}}\n\
         spec: {{hosts: [{host}], gateways: [edge], {rules}}}\n---\n"
    )
}
