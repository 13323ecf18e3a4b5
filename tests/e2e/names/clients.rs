//! The resolvers that programs come with.

use std::fs;

use egressd_tests::{Daemon, Node, Spawn, Unbound};
use tempfile::TempDir;

use super::{UPSTREAM, node, service};

const LOOKUP_C: &str = include_str!("clients/lookup.c");
const LOOKUP_GO: &str = include_str!("clients/lookup.go");
const LOOKUP_JAVA: &str = include_str!("clients/Lookup.java");
const LOOKUP_JS: &str = include_str!("clients/lookup.js");
const LOOKUP_PY: &str = include_str!("clients/lookup.py");

/// The name of a service, and one that only the upstream knows.
const NAMES: [&str; 2] = ["one.test", "elsewhere.test"];
/// What they are.
const ANSWERS: [&str; 2] = ["240.240.0.1", "192.0.2.7"];

/// Lets a client look both names up, and expects the addresses by each of the `ways` that it has and
/// prints.
fn check(ways: &[&str], client: impl FnOnce(&Node) -> Spawn<'_>) {
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["elsewhere.test. 5 A 192.0.2.7"]);
    let daemon = node.daemon().resource(service("one", "STATIC", &["192.0.2.1"])).start();
    let client = NAMES.iter().fold(client(&node), |client, name| client.arg(name));
    let text = client.run().text();
    for way in ways {
        for (name, answer) in NAMES.iter().zip(ANSWERS) {
            let line = format!("{way} {name} {answer}");
            assert!(text.lines().any(|printed| printed == line), "no `{line}` in:\n{text}");
        }
    }
    assert_captured(&daemon, 2 * ways.len() as u64);
    daemon.stop();
}

/// Every question went through us.
fn assert_captured(daemon: &Daemon, least: u64) {
    let requests = daemon.number("/dns/requests");
    assert!(requests >= least, "{requests} queries captured, not {least}");
}

#[test]
fn glibc_through_getent() {
    const SCRIPT: &str = "for name; do getent ahosts $name | awk -v n=$name '/STREAM/ {print \"lookup\", n, $1}'; done";
    check(&["lookup"], |node| node.app(["sh", "-c", SCRIPT, "sh"]));
}

#[test]
fn python() {
    check(&["lookup"], |node| node.python(LOOKUP_PY));
}

#[test]
fn node_js_by_both_of_its_resolvers() {
    check(&["lookup", "own"], |node| node.app(["node", "-e", LOOKUP_JS]));
}

#[test]
fn go_by_both_of_its_resolvers() {
    let folder = TempDir::with_prefix("egressd-go-").unwrap();
    let (source, program) = (folder.path().join("lookup.go"), folder.path().join("lookup"));
    fs::write(&source, LOOKUP_GO).unwrap();
    let cache = format!("GOCACHE={}", folder.path().join("cache").display());
    let compiler = Spawn::new(["env", &cache, "go", "build", "-o"]).arg(&program).arg(&source);
    compiler.run().expect_code(0);
    check(&["lookup", "own"], |node| node.app([&program]));
}

#[test]
fn java_by_both_of_its_resolvers() {
    let folder = TempDir::with_prefix("egressd-java-").unwrap();
    let source = folder.path().join("Lookup.java");
    fs::write(&source, LOOKUP_JAVA).unwrap();
    let java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
    check(&["lookup", "own"], |node| node.app(java).arg(&source));
}

#[test]
fn musl() {
    let folder = TempDir::with_prefix("egressd-musl-").unwrap();
    let (source, program) = (folder.path().join("lookup.c"), folder.path().join("lookup"));
    fs::write(&source, LOOKUP_C).unwrap();
    let compiler = Spawn::new(["musl-gcc", "-static", "-o"]).arg(&program).arg(&source);
    compiler.run().expect_code(0);
    check(&["lookup"], |node| node.app([&program]));
}
