//! Which endpoint a connection goes to.

use std::collections::BTreeMap;

use egressd_datapath::{DirectBalance, DirectEnd, DirectTarget, DirectView};

use crate::lab::{Lab, server, view, views};

/// How often each server said its name.
fn hits(said: &str) -> BTreeMap<&str, usize> {
    let mut hits = BTreeMap::new();
    for line in said.lines() {
        *hits.entry(line.split(' ').next().unwrap_or(line)).or_default() += 1;
    }
    hits
}

fn balanced(balance: DirectBalance, view: DirectView) -> DirectView {
    DirectView { balance, ..view }
}

#[test]
fn a_connection_goes_to_an_endpoint_and_leaves_a_record() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    lab.route("240.0.0.1:80", &[("one", 1)]);
    // Nothing is known: the proxy is to decide.
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "proxy 240.0.0.1 80\n");
    lab.set("one", &view(&[("127.0.1.1:81", 1)]));
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "127.0.1.1:81 240.0.0.1 80\n");
    let record = lab.record();
    assert_eq!((&*record.cluster, record.socket.service), ("one", Some(7)));
    assert_eq!(record.endpoint.unwrap().to_string(), "127.0.1.1:81");
    assert_eq!(record.socket.destination.to_string(), "240.0.0.1:80");
    assert_eq!((record.sent, record.received), (0, 12));
    assert_eq!((record.end, record.errno), (DirectEnd::Closed, 0));
    assert!(record.connect.is_some() && record.local.unwrap().ip().is_loopback());
    lab.wait_active("one", 0);
    assert_eq!(lab.counter("direct"), 1);
    // Every endpoint is out.
    lab.set("one", &view(&[]));
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "111\n");
    let record = lab.record();
    assert_eq!((record.end, record.errno), (DirectEnd::NoEndpoint, 111));
    // It is not known any more.
    lab.set("one", &DirectView::default());
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "proxy 240.0.0.1 80\n");
}

#[test]
fn turns_weights_and_addresses_decide() {
    let mut lab = Lab::new();
    for address in ["127.0.1.1:81", "127.0.1.2:81", "127.0.1.3:81"] {
        server(address);
    }
    lab.route("240.0.0.1:80", &[("one", 1)]);
    let weighted = || view(&[("127.0.1.1:81", 3), ("127.0.1.2:81", 1)]);
    lab.set("one", &balanced(DirectBalance::RoundRobin, weighted()));
    let said = lab.python("for _ in range(40): dial(('240.0.0.1', 80))");
    assert_eq!(hits(&said), BTreeMap::from([("127.0.1.1:81", 30), ("127.0.1.2:81", 10)]));

    lab.set("one", &balanced(DirectBalance::Random, weighted()));
    let said = lab.python("for _ in range(1000): dial(('240.0.0.1', 80))");
    let second = hits(&said)["127.0.1.2:81"];
    assert!((180..320).contains(&second), "{second} of 1000");

    // Idle endpoints, none busier than another: the one drawn first, which is even.
    let three = || view(&[("127.0.1.1:81", 1), ("127.0.1.2:81", 1), ("127.0.1.3:81", 1)]);
    lab.set("one", &balanced(DirectBalance::LeastRequest, three()));
    // Connections that stay, closed at the end.
    let held = "held = [tcp(('240.0.0.1', 80)) for _ in range(90)]
for s in held: print(s.recv(100).decode())";
    let said = lab.python(held);
    assert!(hits(&said).values().all(|hits| (24..=36).contains(hits)), "{said}");

    lab.set("one", &balanced(DirectBalance::SourceIp, three()));
    crate::lab::run("ip route add local 10.9.0.0/16 dev lo");
    let said = lab.python(
        "for i in range(300):
    s = socket(AF_INET, SOCK_STREAM); s.bind(('10.9.%d.%d' % (i / 100, i % 100 + 1), 0))
    s.connect(('240.0.0.1', 80)); print(s.recv(100).decode())
for _ in range(5): dial(('240.0.0.1', 80))",
    );
    let lines: Vec<&str> = said.lines().collect();
    for (i, line) in lines.iter().take(300).enumerate() {
        let client = format!("10.9.{}.{}", i / 100, i % 100 + 1);
        assert_eq!(*line, by_hash(&client), "{client}");
    }
    // A socket that is not bound counts as loopback.
    assert!(lines[300..].iter().all(|line| line.starts_with(by_hash("127.0.0.1"))), "{said}");
    lab.wait_active("one", 0);
}

/// Whom the proxy's arithmetic would choose among three endpoints of weight 1.
fn by_hash(client: &str) -> &'static str {
    let key = egressd_abi::hash_ip(client.parse().unwrap());
    let ticket = |address: &str| {
        let address: std::net::SocketAddr = address.parse().unwrap();
        let hash = egressd_abi::mix(egressd_abi::hash_ip(address.ip()) + 1);
        egressd_abi::ticket(key, hash)
    };
    let all = ["127.0.1.1:81", "127.0.1.2:81", "127.0.1.3:81"];
    all.into_iter().min_by_key(|address| ticket(address)).unwrap()
}

#[test]
fn levels_and_routes_divide_the_load() {
    let mut lab = Lab::new();
    for address in ["127.0.1.1:81", "127.0.1.2:81", "127.0.1.3:81"] {
        server(address);
    }
    lab.route("240.0.0.1:80", &[("one", 1)]);
    lab.set("one", &views(&[(70, &[("127.0.1.1:81", 1)]), (100, &[("127.0.1.2:81", 1)])]));
    let said = lab.python("for _ in range(1000): dial(('240.0.0.1', 80))");
    let first = hits(&said)["127.0.1.1:81"];
    assert!((630..770).contains(&first), "{first} of 1000");
    lab.route("240.0.0.2:80", &[("one", 0), ("two", 1), ("three", 3)]);
    lab.set("two", &view(&[("127.0.1.2:81", 1)]));
    lab.set("three", &view(&[("127.0.1.3:81", 1)]));
    let said = lab.python("for _ in range(1000): dial(('240.0.0.2', 80))");
    let second = hits(&said)["127.0.1.2:81"];
    assert!((180..320).contains(&second), "{second} of 1000");
    // The destination itself, on another port.
    lab.route("127.0.1.1:99", &[("itself", 1)]);
    let target = DirectTarget::Original { port: Some(81) };
    lab.set("itself", &DirectView { target, ..DirectView::default() });
    assert_eq!(lab.python("dial(('127.0.1.1', 99))"), "127.0.1.1:81 127.0.1.1 99\n");
}

#[test]
fn a_socket_gets_what_it_reaches() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    server("[::1]:82");
    lab.route("240.0.0.1:80", &[("mixed", 1)]);
    lab.route("[2001:2::1]:80", &[("mixed", 1)]);
    lab.route("[2001:2::4]:80", &[("v4", 1)]);
    lab.route("240.0.0.6:80", &[("v6", 1)]);
    let mixed = view(&[("127.0.1.1:81", 1), ("[::1]:82", 1)]);
    lab.set("mixed", &balanced(DirectBalance::RoundRobin, mixed));
    lab.set("v4", &view(&[("127.0.1.1:81", 1)]));
    lab.set("v6", &view(&[("[::1]:82", 1)]));
    let four = |to: &str, family: &str| {
        lab.python(&format!("for _ in range(4): dial(('{to}', 80), {family})"))
    };
    assert_eq!(hits(&four("240.0.0.1", "AF_INET")), BTreeMap::from([("127.0.1.1:81", 4)]));
    let both = BTreeMap::from([("127.0.1.1:81", 2), ("[::1]:82", 2)]);
    let said = four("::ffff:240.0.0.1", "AF_INET6");
    assert_eq!(hits(&said), both);
    assert!(said.lines().all(|line| line.ends_with(" ::ffff:240.0.0.1 80")), "{said}");
    // None is within reach: the proxy can.
    assert_eq!(hits(&four("240.0.0.6", "AF_INET")), BTreeMap::from([("proxy", 4)]));
    let only = "s = socket(AF_INET6, SOCK_STREAM); s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
s.connect(('2001:2::4', 80)); print(s.recv(100).decode(), s.getpeername()[:2])";
    assert_eq!(lab.python(only), "proxy ('2001:2::4', 80)\n");
}

#[test]
fn rules_go_before_rows() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    lab.route("192.0.2.1:80", &[("one", 1)]);
    lab.set("one", &view(&[("127.0.1.1:81", 1)]));
    assert_eq!(lab.python("dial(('192.0.2.1', 80))"), "127.0.1.1:81 192.0.2.1 80\n");
    // A row for a network is excluded, as one that turns to the proxy is; an exact one is not.
    let row = lab.table.exact.remove(&crate::lab::key("192.0.2.1:80")).unwrap();
    lab.table.prefixes.insert((24, crate::lab::key("192.0.2.0:80")), row);
    lab.flip();
    assert_eq!(lab.python("dial(('192.0.2.9', 80))"), "127.0.1.1:81 192.0.2.9 80\n");
    lab.table.exclude_network("192.0.2.0".parse().unwrap(), 24);
    lab.flip();
    assert_eq!(lab.python("dial(('192.0.2.9', 80))"), "101\n");
}
