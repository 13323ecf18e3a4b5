//! The programs in the running kernel: they load, every map opens, and a connect() is turned, handed
//! over and answered for. Needs root; works in a network namespace and a cgroup of its own.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use egressd_abi::{Row, RowKey, RowVerdict};
use egressd_datapath::{
    Datapath, Denied, DnsServers, DnsSettings, DnsSockets, Heartbeat, Host, HostTable, KernelTable,
    Listeners, Notice, Settings, cgroup2_root,
};
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
        "/usr/bin/python3 -c \"import socket
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

/// Sends every datagram back where it came from.
fn answer_datagrams(sockets: Vec<UdpSocket>) {
    for socket in sockets {
        socket.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((size, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..size], from).unwrap();
            }
        });
    }
}

const DNS_CLIENT: &str = "/usr/bin/python3 - <<'END' 2>&1 | tail -n 6
from socket import *
def new(family):
    s = socket(family, SOCK_DGRAM); s.settimeout(3); return s
s = new(AF_INET); s.connect(('192.0.2.53', 53)); s.send(b'hello')
print(s.getpeername(), s.recvfrom(99)[0])
s = new(AF_INET)
for word in (b'one', b'two'):
    s.sendto(word, ('192.0.2.53', 53)); data, peer = s.recvfrom(99); print(peer, data)
s = new(AF_INET6); s.sendto(b'six', ('2001:db8::53', 53)); data, peer = s.recvfrom(99); print(peer[:2], data)
s = new(AF_INET6); s.sendto(b'mapped', ('::ffff:192.0.2.53', 53)); data, peer = s.recvfrom(99); print(peer[:2], data)
s = new(AF_INET)
try: s.sendto(b'no', ('192.0.2.54', 53))
except OSError as e: print(('192.0.2.54', 53), e)
END";

/// Gives signs of life as long as some work takes.
fn while_beating<T>(heartbeat: &Heartbeat, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                heartbeat.beat().unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

/// Dials what is denied, again and again.
const FLOOD: &str = "/usr/bin/python3 - <<'END'
import socket
for _ in range(20000):
    socket.socket().connect_ex(('192.0.3.99', 4444))
END";

/// Dials a captured address in a network namespace of its own.
const ELSEWHERE: &str = "unshare --net /usr/bin/python3 - <<'END'
import socket, subprocess
subprocess.run(['ip', 'link', 'set', 'lo', 'up'])
socket.socket().connect_ex(('240.0.0.1', 80))
END";

/// The hosts of a generation: one with a name of each length, an address of its own, and one that
/// both share.
fn hosts(first: u32) -> HostTable {
    let long = format!("{}.test", "long".repeat(50));
    let (own, shared) = ([192, 0, 3, 77], IpAddr::from([192, 0, 3, 78]));
    let host = |name: &str, service| (name.into(), Host::new(Some(own.into()), None, service));
    HostTable::new(
        [host("short.test", first), host(&long, first + 1)],
        [(own.into(), first), (shared, first), (shared, first + 1)],
    )
}

/// The next denied connect(): where to, and the service and generation that it names.
fn denied(notices: &Receiver<Notice>) -> (String, Option<u32>, u32) {
    loop {
        let notice = notices.recv_timeout(Duration::from_secs(10)).unwrap();
        if let Notice::Denied { socket, why: Denied::UnknownDestination, .. } = notice {
            return (socket.destination.to_string(), socket.service, socket.generation);
        }
    }
}

#[test]
fn a_connect_is_turned_and_handed_over() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let cgroup = Cgroup::new("egressd-kernel-test");
    let servers = DnsServers::Listed(Vec::new());
    let settings = Settings {
        cgroups: vec![cgroup.0.clone()],
        port: 15001,
        reject_on_proxy_down: false,
        dns: Some(DnsSettings { port: 15053, servers }),
        pins: None,
    };
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
    let table = KernelTable { hosts: hosts(10), ..table };
    datapath.prepare(1, &table).unwrap();
    datapath.flip().unwrap();
    let (sender, notices) = channel();
    // Whoever holds it keeps the daemon from hearing anything.
    let ears = Arc::new(Mutex::new(()));
    let gate = Arc::clone(&ears);
    let watch = datapath.watch(move |notice| {
        drop(gate.lock().unwrap());
        sender.send(notice).unwrap();
    });
    let _watch = watch.unwrap();
    let dns = DnsSockets::bind(15053, 2).unwrap();
    assert_eq!(
        (dns.udp.iter().map(Vec::len).collect::<Vec<_>>(), dns.tcp.len()),
        (vec![32, 32], 2)
    );
    assert!(DnsSockets::bind(15053, 2).is_err(), "another daemon shares nothing");
    datapath.tag_dns(&dns).unwrap();
    datapath
        .set_dns_servers(&["192.0.2.53", "2001:db8::53"].map(|ip| ip.parse().unwrap()))
        .unwrap();
    let heartbeat = datapath.heartbeat().unwrap();
    heartbeat.beat().unwrap();
    answer_datagrams(dns.udp.into_iter().flatten().collect());
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

    // Whom an address stands for, by its reverse; one that is shared names nobody.
    assert_eq!(denied(&notices), ("192.0.3.77:4444".to_owned(), Some(10), 1));
    let known = datapath.hosts().unwrap();
    let long = format!("{}.test", "long".repeat(50));
    let names: Vec<_> = known.names.iter().map(|(name, host)| (&**name, host.service())).collect();
    assert_eq!((known.generation, &*names), (1, &[(&*long, 11), ("short.test", 10)][..]));
    let shown = |(ip, address): &(IpAddr, egressd_abi::HostAddress)| {
        format!("{ip} {} {}", address.first(), address.services())
    };
    let addresses: Vec<_> = known.addresses.iter().map(shown).collect();
    assert_eq!(addresses, ["192.0.3.77 10 1", "192.0.3.78 10 2"]);
    let next = KernelTable { hosts: hosts(20), ..table };
    datapath.prepare(2, &next).unwrap();
    assert_eq!(datapath.hosts().unwrap(), known, "until the flip, nothing changes");
    datapath.flip().unwrap();
    assert_eq!(datapath.hosts().unwrap().names[1].1.service(), 20);
    cgroup.run(&client("('192.0.3.77', 4444)"));
    assert_eq!(denied(&notices), ("192.0.3.77:4444".to_owned(), Some(20), 2));
    cgroup.run(&client("('192.0.3.78', 4444)"));
    assert_eq!(denied(&notices), ("192.0.3.78:4444".to_owned(), None, 2));

    // A flood of denials fills its buffer and its share; a namespace is heard of all the same.
    let deaf = ears.lock().unwrap();
    cgroup.run(FLOOD);
    cgroup.run(ELSEWHERE);
    drop(deaf);
    let counters: BTreeMap<_, _> = datapath.counters().unwrap().into_iter().collect();
    assert!(counters["events_lost"] + counters["events_limited"] > 0, "{counters:?}");
    assert!(counters["denied"] >= 20_000, "{counters:?}");
    let heard = std::iter::from_fn(|| notices.recv_timeout(Duration::from_secs(10)).ok());
    let mut heard = heard.map(|notice| matches!(notice, Notice::NewNetns { .. }));
    assert!(heard.any(|is_netns| is_netns));
    while notices.recv_timeout(Duration::from_millis(300)).is_ok() {}

    // Connected and unconnected sockets, one that asks two servers, and an IPv4-mapped server.
    let said = while_beating(&heartbeat, || cgroup.run(DNS_CLIENT));
    let expected = "\
        ('192.0.2.53', 53) b'hello'\n\
        ('192.0.2.53', 53) b'one'\n\
        ('192.0.2.53', 53) b'two'\n\
        ('2001:db8::53', 53) b'six'\n\
        ('::ffff:192.0.2.53', 53) b'mapped'\n\
        ('192.0.2.54', 53) [Errno 101] Network is unreachable\n";
    assert_eq!(said, expected);
    // Silence is as good as death: DNS is left alone.
    std::thread::sleep(Duration::from_millis(1100));
    let said = cgroup.run(DNS_CLIENT);
    assert!(said.contains("Network is unreachable"), "{said}");

    datapath.prepare(3, &KernelTable::default()).unwrap();
    datapath.flip().unwrap();
    let unreachable = cgroup.run(&client("('240.0.0.1', 80)"));
    assert!(unreachable.contains("Network is unreachable"), "{unreachable}");

    // Outside the captured cgroup a spread address is an ordinary one, but nobody is handed over.
    let mut stranger =
        TcpStream::connect_timeout(&"127.64.0.3:15001".parse().unwrap(), Duration::from_secs(5))
            .unwrap();
    let mut said = String::new();
    stranger.read_to_string(&mut said).unwrap();
    assert_eq!(said, "nothing");
}
