//! Datagrams.

use std::collections::BTreeSet;

use egressd_datapath::{DirectBalance, DirectEnd, DirectProtocol, DirectView};

use crate::lab::{Lab, datagrams, view};

const NEW: &str = "
def new(family=AF_INET):
    s = socket(family, SOCK_DGRAM); s.settimeout(2); return s
def ask(s, to):
    try:
        s.sendto(b'x', to); data, peer = s.recvfrom(99); print(data.decode(), peer[0], peer[1])
    except OSError as e: print(e.errno)
";

fn python(lab: &Lab, script: &str) -> String {
    lab.python(&format!("{NEW}{script}"))
}

#[test]
fn datagrams_go_to_an_endpoint_and_answers_come_from_the_service() {
    let mut lab = Lab::new();
    for address in ["127.0.1.1:81", "127.0.1.2:81", "127.0.1.3:81", "[::1]:81"] {
        datagrams(address);
    }
    // Not named for TCP: another protocol is another service.
    lab.route_udp("240.0.0.1:443", "two");
    lab.route_udp("240.0.0.2:443", "one");
    lab.route_udp("[2001:2::3]:443", "six");
    // Nothing is known: an allocated address leads nowhere.
    assert_eq!(python(&lab, "ask(new(), ('240.0.0.1', 443))"), "113\n");
    let two = view(&[("127.0.1.1:81", 1), ("127.0.1.2:81", 1)]);
    lab.set("two", &DirectView { balance: DirectBalance::RoundRobin, ..two.clone() });
    lab.set("one", &view(&[("127.0.1.3:81", 1)]));
    lab.set("six", &view(&[("[::1]:81", 1)]));
    // One endpoint as long as the socket lives, also when it speaks to others meanwhile.
    let said = python(
        &lab,
        "for _ in range(4):
    s = new()
    for _ in range(3): ask(s, ('240.0.0.1', 443)); ask(s, ('240.0.0.2', 443))",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 24, "{said}");
    let mut first = BTreeSet::new();
    for socket in lines.chunks(6) {
        let to_two: BTreeSet<_> = socket.iter().step_by(2).collect();
        let to_one: BTreeSet<_> = socket.iter().skip(1).step_by(2).collect();
        assert_eq!(to_one, BTreeSet::from([&"127.0.1.3:81 240.0.0.2 443"]));
        assert_eq!(to_two.len(), 1, "{said}");
        first.extend(to_two);
    }
    let both = ["127.0.1.1:81 240.0.0.1 443", "127.0.1.2:81 240.0.0.1 443"];
    assert_eq!(first, both.iter().collect());
    for _ in 0..8 {
        let record = lab.record();
        assert_eq!((record.protocol, record.end), (DirectProtocol::Udp, DirectEnd::Closed));
        assert!(record.endpoint.is_some() && record.socket.destination.port() == 443);
        assert_eq!(record.socket.service, Some(7));
    }
    lab.wait_active("two", 0);
    // Connected sockets, IPv6, IPv4-mapped addresses, and one that changes its mind.
    let said = python(
        &lab,
        "def talk(s, to):
    s.connect(to); s.send(b'x'); print(s.recv(99).decode(), s.getpeername()[:2])
s = new(); talk(s, ('240.0.0.2', 443)); talk(s, ('127.0.1.1', 81)); talk(s, ('240.0.0.2', 443))
talk(new(AF_INET6), ('2001:2::3', 443)); talk(new(AF_INET6), ('::ffff:240.0.0.2', 443))
ask(new(AF_INET6), ('2001:2::3', 443)); ask(new(AF_INET6), ('::ffff:240.0.0.2', 443))",
    );
    let expected = "\
        127.0.1.3:81 ('240.0.0.2', 443)\n\
        127.0.1.1:81 ('127.0.1.1', 81)\n\
        127.0.1.3:81 ('240.0.0.2', 443)\n\
        [::1]:81 ('2001:2::3', 443)\n\
        127.0.1.3:81 ('::ffff:240.0.0.2', 443)\n\
        [::1]:81 2001:2::3 443\n\
        127.0.1.3:81 ::ffff:240.0.0.2 443\n";
    assert_eq!(said, expected);
    // None may be sent to.
    lab.set("one", &view(&[]));
    assert_eq!(python(&lab, "ask(new(), ('240.0.0.2', 443))"), "111\n");
    while lab.record().end != DirectEnd::NoEndpoint {}
}

#[test]
fn a_socket_leaves_an_endpoint_that_is_out() {
    let mut lab = Lab::new();
    datagrams("127.0.1.1:81");
    datagrams("127.0.1.2:81");
    lab.route_udp("240.0.0.1:443", "one");
    lab.set("one", &view(&[("127.0.1.1:81", 1)]));
    let mut child = lab.start(&format!(
        "{NEW}s = new(); ask(s, ('240.0.0.1', 443)); sys.stdout.flush(); sys.stdin.readline(); ask(s, ('240.0.0.1', 443))",
    ));
    lab.wait_active("one", 1);
    lab.set("one", &view(&[("127.0.1.2:81", 1)]));
    drop(child.stdin.take());
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said, "127.0.1.1:81 240.0.0.1 443\n127.0.1.2:81 240.0.0.1 443\n");
    lab.wait_active("one", 0);
    // Threads that share a socket speak to whom they mean.
    let said = python(
        &lab,
        "import threading
s = new(); s.bind(('127.0.0.1', 0))
def work(i):
    for _ in range(300): s.sendto(b'x', ('240.0.0.1', 443))
ts = [threading.Thread(target=work, args=(i,)) for i in range(8)]
for t in ts: t.start()
for t in ts: t.join()
print({s.recvfrom(99) for _ in range(50)})",
    );
    assert_eq!(said, "{(b'127.0.1.2:81', ('240.0.0.1', 443))}\n");
    lab.wait_active("one", 0);
    // More services than a socket has room for: each gets its answer, one after the other.
    for last in 10..22 {
        lab.route_udp(&format!("240.0.0.{last}:443"), "one");
    }
    let said = python(
        &lab,
        "s = new()\nfor _ in range(2):\n    for i in range(10, 22): ask(s, ('240.0.0.%d' % i, 443))",
    );
    for (line, last) in said.lines().zip((10..22).chain(10..22)) {
        assert_eq!(line, format!("127.0.1.2:81 240.0.0.{last} 443"));
    }
    assert_eq!(said.lines().count(), 24);
    lab.wait_active("one", 0);
}
