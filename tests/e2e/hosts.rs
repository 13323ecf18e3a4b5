//! What the kernel knows of hosts: the same as the tables.

use std::fs;

use egressd_tests::{Daemon, Node, Spawn, until};
use serde_json::Value;

use crate::clients::dial;

const CONFIG: &str = "dns: {capture: all}\n\
                      meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";

/// Hosts with an address of their own, with an allocated one, with a long name; a wildcard, and two
/// that share an address.
const RESOURCES: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: written}
spec:
  hosts: [Written.Test]
  addresses: [192.0.2.10, 2001:db8::10, 198.51.100.0/24]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.77.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: allocated}
spec:
  hosts:
  - allocated.test
  - a-name-that-is-longer-than-most.which-goes-on-for-quite-some-time.and-then-some-more-of-it.in-the.test
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.77.0.2}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shared}
spec:
  hosts: [one.shared.test, \"*.shared.test\"]
  addresses: [192.0.2.20]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: NONE
";

/// What `egressd config vips` prints, with more arguments.
fn vips(daemon: &Daemon, node: &Node, words: &[&str]) -> Value {
    let spawn = Spawn::new([egressd_tests::egressd()]).netns(&node.netns);
    let spawn = spawn.arg("config").arg("vips").arg("--output").arg("json");
    let text = words.iter().fold(spawn, |spawn, word| spawn.arg(word)).run().text();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}\n{}", daemon.log()))
}

/// `host address,…` lines of the tables and of the kernel, and `address host` of both.
fn both(daemon: &Daemon, node: &Node) -> [(Vec<String>, Vec<String>); 2] {
    let folder = daemon.folder().display().to_string();
    let offline = vips(daemon, node, &["--config", &folder, "--state", &format!("{folder}/state")]);
    let running = vips(daemon, node, &["--admin", &format!("{folder}/admin.sock")]);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = |value: &Value| value.as_array().unwrap().iter().map(text).collect::<Vec<_>>();
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for service in offline.as_array().unwrap() {
        let mut all = list(&service["addresses"]);
        all.retain(|address| !address.contains('/'));
        all.extend(list(&service["allocated"]));
        let host = text(&service["host"]);
        names.push(format!("{} {}", host.to_lowercase(), all.join(",")));
        addresses.extend(all.into_iter().map(|address| format!("{address} {host}")));
    }
    let hosts = running["hosts"].as_array().unwrap();
    let line =
        |host: &Value| format!("{} {}", text(&host["host"]), list(&host["addresses"]).join(","));
    let known = hosts.iter().map(line).collect();
    let reverse = running["addresses"].as_array().unwrap();
    let line =
        |address: &Value| format!("{} {}", text(&address["address"]), text(&address["host"]));
    let known = (known, reverse.iter().map(line).collect());
    let sorted = |(mut names, mut addresses): (Vec<String>, Vec<String>)| {
        names.sort();
        addresses.sort();
        (names, addresses)
    };
    // Of an address that is shared, the kernel says the first service.
    addresses.retain(|line| line != "192.0.2.20 one.shared.test");
    [sorted((names, addresses)), sorted(known)]
}

#[test]
fn the_kernel_knows_the_hosts_of_the_tables() {
    let node = Node::new();
    let mut daemon = node.daemon().config(CONFIG).resource(RESOURCES).start();
    let [tables, kernel] = both(&daemon, &node);
    assert_eq!(tables, kernel);
    assert_eq!(kernel.0.len(), 5, "{kernel:?}");
    // One goes, one comes, one moves.
    let edited =
        RESOURCES.replace("allocated.test", "other.test").replace("192.0.2.10", "192.0.2.11");
    fs::write(daemon.folder().join("resources/0.yaml"), edited).unwrap();
    daemon.wait_log("the reload", |line| line.contains("reloaded"));
    let [tables, kernel] = both(&daemon, &node);
    assert_eq!(tables, kernel);
    assert!(kernel.0.iter().any(|line| line.starts_with("other.test ")), "{kernel:?}");
    assert!(kernel.1.contains(&"192.0.2.11 Written.Test".to_owned()), "{kernel:?}");
    daemon.stop();
}

#[test]
fn a_denial_names_the_host_that_was_meant() {
    let node = Node::new();
    let daemon = node.daemon().config(CONFIG).resource(RESOURCES).start();
    // A port that the host does not declare; one that two hosts may have meant.
    dial(&node, "192.0.2.10", 81, &[]).run();
    dial(&node, "192.0.2.20", 81, &[]).run();
    daemon.wait_records(2);
    for (to, host) in [("192.0.2.10:81", "Written.Test"), ("192.0.2.20:81", "-")] {
        until(&format!("a line that {to} was denied"), || {
            let log = daemon.log();
            let mut lines = log.lines().filter(|line| line.contains("connect() denied"));
            let line = lines.find(|line| line.contains(to))?.to_owned();
            assert!(line.contains(&format!("host=\"{host}\"")), "{line}");
            Some(())
        });
    }
    daemon.stop();
}
