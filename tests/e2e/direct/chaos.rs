//! Endpoints that refuse, vanish and reset, answers that change, reloads each second, and daemons that
//! are killed. Shortened here; `cargo xtask chaos` runs it in full.

use std::{
    env, fs, thread,
    time::{Duration, Instant, SystemTime},
};

use egressd_tests::{Behaviour, Daemon, Node, Servers, Signal};

use super::{
    pins::BpfFs,
    world::{ALL, PORT, VIP, at, service},
};
use crate::services::rule;

/// How long, and how many daemons: `EGRESSD_CHAOS=SECONDS,RESTARTS`.
fn size() -> (u64, u32) {
    let asked = env::var("EGRESSD_CHAOS").unwrap_or_else(|_| "15,3".to_owned());
    let (seconds, restarts) = asked.split_once(',').expect("SECONDS,RESTARTS");
    (seconds.parse().unwrap(), restarts.parse().unwrap())
}

/// Connects all the time; a line for each connection: when it began, in nanoseconds, and who answered.
const CLIENT: &str = "
import socket, sys, threading, time
end = time.time() + float(sys.argv[1])
out = open(sys.argv[2], 'w')
lock = threading.Lock()

def run():
    while time.time() < end:
        start = time.time_ns()
        name = 'failed'
        try:
            with socket.create_connection(('192.0.2.10', 9000), timeout=2) as sock:
                sock.settimeout(2)
                name = sock.recv(100).decode().strip() or 'closed'
        except OSError:
            time.sleep(0.002)
        with lock:
            out.write(f'{start} {name}\\n')

threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
out.close()
";

const POLICY: &str = "connectionPool: {tcp: {maxConnections: 50, connectTimeout: 300ms}}, \
                      outlierDetection: {consecutive5xxErrors: 5, interval: 1s, \
                      baseEjectionTime: 1s, maxEjectionPercent: 60}";

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

/// Times, in nanoseconds, between which nobody may reach an endpoint.
struct Removed {
    index: usize,
    from: u128,
    until: u128,
}

/// Takes an endpoint out of the service; what is in force by `from` holds until `until`.
fn without(daemon: &Daemon, index: usize) -> Removed {
    let left: Vec<_> = ALL.into_iter().filter(|(one, _)| *one != index).collect();
    let generation = daemon.number("/generation");
    daemon.put(0, &service(&left));
    daemon.wait_number("/generation", generation + 1);
    let from = now();
    thread::sleep(Duration::from_millis(400));
    let until = now();
    daemon.put(0, &service(&ALL));
    daemon.wait_number("/generation", generation + 2);
    Removed { index, from, until }
}

#[test]
fn nobody_reaches_what_is_gone_and_counts_stay_true() {
    let (seconds, restarts) = size();
    let (node, bpf) = (Node::new(), BpfFs::mount());
    let listen = |index: usize| Servers::one(&node.world, &at(index), Behaviour::named(at(index)));
    let _stays = listen(0);
    let mut wavers = Some(listen(1));
    let _resets = Servers::one(&node.world, &at(2), Behaviour::named(at(2)));
    let launch = || {
        let daemon = node.daemon().config(&bpf.config()).resource(service(&ALL));
        daemon.resource(rule("one", POLICY)).start()
    };
    let mut daemon = launch();
    let lines = tempfile::NamedTempFile::new().unwrap();
    let client = node.python(CLIENT).arg(seconds.to_string()).arg(lines.path()).start();
    let (begin, mut turn, mut killed) = (Instant::now(), 0_u32, 0_u32);
    let mut removed = Vec::new();
    while begin.elapsed() < Duration::from_secs(seconds.saturating_sub(2)) {
        turn += 1;
        // Refused for a while, then there again.
        wavers = if wavers.is_some() { None } else { Some(listen(1)) };
        removed.push(without(&daemon, turn as usize % 3));
        let due = begin.elapsed().as_secs_f64() / seconds as f64 * f64::from(restarts + 1);
        if killed < restarts && due >= f64::from(killed + 1) {
            killed += 1;
            if killed % 2 == 0 {
                daemon.stop();
            } else {
                daemon.signal(Signal::SIGKILL);
                drop(daemon.wait());
            }
            daemon = launch();
        }
    }
    let mut client = client;
    let deadline = Instant::now() + Duration::from_secs(seconds + 30);
    while client.is_running() {
        assert!(Instant::now() < deadline, "the client does not end");
        thread::sleep(Duration::from_millis(100));
    }
    daemon.wait_number("/direct/active", 0);
    let text = fs::read_to_string(lines.path()).unwrap();
    let connections: Vec<(u128, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(start, name)| (start.parse().unwrap(), name))
        .collect();
    let late = |gone: &Removed| {
        let name = at(gone.index);
        let inside =
            connections.iter().filter(|(start, _)| (gone.from..gone.until).contains(start));
        inside.filter(|(_, answered)| **answered == *name).count()
    };
    let late: usize = removed.iter().map(late).sum();
    let answered = connections.iter().filter(|(_, name)| name.contains(':')).count();
    let report = format!(
        "{} connections in {seconds} s, {answered} answered; {} endpoints taken away, {killed} \
         daemons ended; {late} connections to what was gone; {} counted at the end\n",
        connections.len(),
        removed.len(),
        daemon.number("/direct/active"),
    );
    print!("{report}");
    if let Some(path) = env::var_os("EGRESSD_CHAOS_REPORT") {
        fs::write(path, &report).unwrap();
    }
    assert_eq!((late, killed), (0, restarts), "{report}");
    assert!(answered > connections.len() / 4, "{report}");
    assert!(!daemon.log().contains("counted that are no more"), "{}", daemon.log());
    let _unused = (VIP, PORT, wavers);
    daemon.stop();
}
