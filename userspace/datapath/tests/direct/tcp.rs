//! Limits, counts and records of TCP connections.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::Duration,
};

use egressd_datapath::{DirectEnd, DirectKeepalive, DirectLimits, DirectView};
use socket2::SockRef;

use crate::lab::{Lab, run, server, view};

fn limited(endpoint: &str, limits: DirectLimits) -> DirectView {
    DirectView { limits, ..view(&[(endpoint, 1)]) }
}

/// An address that nobody answers for.
fn black_hole() {
    run("ip link add hole type veth peer name end && ip addr add 10.99.0.1/24 dev hole");
    run("ip link set hole up && ip link set end up");
    run("ip neigh add 10.99.0.2 lladdr 02:00:00:00:00:02 dev hole");
}

#[test]
fn there_are_only_so_many_connections() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    lab.route("240.0.0.1:80", &[("one", 1)]);
    let limits = DirectLimits { max_connections: Some(2), ..DirectLimits::default() };
    lab.set("one", &limited("127.0.1.1:81", limits));
    let said = lab.python(
        "a = tcp(('240.0.0.1', 80)); b = tcp(('240.0.0.1', 80)); dial(('240.0.0.1', 80))
a.close(); dial(('240.0.0.1', 80)); c = tcp(('240.0.0.1', 80)); dial(('240.0.0.1', 80))",
    );
    assert_eq!(said, "111\n127.0.1.1:81 240.0.0.1 80\n111\n");
    let ends: Vec<_> = (0..6).map(|_| lab.record().end).collect();
    let count = |end| ends.iter().filter(|one| **one == end).count();
    // Who closes without having read what has arrived breaks off.
    let (closed, aborted) = (count(DirectEnd::Closed), count(DirectEnd::Aborted));
    assert_eq!((count(DirectEnd::Overflow), closed + aborted), (2, 4), "{ends:?}");
    lab.wait_active("one", 0);
    let counts = &lab.clusters().counts()[0];
    assert_eq!((counts.begun, counts.refused), (4, 2));
}

#[test]
fn what_was_reserved_is_given_back_once() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    black_hole();
    for (last, endpoint) in
        [(1, "127.0.1.1:81"), (2, "127.0.1.9:9"), (3, "198.51.100.1:80"), (4, "10.99.0.2:80")]
    {
        let name = format!("c{last}");
        lab.route(&format!("240.0.0.{last}:80"), &[(&name, 1)]);
        lab.set(&name, &view(&[(endpoint, 1)]));
    }
    // Refused, unreachable, then good, all on one socket; the numbers are those of connect().
    let said = lab.python(
        "s = socket(AF_INET, SOCK_STREAM)
print(s.connect_ex(('240.0.0.2', 80)), s.connect_ex(('240.0.0.3', 80)), s.connect_ex(('240.0.0.1', 80)))
print(s.getpeername(), s.recv(99))",
    );
    assert_eq!(said, "111 101 0\n('240.0.0.1', 80) b'127.0.1.1:81'\n");
    let records: Vec<_> = (0..3).map(|_| lab.record()).collect();
    let seen: Vec<_> = records.iter().map(|record| (&*record.cluster, record.end)).collect();
    let failed = DirectEnd::ConnectFailed { timed_out: false };
    assert_eq!(seen, [("c2", failed), ("c3", DirectEnd::NotStarted), ("c1", DirectEnd::Closed)]);
    // A miss takes the place of a failure; so does a disconnection; so does nothing but close().
    let mut child = lab.start(
        "import ctypes
s = socket(AF_INET, SOCK_STREAM); s.connect_ex(('240.0.0.3', 80)); s.connect_ex(('127.0.0.1', 1))
t = tcp(('240.0.0.1', 80)); u = socket(AF_INET, SOCK_STREAM); u.connect_ex(('240.0.0.3', 80))
libc = ctypes.CDLL(None)
libc.connect(t.fileno(), bytes(16), 16)
v = socket(AF_INET, SOCK_STREAM); v.setblocking(False); v.connect_ex(('240.0.0.4', 80))
print('ready', flush=True); sys.stdin.readline(); v.close(); u.close(); sys.stdin.readline()",
    );
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!((lab.active("c1"), lab.active("c3"), lab.active("c4")), (0, 1, 1));
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    lab.wait_active("c3", 0);
    lab.wait_active("c4", 0);
    drop(child.stdin.take());
    child.wait().unwrap();
    let mut seen: Vec<_> = (0..4).map(|_| lab.record()).collect();
    seen.sort_by(|one, other| one.cluster.cmp(&other.cluster));
    let ends: Vec<_> = seen.iter().map(|record| (&*record.cluster, record.end)).collect();
    let unstarted = ("c3", DirectEnd::NotStarted);
    assert_eq!(ends[1..], [unstarted, unstarted, ("c4", DirectEnd::Abandoned)]);
    assert_eq!(ends[0].0, "c1");
    assert_eq!(lab.clusters().counts().iter().map(|counts| counts.active).sum::<u64>(), 0);
    assert!(lab.records().try_recv().is_err(), "one record for each");
}

/// What the application or its host does says nothing of the endpoint.
#[test]
fn nobody_is_blamed_for_what_others_did() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    black_hole();
    lab.route("240.0.0.1:80", &[("hole", 1)]);
    lab.route("240.0.0.2:80", &[("one", 1)]);
    let limits = DirectLimits {
        connect_timeout: Some(Duration::from_secs(5)),
        max_connections: Some(3),
        ..DirectLimits::default()
    };
    lab.set("hole", &limited("10.99.0.2:80", limits));
    lab.set("one", &limited("127.0.1.1:81", limits));
    let said = lab.python(
        "import ctypes
s = socket(AF_INET, SOCK_STREAM); s.bind(('127.0.0.1', 0)); s.connect(('240.0.0.1', 80)); print(s.recv(99)); s.close()
s = socket(AF_INET6, SOCK_STREAM); s.bind(('::ffff:127.0.0.1', 0)); s.connect(('::ffff:240.0.0.1', 80)); print(s.recv(99)); s.close()
s = socket(AF_INET, SOCK_STREAM); s.setblocking(False); print(s.connect_ex(('240.0.0.1', 80)))
ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16); s.close()
s = socket(AF_INET, SOCK_STREAM); s.setsockopt(IPPROTO_TCP, 18, 300); print(s.connect_ex(('240.0.0.1', 80)))
s.close()",
    );
    // From loopback nothing leaves the host: the proxy does it.
    assert_eq!(said, "b'proxy'\nb'proxy'\n115\n110\n");
    let ends: Vec<_> = (0..2).map(|_| lab.record().end).collect();
    assert_eq!(ends, [DirectEnd::Abandoned, DirectEnd::Abandoned]);
    lab.wait_active("hole", 0);
    // MPTCP without a route: no close() is told of.
    lab.set("hole", &limited("198.51.100.1:80", limits));
    let said = lab.python(
        "for _ in range(5):
    s = socket(AF_INET, SOCK_STREAM, 262); print(s.connect_ex(('240.0.0.1', 80))); s.close()",
    );
    assert_eq!(said.split_whitespace().filter(|errno| *errno == "101").count(), 3, "{said}");
    let start = std::time::Instant::now();
    while lab.active("hole") > 0 {
        assert!(start.elapsed() < crate::lab::LIMIT, "{:?}", lab.clusters().counts());
        lab.clusters().sweep().unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    // In another network namespace an endpoint may be somebody else: the proxy is to decide, and is not
    // there. A device is nothing to be captured from.
    let said = lab.python(
        "import ctypes
ctypes.CDLL(None).unshare(0x40000000)
dial(('240.0.0.2', 80))",
    );
    assert_eq!(said, "111\n");
    let said = lab.python(
        "s = socket(AF_INET, SOCK_STREAM); s.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b'hole'); s.settimeout(1)
try: print(s.connect_ex(('240.0.0.2', 80)))
except OSError as e: print(e)",
    );
    assert!(!said.starts_with("0\n"), "{said}");
    let counts = lab.clusters().counts();
    assert!(
        counts.iter().all(|counts| &*counts.cluster != "one" || counts.begun == 0),
        "{counts:?}"
    );
}

#[test]
fn a_handshake_has_its_time() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    black_hole();
    lab.route("240.0.0.1:80", &[("hole", 1)]);
    lab.route("240.0.0.2:80", &[("good", 1)]);
    for milliseconds in [100, 200, 500, 1000, 1500, 3000] {
        let limits = DirectLimits {
            connect_timeout: Some(Duration::from_millis(milliseconds)),
            ..DirectLimits::default()
        };
        lab.set("hole", &limited("10.99.0.2:80", limits));
        let said = lab.python(
            "s = socket(AF_INET, SOCK_STREAM); start = time.monotonic()
print(s.connect_ex(('240.0.0.1', 80)), round((time.monotonic() - start) * 1000), s.getsockopt(IPPROTO_TCP, 18))",
        );
        let said: Vec<u64> = said.split_whitespace().map(|one| one.parse().unwrap()).collect();
        let [errno, took, own] = said[..] else { panic!("{said:?}") };
        let most = if milliseconds < 200 { milliseconds + 30 } else { milliseconds * 6 / 5 };
        println!("{milliseconds} ms: {took} ms");
        assert_eq!((errno, own), (110, 0));
        assert!((milliseconds..=most).contains(&took), "{milliseconds}: {took}");
        let record = lab.record();
        assert_eq!(record.end, DirectEnd::ConnectFailed { timed_out: true });
        assert_eq!(record.connect, None);
    }
    let keepalive = DirectKeepalive {
        idle: Some(Duration::from_secs(77)),
        interval: Some(Duration::from_secs(7)),
        probes: Some(5),
    };
    let limits = DirectLimits {
        connect_timeout: Some(Duration::from_secs(3)),
        keepalive: Some(keepalive),
        ..DirectLimits::default()
    };
    lab.set("good", &limited("127.0.1.1:81", limits));
    // The application's own limit is its own again, and the shorter one of the two counts.
    let said = lab.python(
        "s = socket(AF_INET, SOCK_STREAM); s.setsockopt(IPPROTO_TCP, 18, 12345)
s.connect(('240.0.0.2', 80)); o = s.getsockopt
print(o(IPPROTO_TCP, 18), o(SOL_SOCKET, SO_KEEPALIVE), o(6, TCP_KEEPIDLE), o(6, TCP_KEEPINTVL), o(6, TCP_KEEPCNT))
s = socket(AF_INET, SOCK_STREAM); s.setsockopt(IPPROTO_TCP, 18, 500); start = time.monotonic()
print(s.connect_ex(('240.0.0.1', 80)), time.monotonic() - start < 1.6, o(IPPROTO_TCP, 18))",
    );
    assert_eq!(said, "12345 1 77 7 5\n110 True 12345\n");
}

/// Reads so many bytes, sends so many, and ends as it is told: a FIN at once, after the client's, or RST.
fn scripted(address: &str, read: usize, send: usize, end: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut buffer = vec![0; read];
        socket.read_exact(&mut buffer).unwrap();
        socket.write_all(&vec![b'x'; send]).unwrap();
        if end == "reset" {
            std::thread::sleep(Duration::from_millis(200));
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        } else if end == "after" {
            let mut rest = Vec::new();
            // The client may be gone by then.
            drop(socket.read_to_end(&mut rest));
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

#[test]
fn records_count_what_the_application_did() {
    use DirectEnd::{Aborted, Closed, Reset};
    let mut lab = Lab::new();
    let get = "s = tcp(('240.0.0.1', 80)); s.sendall(b'abc'); n = 0
while n < 1000: n += len(s.recv(4096))
";
    let all = "s = tcp(('240.0.0.1', 80)); s.sendall(b'abc'); s.shutdown(SHUT_WR)
while s.recv(4096): pass
";
    let mut port = 100;
    for (server, client, then, end) in [
        ("first", get, "s.recv(1); s.close()", Closed),
        ("first", get, "time.sleep(0.3); s.shutdown(SHUT_WR); s.recv(1); s.close()", Closed),
        ("after", get, "s.close()", Closed),
        ("after", get, "s.close(); time.sleep(0.5)", Closed),
        ("after", all, "s.close()", Closed),
        (
            "reset",
            get,
            "
try: s.recv(1)
except OSError as e: print(e.errno)",
            Reset,
        ),
        (
            "after",
            get,
            "s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 0)); s.close()",
            Aborted,
        ),
    ] {
        port += 1;
        let endpoint = format!("127.0.1.1:{port}");
        scripted(&endpoint, 3, 1000, server);
        lab.route("240.0.0.1:80", &[("one", 1)]);
        lab.set("one", &view(&[(&endpoint, 1)]));
        let said = lab.python(&format!("{client}{then}"));
        let record = lab.record();
        let what = format!("{server}, then {then}: {said} {record:?}");
        assert_eq!((record.end, record.sent, record.received), (end, 3, 1000), "{what}");
        assert!(record.rtt > Duration::ZERO && record.retransmits == 0, "{what}");
        assert!(record.duration >= record.connect.unwrap(), "{what}");
    }
    lab.wait_active("one", 0);
    assert_eq!(lab.counter("records_lost"), 0);
}

#[test]
fn churn_leaves_no_drift() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    lab.route("240.0.0.1:80", &[("one", 1)]);
    lab.route("240.0.0.2:80", &[("two", 1)]);
    let limits = DirectLimits { max_connections: Some(40), ..DirectLimits::default() };
    let mut both = view(&[("127.0.1.1:81", 1), ("127.0.1.9:9", 1)]);
    both.limits = limits;
    lab.set("one", &both);
    lab.set("two", &view(&[("198.51.100.1:80", 1), ("127.0.1.1:81", 2)]));
    let script = "import random, threading
def work(seed):
    r = random.Random(seed); held = []
    for _ in range(1500):
        if held and r.random() < 0.5:
            s = held.pop(r.randrange(len(held)))
            if r.random() < 0.3: s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 0))
            s.close()
        else:
            s = socket(AF_INET, SOCK_STREAM); s.settimeout(2 if r.random() < 0.5 else 0)
            try: s.connect(('240.0.0.%d' % r.choice([1, 2]), 80))
            except OSError: pass
            if r.random() < 0.2:
                try: s.connect(('240.0.0.1', 80))
                except OSError: pass
            held.append(s)
ts = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for t in ts: t.start()
for t in ts: t.join()
";
    assert_eq!(lab.python(script), "");
    lab.wait_active("one", 0);
    lab.wait_active("two", 0);
    let counts = lab.clusters().counts();
    let begun: u64 = counts.iter().map(|counts| counts.begun + counts.refused).sum();
    let lost = lab.counter("records_lost") + lab.counter("events_limited");
    let mut records = 0;
    crate::lab::wait(
        || {
            records += lab.records().try_iter().count() as u64;
            records + lost == begun
        },
        || format!("{counts:?}, {lost} lost"),
    );
}
