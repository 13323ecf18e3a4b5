//! The programs in the running kernel: they load, every map opens, and a connect() is turned, handed
//! over and answered for. Needs root; works in a network namespace and a cgroup of its own.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
};

use egressd_abi::{Row, RowKey, RowVerdict};
use egressd_datapath::{Datapath, KernelTable, Listeners, Settings, cgroup2_root};
use nix::sched::{CloneFlags, unshare};

/// A cgroup of this test's own, removed at its end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let path = cgroup2_root().unwrap().join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Runs a shell script inside, and gives what it printed.
    fn run(&self, script: &str) -> String {
        let inside = format!("echo $$ > {}/cgroup.procs; {script}", self.0.display());
        let output = Command::new("bash").args(["-c", &inside]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}

fn client(to: &str) -> String {
    format!(
        "python3 -c \"import socket
s = socket.create_connection({to}, timeout=5)
print(s.getpeername()[:2], s.recv(100).decode())\" 2>&1 | tail -n 1"
    )
}

fn answer(listener: TcpListener, originals: egressd_datapath::Originals) {
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        for accepted in listener.incoming() {
            let mut accepted = accepted.unwrap();
            let original = originals.get(&accepted).unwrap();
            let said = original.map_or("nothing".to_owned(), |o| o.destination.to_string());
            accepted.write_all(said.as_bytes()).unwrap();
        }
    });
}

#[test]
fn a_connect_is_turned_and_handed_over() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let cgroup = Cgroup::new("egressd-kernel-test");
    let settings =
        Settings { cgroups: vec![cgroup.0.clone()], port: 15001, reject_on_proxy_down: false };
    let mut datapath = Datapath::load(settings).unwrap();
    let listeners = Listeners::bind(15001).unwrap();
    assert_eq!((listeners.spread_v4(), listeners.spread_v6()), (16, 16));
    datapath.configure(&listeners).unwrap();
    datapath.learn_addresses().unwrap();
    for listener in listeners.into_sockets() {
        answer(listener, datapath.originals());
    }
    let row = Row::new(RowVerdict::Proxy, 0);
    let rows = ["240.0.0.1:80", "[2001:2::1]:80"].map(|text| {
        let address: SocketAddr = text.parse().unwrap();
        (RowKey::from(address), row)
    });
    let exact = BTreeMap::from(rows);
    let network: SocketAddr = "192.0.2.0:0".parse().unwrap();
    let prefixes = BTreeMap::from([((24, RowKey::from(network)), row)]);
    let table = KernelTable { exact, prefixes, deny_unknown: true, ..KernelTable::default() };
    datapath.publish(1, &table).unwrap();
    datapath.attach().unwrap();

    for (to, said) in [
        ("('240.0.0.1', 80)", "('240.0.0.1', 80) 240.0.0.1:80"),
        ("('2001:2::1', 80)", "('2001:2::1', 80) [2001:2::1]:80"),
        ("('::ffff:240.0.0.1', 80)", "('::ffff:240.0.0.1', 80) 240.0.0.1:80"),
        ("('192.0.2.77', 4444)", "('192.0.2.77', 4444) 192.0.2.77:4444"),
        ("('127.0.0.1', 1)", "ConnectionRefusedError: [Errno 111] Connection refused"),
        ("('192.0.3.77', 4444)", "ConnectionRefusedError: [Errno 111] Connection refused"),
        ("('127.64.0.1', 15001)", "ConnectionRefusedError: [Errno 111] Connection refused"),
    ] {
        assert_eq!(cgroup.run(&client(to)).trim(), said);
    }
    assert_eq!(datapath.handoffs(), 0);
    let counters: BTreeMap<_, _> = datapath.counters().unwrap().into_iter().collect();
    assert_eq!(counters["captured"], 4);
    assert_eq!(counters["denied"], 1);
    assert_eq!(counters["direct_dial"], 1);

    datapath.publish(2, &KernelTable::default()).unwrap();
    let unreachable = cgroup.run(&client("('240.0.0.1', 80)"));
    assert!(unreachable.contains("Network is unreachable"), "{unreachable}");

    // Outside the captured cgroup a spread address is an ordinary one, but nobody is handed over.
    let mut stranger = TcpStream::connect_timeout(
        &"127.64.0.3:15001".parse().unwrap(),
        std::time::Duration::from_secs(5),
    )
    .unwrap();
    let mut said = String::new();
    stranger.read_to_string(&mut said).unwrap();
    assert_eq!(said, "nothing");
}
