//! Thousands of connections that talk while everything is reloaded, again and again. Shortened here;
//! `cargo xtask soak` runs it in full and keeps the result.

use std::{
    env, fs,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4, until};

use crate::services::tcp;

const SERVICES: usize = 20;
const PORT: u16 = 27018;
const SOAK: &str = include_str!("clients/soak.py");

/// How much: `EGRESSD_SOAK=CONNECTIONS,SECONDS`.
fn size() -> (usize, u64) {
    let asked = env::var("EGRESSD_SOAK").unwrap_or_else(|_| "1000,8".to_owned());
    let (connections, seconds) = asked.split_once(',').expect("CONNECTIONS,SECONDS");
    (connections.parse().unwrap(), seconds.parse().unwrap())
}

fn endpoint(service: usize, index: usize) -> String {
    format!("{}:{}", WORLD_V4[index], 10_000 + service)
}

/// A service with its first or with both of its endpoints.
fn service(index: usize, both: bool) -> String {
    let all = [endpoint(index, 0), endpoint(index, 1)];
    let used: Vec<_> = all.iter().take(1 + usize::from(both)).map(String::as_str).collect();
    tcp(&format!("s{index}"), &[&format!("203.0.113.{}", index + 1)], PORT, &used)
}

/// Something else in each generation: the endpoints of a service, and a service that comes and goes.
fn edit(daemon: &Daemon, turn: usize) {
    let put = |name: &str, yaml: &str| {
        let new = daemon.folder().join("new");
        fs::write(&new, yaml).unwrap();
        fs::rename(&new, daemon.folder().join("resources").join(name)).unwrap();
    };
    let index = turn % SERVICES;
    put(&format!("{index}.yaml"), &service(index, (turn / SERVICES) % 2 == 1));
    match turn % 2 {
        0 => put("more.yaml", &tcp("more", &["203.0.113.200"], PORT, &[&endpoint(0, 2)])),
        _ => fs::remove_file(daemon.folder().join("resources/more.yaml")).unwrap(),
    }
}

/// A field of /proc/PID/status in KiB.
fn memory(daemon: &Daemon, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

/// Runs the client; what it prints at the end.
fn run(node: &Node, daemon: &Daemon, connections: usize, seconds: u64) -> (String, u64) {
    let lines: String =
        (0..SERVICES).map(|index| format!("203.0.113.{}:{PORT}=s{index}\n", index + 1)).collect();
    let client = node.python(SOAK).arg(connections.to_string()).arg(seconds.to_string());
    let mut client = client.input(lines).start();
    let whole = format!("held {connections}");
    client.wait_stdout("that all connections stand", |line| line.trim() == whole);
    let at_the_peak = memory(daemon, "VmRSS:");
    let deadline = Instant::now() + Duration::from_secs(seconds + 60);
    while client.is_running() {
        assert!(Instant::now() < deadline, "the client does not end");
        thread::sleep(Duration::from_millis(100));
    }
    let text = client.wait().text();
    (text.lines().last().unwrap_or_default().to_owned(), at_the_peak)
}

#[test]
fn nothing_fails_while_everything_is_reloaded() {
    let (connections, seconds) = size();
    let node = Node::new();
    let servers = (0..SERVICES).flat_map(|service| {
        [0, 1].map(|index| (endpoint(service, index), Behaviour::Named(format!("s{service}"))))
    });
    let _servers = Servers::tcp(&node.world, servers);
    let builder =
        (0..SERVICES).fold(node.daemon(), |builder, index| builder.resource(service(index, true)));
    let daemon = builder.start();
    // What is made once, such as buffers and the tables of a reload, is not what is looked for.
    run(&node, &daemon, connections, 1);
    edit(&daemon, 0);
    daemon.wait_number("/generation", 2);
    daemon.wait_number("/flows", 0);
    let (before, descriptors_before) = (memory(&daemon, "VmRSS:"), descriptors(&daemon));
    let (printed, peak, reloads) = thread::scope(|scope| {
        // Dropped, also by a panic, it ends the editor.
        let (ended, ends) = mpsc::channel::<()>();
        let daemon = &daemon;
        let editor = scope.spawn(move || {
            let mut turn = 0;
            while ends.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                turn += 1;
                edit(daemon, turn);
            }
            turn
        });
        let (printed, peak) = run(&node, daemon, connections, seconds);
        drop(ended);
        (printed, peak, editor.join().unwrap())
    });
    daemon.wait_number("/flows", 0);
    daemon.wait_number("/handoffs", 0);
    until("the descriptors to be closed", || {
        (descriptors(&daemon) <= descriptors_before + 4).then_some(())
    });
    let after = memory(&daemon, "VmRSS:");
    let generations = daemon.number("/generation");
    let report = format!(
        "{connections} connections for {seconds} s: {printed}; {generations} generations by \
         {reloads} edits; resident {before} KiB before, {peak} KiB with all of them, {after} KiB \
         after\n"
    );
    print!("{report}");
    if let Some(path) = env::var_os("EGRESSD_SOAK_REPORT") {
        fs::write(path, &report).unwrap();
    }
    assert!(printed.starts_with("failed 0 wrong 0 "), "{report}{}", daemon.log());
    assert!(generations >= seconds / 2, "{report}");
    assert!(after <= before + before / 5 + 4096, "{report}");
    let failed = daemon.records().iter().filter(|record| record.flags != "-").count();
    assert_eq!(failed, 0, "{report}");
    daemon.stop();
}
