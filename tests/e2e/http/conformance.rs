//! A sample of Istio's own answers (`conformance/routing/`), by real requests over real sockets.
//!
//! The data is looked for as the tables' tests do it. What is compared is the cluster in the record, or
//! what the application is told where no cluster is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use egressd_tests::{AccessLine, Daemon};
use serde_json::Value;

use super::world::{Answer, World};

/// At least so many calls are a sample.
const ENOUGH: usize = 100;

#[test]
fn requests_go_where_istio_sends_them() {
    let Some(folder) = conformance() else { return };
    let world = World::new(&[]);
    let mut wrong = Vec::new();
    let mut calls = 0;
    for case in sample(&folder.join("routing")) {
        let asked = asked(&case);
        if asked.is_empty() {
            continue;
        }
        let daemon = daemon(&world, &case);
        for (call, expected) in asked {
            calls += 1;
            let found = ask(&world, &daemon, &call);
            if !found.contains(&expected) {
                wrong.push(format!("{} {call}: {expected}, not {found:?}", case.display()));
            }
        }
        daemon.stop();
    }
    assert!(wrong.is_empty(), "{} of {calls}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(calls >= ENOUGH, "{calls} calls");
}

#[expect(clippy::print_stdout, reason = "a test says that it was skipped")]
fn conformance() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/conformance");
    let folder = std::env::var_os("EGRESSD_CONFORMANCE")
        .map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let required = std::env::var_os("EGRESSD_REQUIRE_CONFORMANCE").is_some_and(|one| one == "1");
    assert!(folder.is_dir() || !required, "no conformance data in {}", folder.display());
    if !folder.is_dir() {
        println!("SKIPPED: no conformance data in {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Every tenth configuration of the matrix, and every third of the others.
fn sample(routing: &Path) -> Vec<PathBuf> {
    let every = |group: PathBuf| {
        let step = if group.ends_with("matrix") { 10 } else { 3 };
        folders(&group).into_iter().step_by(step)
    };
    folders(routing).into_iter().flat_map(every).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

/// The requests in the clear of a configuration that have one answer, and the answers.
fn asked(case: &Path) -> Vec<(Value, String)> {
    let text = fs::read_to_string(case.join("calls.tsv")).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let plain = |result: &str| !["weighted", "redirect"].iter().any(|one| result.starts_with(one));
    rows.filter(|row| row[4] == "True" && plain(row[1]))
        .map(|row| {
            // The simulator adds where it has found the route.
            let result = row[1].trim_end_matches("(inline route)").to_owned();
            (serde_json::from_str::<Value>(row[0]).unwrap(), result)
        })
        .filter(|(call, _)| {
            let word = |key: &str| call[key].as_str().unwrap_or_default().to_owned();
            word("protocol").starts_with("http") && ["", "plaintext"].contains(&&*word("tls"))
        })
        .collect()
}

fn daemon(world: &World, case: &Path) -> Daemon {
    let read = |name: &str| fs::read_to_string(case.join(name)).ok();
    let options: Value =
        read("options.json").map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    let (allocate, capture) = (options["allocate"] == true, options["dns_capture"] == true);
    let capture = if capture { "all" } else { "none" };
    let mut config = format!(
        "answers: istio\n\
         dns: {{capture: {capture}, allocateVips: {allocate}, upstreams: [10.77.0.2]}}\n"
    );
    if let Some(mesh) = read("mesh.yaml") {
        config.push_str("meshConfig:\n");
        for line in mesh.lines() {
            config.push_str(&format!("  {line}\n"));
        }
    }
    let config = config.trim_end();
    world.node.daemon().config(config).resource(read("config.yaml").unwrap()).start()
}

/// What becomes of a call, in all the words for it.
fn ask(world: &World, daemon: &Daemon, call: &Value) -> Vec<String> {
    let word = |key: &str, default: &str| call[key].as_str().unwrap_or(default).to_owned();
    let (address, host) = (word("address", "1.3.3.7"), word("host", ""));
    let url = format!("http://{address}:{}{}", call["port"], word("path", "/"));
    let spawn = world.node.curl(&url).arg("--path-as-is").arg("--header");
    let mut spawn = spawn.arg(format!("host: {host}"));
    if call["protocol"] == "http2" {
        spawn = spawn.arg("--http2-prior-knowledge");
    }
    if let Some(method) = call["method"].as_str() {
        spawn = spawn.arg("--request").arg(method);
    }
    for (name, value) in call["headers"].as_object().into_iter().flatten() {
        spawn = spawn.arg("--header").arg(format!("{name}: {}", value.as_str().unwrap()));
    }
    let counters = || ["captured", "denied"].map(|one| daemon.number(&format!("/counters/{one}")));
    let ([captured, denied], count) = (counters(), daemon.records().len());
    let finished = spawn.arg("--write-out").arg("\n%{http_code} %{time_total}").run();
    let status = Answer::parse(&finished.stdout).status;
    let [captured_now, denied_now] = counters();
    if captured_now == captured && denied_now == denied {
        return vec!["PassthroughCluster".to_owned()];
    }
    let record = daemon.wait_records(count + 1).remove(count);
    let mut words = words(&record, status);
    // Istio lets such a connection through to an address that leads nowhere; here it is refused.
    if address.starts_with("240.240.") && record.upstream_cluster == "BlackHoleCluster" {
        words.push("PassthroughCluster".to_owned());
    }
    words
}

fn words(record: &AccessLine, status: u16) -> Vec<String> {
    let mut words = vec![record.upstream_cluster.clone()];
    if record.upstream_cluster == "-" {
        words.push(format!("direct_response:{status}"));
        if record.flags == "NR" {
            words.push("error:no route matched".to_owned());
        }
    }
    words
}
