//! One user that asks for too much, ports that others have, and records that lead past an address.

use std::time::{Duration, Instant};

use egressd_tests::{Behaviour, Bind, Node, Running, Servers, Unbound, WORLD_V4};

use super::{
    UPSTREAM, entry, node,
    resolution::{reached, servers, tcp, world},
    service,
};

/// A server that knows every name with a label `fast`, and says nothing about any other.
const SERVER: &str = r#"
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sock.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    query, client = sock.recvfrom(4096)
    end = 12
    while query[end]:
        end += query[end] + 1
    if b"\4fast" in query:
        head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4" + socket.inet_aton(sys.argv[2])
        sock.sendto(head + query[12:end + 5] + record, client)
"#;

/// Asks for names that nobody knows, as another user, from many sockets, until it is ended.
const FLOOD: &str = r#"
import os, socket, struct, sys, time
os.setuid(1234)
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
for sock in socks:
    sock.connect((sys.argv[1], 53))
    sock.setblocking(False)
number = 0
while True:
    for sock in socks:
        label = b"n%d" % number
        head = struct.pack(">6H", number & 0xffff, 0x100, 1, 0, 0, 0)
        sock.send(head + bytes([len(label)]) + label + b"\4test\0\0\1\0\1")
        number += 1
    if number == 10000:
        print("many", flush=True)
    time.sleep(0.05)
"#;

/// [`SERVER`], which has this address for all names it knows.
fn knows_fast_names(node: &Node, address: &str) -> Running {
    ready(node.server(["/usr/bin/python3", "-c", SERVER, UPSTREAM, address]), "ready")
}

fn ready(spawn: egressd_tests::Spawn<'_>, word: &str) -> Running {
    let mut running = spawn.start();
    running.wait_stdout(word, |line| line.starts_with(word));
    running
}

#[test]
fn slow_names_of_one_user_starve_nobody_else() {
    let node = node();
    let _server = knows_fast_names(&node, "192.0.2.9");
    let mut daemon = node.daemon().resource(service("one", "STATIC", &["192.0.2.1"])).start();
    let _flood = ready(node.python(FLOOD).arg(UPSTREAM), "many");
    // Four thousand a second, and room for four thousand that wait for five seconds.
    for number in 0..20 {
        let name = format!("x{number}.fast.test");
        let dig = node.app(["dig", "+short", "+tries=1", "+time=2", &name]).run();
        assert_eq!(dig.text(), "192.0.2.9", "{name}: {}", daemon.log());
    }
    assert!(daemon.number("/dns/upstream_displaced") + daemon.number("/dns/upstream_refused") > 0);
    let line = daemon.wait_log("who it is", |line| line.contains("too many DNS queries"));
    assert!(line.contains("WARN") && line.contains("uid: 1234"), "{line}");
    daemon.stop();
}

#[test]
fn a_name_that_nobody_answers_for_holds_up_nobody() {
    // AAAA gets no answer either: what is there is used.
    let node = node();
    let _servers = world(&node);
    let _server = knows_fast_names(&node, WORLD_V4[1]);
    let names = ["a.slow.test", "b.fast.test", "c.slow.test"];
    let daemon = node.daemon().resource(tcp("db", "DNS", &names)).start();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(reached(&node, "db.test", 5432, 1), servers(&[1]));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
    daemon.stop();
}

#[test]
fn names_that_requests_bring_do_not_lead_to_what_is_local() {
    let node = node();
    let here =
        Servers::tcp(&node.netns, [("127.0.0.1:80".to_owned(), Behaviour::Page("secret".into()))]);
    let zone = "evil.dyn 5 IN A 127.0.0.1\ncloud.dyn 5 IN A 169.254.169.254\n\
                own.dyn 5 IN A 10.77.0.1\nevil.sec 5 IN A 127.0.0.1\n\
                one 5 IN A 127.0.0.1\nplain 5 IN A 127.0.0.1";
    let _bind = Bind::start(&node.world, UPSTREAM, zone);
    let resources = [
        entry("dyn", "*.dyn.test", "HTTP", 80, "DYNAMIC_DNS", &[]),
        entry("sec", "*.sec.test", "TLS", 443, "DYNAMIC_DNS", &[]),
        entry("one", "one.test", "TCP", 5432, "DNS", &[]),
        entry("plain", "plain.test", "TCP", 9000, "DNS", &[])
            .replace("targetPort: 9000", "targetPort: 80"),
    ];
    let daemon = |config: &str| {
        let daemon = node.daemon().config(config);
        resources.iter().fold(daemon, |daemon, resource| daemon.resource(resource.as_str())).start()
    };
    let get = |url: &str| {
        let curl = node.curl(url).arg("--ipv4").arg("--write-out").arg(" %{http_code}");
        curl.run().stdout
    };
    let refusing = daemon("");
    for (number, name) in (1..).zip(["evil", "cloud", "own"]) {
        let said = get(&format!("http://{name}.dyn.test/"));
        assert_eq!(said, "local address refused 403");
        let record = refusing.wait_records(number).pop().unwrap();
        assert!(record.line.contains("local_address_refused"), "{}", record.line);
    }
    // By SNI, and by the name of a host on a port that it does not declare.
    for (number, url) in (4..).zip(["https://evil.sec.test/", "http://one.test/"]) {
        get(url);
        let record = refusing.wait_records(number).pop().unwrap();
        assert!(record.line.contains("local_address_refused"), "{}", record.line);
    }
    assert_eq!(here.accepted(), 0);
    // An endpoint of the configuration may be anywhere, and so may names where somebody wants it.
    assert_eq!(get("http://plain.test:9000/"), "secret 200");
    refusing.stop();
    let allowing = daemon("dns: {allowLocalAddresses: true}");
    assert_eq!(get("http://evil.dyn.test/"), "secret 200");
    allowing.stop();
}

#[test]
fn a_port_that_somebody_has_is_named_with_a_remedy() {
    let node = node();
    let taken = "import socket, time\n\
                 sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                 sock.bind((\"0.0.0.0\", 15053))\n\
                 print(\"ready\", flush=True)\ntime.sleep(60)";
    let _somebody = ready(node.python(taken), "ready");
    let finished = node.daemon().start_to_fail();
    let said = finished.expect_code(3).stderr;
    let what = "127.64.53.1:15053, where DNS queries are turned to, is in use";
    assert!(said.contains(what) && said.contains("capture.port"), "{said}");
    // It helps.
    let daemon = node.daemon().config("capture: {port: 16001}").start();
    daemon.stop();
}

#[test]
fn records_that_lead_past_a_virtual_address_are_hidden() {
    let node = node();
    let zone = "one 5 IN HTTPS 1 . ipv4hint=10.77.0.3\none 5 IN A 10.77.0.3\n\
                other 5 IN HTTPS 1 . ipv4hint=10.77.0.4";
    let _bind = Bind::start(&node.world, UPSTREAM, zone);
    let https = |name: &str| node.app(["dig", "+short", "+tries=1", name, "HTTPS"]).run().text();
    let daemon = node.daemon().resource(service("one", "STATIC", &["192.0.2.1"])).start();
    assert_eq!(https("one.test"), "");
    assert!(https("other.test").contains("10.77.0.4"));
    let status = node.app(["dig", "+tries=1", "one.test", "HTTPS"]).run().text();
    assert!(status.contains("status: NOERROR") && status.contains("ANSWER: 0"), "{status}");
    daemon.stop();
    let daemon = node
        .daemon()
        .config("answers: istio")
        .resource(service("one", "STATIC", &["192.0.2.1"]))
        .start();
    assert!(https("one.test").contains("10.77.0.3"));
    daemon.stop();
}

#[test]
fn connections_that_one_user_holds_keep_nobody_out() {
    const HOLD: &str = r#"
import os, socket, sys, time
os.setuid(1234)
held = []
for _ in range(1500):
    try:
        held.append(socket.create_connection((sys.argv[1], 53), timeout=5))
    except OSError:
        pass
print("many", len(held), flush=True)
time.sleep(60)
"#;
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["elsewhere.test. 5 A 192.0.2.7"]);
    let daemon = node.daemon().resource(service("one", "STATIC", &["192.0.2.1"])).start();
    let _hold = ready(node.python(HOLD).arg(UPSTREAM), "many");
    let by_tcp = |node: &Node, name: &str| {
        node.app(["dig", "+tcp", "+short", "+tries=1", "+time=3", name]).run().text()
    };
    assert_eq!(by_tcp(&node, "one.test"), "240.240.0.1");
    assert_eq!(by_tcp(&node, "elsewhere.test"), "192.0.2.7");
    assert!(daemon.number("/dns/connections_closed") > 0);
    daemon.stop();
}
