//! Virtual addresses: whose they are, for how long, and what they lead to.

use std::{ffi::OsString, fs, time::SystemTime};

use egressd_tests::{Behaviour, Bind, Daemon, Node, Servers, Signal, WORLD_V4};

use super::{UPSTREAM, entry, node, service};

/// The address a name has, by the C library's resolver.
fn address(node: &Node, name: &str) -> String {
    let printed = node.app(["getent", "ahostsv4", name]).run().stdout;
    printed.split_whitespace().next().unwrap_or("none").to_owned()
}

fn start(node: &Node, names: &[&str]) -> Daemon {
    let endpoints = [WORLD_V4[0]];
    names
        .iter()
        .fold(node.daemon(), |builder, name| builder.resource(service(name, "STATIC", &endpoints)))
        .start()
}

/// The only file of the daemon's state beside its lock: its name, and what is in it.
fn kept_state(daemon: &Daemon) -> (OsString, Vec<u8>) {
    let files = fs::read_dir(daemon.folder().join("state")).unwrap().map(Result::unwrap);
    let mut files = files.filter(|file| file.file_name() != "vips.lock");
    let file = files.next().unwrap();
    assert!(files.next().is_none(), "one file of state");
    (file.file_name(), fs::read(file.path()).unwrap())
}

#[test]
fn addresses_outlive_the_daemon() {
    let node = node();
    let daemon = start(&node, &["first", "second"]);
    assert_eq!(address(&node, "first.test"), "240.240.0.1");
    assert_eq!(address(&node, "second.test"), "240.240.0.2");
    let kept = kept_state(&daemon);
    daemon.stop();
    // The older service is gone; the younger one keeps its address.
    let builder = node.daemon().resource(service("second", "STATIC", &[WORLD_V4[0]]));
    fs::create_dir(builder.folder().join("state")).unwrap();
    fs::write(builder.folder().join("state").join(&kept.0), &kept.1).unwrap();
    let daemon = builder.start();
    assert_eq!(address(&node, "second.test"), "240.240.0.2");
    daemon.stop();
}

#[test]
fn a_state_that_cannot_be_used_is_set_aside() {
    let node = node();
    for (text, why) in [("half a fi", "expected"), ("{\"version\": 9}", "its version is 9, not 1")]
    {
        let builder = node.daemon().resource(service("one", "STATIC", &[WORLD_V4[0]]));
        let state = builder.folder().join("state");
        fs::create_dir(&state).unwrap();
        fs::write(state.join("vips.json"), text).unwrap();
        let daemon = builder.start();
        let log = daemon.log();
        assert!(log.contains("is kept as") && log.contains(why), "{log}");
        assert_eq!(fs::read_to_string(state.join("vips.json.corrupt-1")).unwrap(), text);
        assert_eq!(address(&node, "one.test"), "240.240.0.1");
        daemon.stop();
    }
}

/// A state in which every address but that of `kept.test` rests for an hour.
fn nearly_exhausted() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let row = |name: &str, n: u32| {
        let [_, _, a, b] = n.to_be_bytes();
        serde_json::json!({
            "namespace": "default", "entry": name, "host": format!("{name}.test"),
            "v4": format!("240.240.{a}.{b}"), "v6": format!("2001:2::{n:x}"),
        })
    };
    let resting: Vec<_> = (2..=0xffff)
        .map(|n| serde_json::json!({"was": row(&format!("gone-{n}"), n), "until": now + 3600}))
        .collect();
    let given = [row("kept", 1)];
    serde_json::json!({"version": 1, "next": 2, "given": given, "resting": resting}).to_string()
}

#[test]
fn a_range_without_addresses_left_leaves_hosts_to_the_upstream() {
    let node = node();
    let bind = Bind::start(&node.world, UPSTREAM, "late 1 IN A 192.0.2.9");
    let names = ["kept", "late"].map(|name| service(name, "STATIC", &[WORLD_V4[0]]));
    let builder = names.into_iter().fold(node.daemon(), |builder, yaml| builder.resource(yaml));
    let state = builder.folder().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("vips.json"), nearly_exhausted()).unwrap();
    let daemon = builder.start();
    let log = daemon.log();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(errors[0].contains("late.test") && errors[0].contains("240.240.0.0/16"), "{log}");
    assert_eq!(address(&node, "kept.test"), "240.240.0.1");
    assert_eq!(address(&node, "late.test"), "192.0.2.9");
    assert!(bind.queries("late.test", "A") > 0);
    daemon.stop();
}

/// Talks over a connection whenever it is told to.
pub(super) const TALKER: &str = r#"
import signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
address = socket.gethostbyname(sys.argv[1])
sock = socket.create_connection((address, int(sys.argv[2])), timeout=60)
lines = sock.makefile()
print("server", lines.readline().strip(), "at", sock.getpeername()[0], flush=True)
for turn in range(100):
    signal.sigwait([signal.SIGUSR1])
    sock.sendall(b"ping %d\n" % turn)
    print("echo", lines.readline().strip(), flush=True)
"#;

#[test]
fn a_thousand_services_come_and_go_around_the_others() {
    let node = node();
    let _server = Servers::one(&node.world, "10.77.0.2:9000", Behaviour::named("steady"));
    let steady =
        |name: &str| entry(name, &format!("{name}.test"), "TCP", 5432, "STATIC", &[WORLD_V4[0]]);
    let daemon = node.daemon().resource(steady("steady-a")).resource(steady("steady-z")).start();
    let known = |name: &str| address(&node, &format!("{name}.test"));
    let before = [known("steady-a"), known("steady-z")];
    let mut talker = node.python(TALKER).arg("steady-z.test").arg("5432").start();
    let line = talker.wait_stdout("the server's name", |line| line.starts_with("server"));
    assert_eq!(line, format!("server steady at {}", before[1]));
    // In order of names they come before, between and after the others.
    let many: Vec<_> = (0..1000)
        .map(|n| {
            service(&format!("{}-{n}", ["a", "steady-m", "z"][n % 3]), "STATIC", &["192.0.2.1"])
        })
        .collect();
    let file = daemon.folder().join("resources/many.yaml");
    for (round, services) in [&many[..], &many[..500], &many, &[]].into_iter().enumerate() {
        let draft = daemon.folder().join("many.draft");
        match services {
            [] => fs::remove_file(&file).unwrap(),
            some => {
                fs::write(&draft, some.join("---\n")).unwrap();
                fs::rename(&draft, &file).unwrap();
            }
        }
        daemon.wait_number("/generation", 2 + round as u64);
        assert_eq!([known("steady-a"), known("steady-z")], before, "round {round}");
        let added = known("a-0");
        assert_eq!(added == "none", services.is_empty(), "a-0.test is {added}");
        talker.signal(Signal::SIGUSR1);
        let echo = format!("echo ping {round}");
        talker.wait_stdout("an echo", |line| line.trim() == echo);
    }
    drop(talker);
    daemon.stop();
}

/// A daemon with a service at port 80 by DNS, whose name leads to the first address of the world.
fn declared_at_80<'a>(node: &'a Node, config: &str) -> (Bind<'a>, Daemon) {
    let bind = Bind::start(&node.world, UPSTREAM, &format!("one 1 IN A {}", WORLD_V4[1]));
    let one = service("one", "DNS", &[]);
    let daemon = node.daemon().config(config).resource(one).start();
    (bind, daemon)
}

#[test]
fn a_port_that_is_not_declared_is_forwarded_to_the_host() {
    let node = node();
    let _server = Servers::one(&node.world, "10.77.0.3:8443", Behaviour::named("the host"));
    let (_bind, daemon) = declared_at_80(&node, "");
    let mut talker = node.python(TALKER).arg("one.test").arg("8443").start();
    let line = talker.wait_stdout("the server's name", |line| line.starts_with("server"));
    assert_eq!(line, "server the host at 240.240.0.1");
    drop(talker);
    let record = daemon.wait_record();
    assert_eq!(record.decision(), ("-", "PassthroughCluster", "240.240.0.1:8443"));
    assert_eq!(record.upstream_host, "10.77.0.3:8443");
    assert!(record.line.contains("one.test"), "{}", record.line);
    daemon.stop();
}

/// Connects, and says how that ended and whether it took long.
const REFUSED: &str = r#"
import socket, sys, time
begin = time.monotonic()
try:
    address = socket.gethostbyname(sys.argv[1])
    sock = socket.create_connection((address, int(sys.argv[2])), timeout=10)
    print("received", sock.recv(10))
except OSError as error:
    print("failed", error.strerror)
print("fast" if time.monotonic() - begin < 5 else "slow")
"#;

#[test]
fn a_port_that_is_not_declared_is_refused_where_nothing_says_what_it_means() {
    const REGISTRY_ONLY: &str = "meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
    let connect = |node: &Node, name: &str| node.python(REFUSED).arg(name).arg("8443").run().text();
    // Under REGISTRY_ONLY whatever is not declared is denied.
    let strict = node();
    let (_bind, daemon) = declared_at_80(&strict, REGISTRY_ONLY);
    assert_eq!(connect(&strict, "one.test"), "failed Connection refused\nfast");
    let decision = ("UH", "BlackHoleCluster", "240.240.0.1:8443");
    assert_eq!(daemon.wait_record().decision(), decision);
    daemon.stop();
    // The endpoints of a STATIC service say nothing about other ports of its host.
    let open = node();
    let daemon = start(&open, &["one"]);
    assert_eq!(connect(&open, "one.test"), "failed Connection refused\nfast");
    assert_eq!(daemon.wait_record().decision(), decision);
    daemon.stop();
}
