//! The five ways from a service to its endpoints, with records that change under way.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use egressd_tests::{Behaviour, Bind, Node, Servers, Signal, TlsServer, WORLD_V4, until};

use super::{UPSTREAM, addresses::TALKER, entry, node, service};

/// Connects a number of times to a name, and prints the first line of each connection.
const CONNECT: &str = r#"
import socket, sys
name, port, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(times):
    try:
        with socket.create_connection((socket.gethostbyname(name), port), timeout=10) as sock:
            print(sock.makefile().readline().strip() or "closed")
    except OSError as error:
        print("failed:", error.strerror or error)
"#;

/// The different outcomes of `times` connections to a port of a name.
pub(super) fn reached(node: &Node, name: &str, port: u16, times: usize) -> BTreeSet<String> {
    let client = node.python(CONNECT).arg(name).arg(port.to_string()).arg(times.to_string());
    client.run().text().lines().map(str::to_owned).collect()
}

/// What [`reached`] gives for servers of these numbers.
pub(super) fn servers(numbers: &[usize]) -> BTreeSet<String> {
    numbers.iter().map(|number| format!("server{number}")).collect()
}

/// A server at port 9000 of each address of the world, that says its number.
pub(super) fn world(node: &Node) -> Servers {
    let list = WORLD_V4.iter().enumerate();
    let list = list.map(|(n, at)| (format!("{at}:9000"), Behaviour::named(format!("server{n}"))));
    Servers::tcp(&node.world, list)
}

/// A service at TCP port 5432.
pub(super) fn tcp(name: &str, resolution: &str, endpoints: &[&str]) -> String {
    entry(name, &format!("{name}.test"), "TCP", 5432, resolution, endpoints)
}

#[test]
fn dns_every_address_of_every_name_is_an_endpoint() {
    let node = node();
    let _servers = world(&node);
    let zone = "left 1 IN A 10.77.0.2\nleft 1 IN A 10.77.0.3\nright 1 IN A 10.77.0.4";
    let bind = Bind::start(&node.world, UPSTREAM, zone);
    let daemon = node.daemon().resource(tcp("db", "DNS", &["left.test", "right.test"])).start();
    until("all endpoints to be used", || {
        (reached(&node, "db.test", 5432, 8) == servers(&[0, 1, 2])).then_some(())
    });
    bind.update(&["delete left.test A"]);
    until("the addresses that are gone to be left alone", || {
        (reached(&node, "db.test", 5432, 8) == servers(&[2])).then_some(())
    });
    bind.update(&["add left.test 1 A 10.77.0.3", "delete right.test"]);
    until("an address that is new to be used", || {
        (reached(&node, "db.test", 5432, 8) == servers(&[1])).then_some(())
    });
    daemon.stop();
}

#[test]
fn dns_of_the_host_itself() {
    let node = node();
    let _servers = world(&node);
    let bind = Bind::start(&node.world, UPSTREAM, "db 1 IN A 10.77.0.2");
    let daemon = node.daemon().resource(tcp("db", "DNS", &[])).start();
    assert_eq!(reached(&node, "db.test", 5432, 3), servers(&[0]));
    assert_eq!(daemon.wait_records(3)[0].upstream_cluster, "outbound|5432||db.test");
    bind.update(&["delete db.test A", "add db.test 1 A 10.77.0.4"]);
    until("the new address", || {
        (reached(&node, "db.test", 5432, 3) == servers(&[2])).then_some(())
    });
    daemon.stop();
}

#[test]
fn dns_round_robin_moves_new_connections_only() {
    let node = node();
    let _servers = world(&node);
    let bind = Bind::start(&node.world, UPSTREAM, "cdn 1 IN A 10.77.0.2");
    let daemon = node.daemon().resource(tcp("cdn", "DNS_ROUND_ROBIN", &[])).start();
    let mut talker = node.python(TALKER).arg("cdn.test").arg("5432").start();
    let line = talker.wait_stdout("the server's name", |line| line.starts_with("server"));
    assert!(line.starts_with("server server0 "), "{line}");
    bind.update(&["delete cdn.test A", "add cdn.test 1 A 10.77.0.3"]);
    until("the new address", || {
        (reached(&node, "cdn.test", 5432, 3) == servers(&[1])).then_some(())
    });
    talker.signal(Signal::SIGUSR1);
    talker.wait_stdout("an echo", |line| line.trim() == "echo ping 0");
    drop(talker);
    daemon.stop();
}

#[test]
fn dns_round_robin_uses_one_address_of_an_answer() {
    let node = node();
    let _servers = world(&node);
    let zone = "cdn 60 IN A 10.77.0.2\ncdn 60 IN A 10.77.0.3\ncdn 60 IN A 10.77.0.4";
    let bind = Bind::start(&node.world, UPSTREAM, zone);
    let daemon = node.daemon().resource(tcp("cdn", "DNS_ROUND_ROBIN", &[])).start();
    assert_eq!(reached(&node, "cdn.test", 5432, 30).len(), 1);
    assert_eq!(bind.queries("cdn.test", "A"), 1);
    daemon.stop();
}

#[test]
fn dynamic_dns_by_host() {
    let node = node();
    let pages =
        [0, 1].map(|n| (format!("{}:80", WORLD_V4[n]), Behaviour::Page(format!("page {n}"))));
    let servers = Servers::tcp(&node.world, pages);
    let zone = "a.dyn 1 IN A 10.77.0.2\nb.dyn 1 IN A 10.77.0.3";
    let bind = Bind::start(&node.world, UPSTREAM, zone);
    let any = entry("dyn", "*.dyn.test", "HTTP", 80, "DYNAMIC_DNS", &[]);
    let daemon = node.daemon().resource(any).start();
    let get = |url: &str| node.curl(url).arg("--ipv4").run().text();
    assert_eq!(
        (get("http://a.dyn.test/"), get("http://b.dyn.test/")),
        ("page 0".into(), "page 1".into())
    );
    let records = daemon.wait_records(2);
    assert_eq!(records[0].upstream_cluster, "outbound|80||*.dyn.test");
    assert_eq!(records[0].upstream_host, "10.77.0.2:80");
    // Two names over one connection go two ways.
    let both = node.curl("http://a.dyn.test/").arg("--ipv4").arg("http://a.dyn.test/");
    let both = both.arg("--header").arg("Host: b.dyn.test").run().text();
    assert_eq!(both, "page 1page 1");
    bind.update(&["delete a.dyn.test A", "add a.dyn.test 1 A 10.77.0.3"]);
    until("the new address", || (get("http://a.dyn.test/") == "page 1").then_some(()));
    let code =
        node.curl("http://none.dyn.test/").arg("--ipv4").arg("--write-out").arg("%{http_code}");
    assert!(code.run().text().ends_with("503"));
    let record = until("its record", || daemon.records().pop().filter(|last| last.code == "503"));
    assert_eq!(record.flags, "DF");
    assert!(servers.accepted() > 0);
    daemon.stop();
}

#[test]
fn dynamic_dns_by_server_name() {
    let node = node();
    let tls = TlsServer::start(&node.world, "10.77.0.3", 443, "a.sec.test");
    let bind = Bind::start(&node.world, UPSTREAM, "a.sec 1 IN A 10.77.0.3");
    let any = entry("sec", "*.sec.test", "TLS", 443, "DYNAMIC_DNS", &[]);
    let daemon = node.daemon().resource(any).start();
    let get = |url: &str| node.curl(url).arg("--ipv4").arg("--cacert").arg(tls.certificate()).run();
    assert!(get("https://a.sec.test/").text().contains("s_server"));
    let record = daemon.wait_record();
    assert_eq!(record.upstream_cluster, "outbound|443||*.sec.test");
    assert_eq!(record.upstream_host, "10.77.0.3:443");
    bind.update(&["delete a.sec.test A"]);
    until("the name to be gone", || (get("https://a.sec.test/").code() != 0).then_some(()));
    let record = until("its record", || daemon.records().pop().filter(|last| last.flags == "DF"));
    assert_eq!(record.upstream_cluster, "outbound|443||*.sec.test");
    daemon.stop();
}

#[test]
fn none_goes_where_the_program_has_dialled() {
    let node = node();
    let servers_ = world(&node);
    let bind = Bind::start(&node.world, UPSTREAM, "own 1 IN A 10.77.0.3");
    let own = entry("own", "own.test", "TCP", 9000, "NONE", &[]);
    let daemon = node.daemon().resource(own).start();
    assert_eq!(reached(&node, "own.test", 9000, 2), servers(&[1]));
    // No address of ours stands for it: the program's own look-up is what counts.
    bind.update(&["delete own.test A", "add own.test 1 A 10.77.0.4"]);
    assert_eq!(reached(&node, "own.test", 9000, 2), servers(&[2]));
    let records = daemon.wait_records(4);
    assert_eq!(records[0].decision(), ("-", "outbound|9000||own.test", "10.77.0.3:9000"));
    assert_eq!(records[3].upstream_host, "10.77.0.4:9000");
    assert_eq!(servers_.accepted(), 4);
    daemon.stop();
}

#[test]
fn a_name_is_resolved_once_for_all_that_use_it() {
    let node = node();
    let _servers = world(&node);
    let bind = Bind::start(&node.world, UPSTREAM, "shared 60 IN A 10.77.0.2");
    let names = ["one", "two", "three", "four", "five"];
    let builder = names
        .iter()
        .fold(node.daemon(), |builder, name| builder.resource(tcp(name, "DNS", &["shared.test"])));
    let daemon = builder.start();
    // Nothing is asked before somebody connects.
    assert_eq!(bind.queries("shared.test", "A"), 0);
    for name in names {
        assert_eq!(reached(&node, &format!("{name}.test"), 5432, 5), servers(&[0]));
    }
    assert_eq!((bind.queries("shared.test", "A"), daemon.number("/dns/resolutions")), (1, 1));
    // A reload keeps what is known.
    daemon.signal(Signal::SIGHUP);
    daemon.wait_number("/generation", 2);
    assert_eq!(reached(&node, "one.test", 5432, 5), servers(&[0]));
    assert_eq!(bind.queries("shared.test", "A"), 1);
    daemon.stop();
}

#[test]
fn answers_last_as_long_as_the_settings_say() {
    let node = node();
    let _servers = world(&node);
    let bind =
        Bind::start(&node.world, UPSTREAM, "short 1 IN A 10.77.0.2\nlong 3600 IN A 10.77.0.2");
    let start = |cache: &str| {
        let daemon = node.daemon().config(&format!("dns: {{cache: {cache}}}"));
        let services = ["short", "long"].map(|name| tcp(name, "DNS", &[]));
        services.into_iter().fold(daemon, |daemon, service| daemon.resource(service)).start()
    };
    let move_to = |address: &str| {
        for name in ["short", "long"] {
            let (delete, ttl) =
                (format!("delete {name}.test A"), if name == "short" { 1 } else { 3600 });
            bind.update(&[&delete, &format!("add {name}.test {ttl} A {address}")]);
        }
    };
    // A ceiling: what lasts an hour by its TTL is asked about every second.
    let daemon = start("{maxTtl: 1s}");
    assert_eq!(reached(&node, "long.test", 5432, 1), servers(&[0]));
    move_to("10.77.0.3");
    until("the new address", || {
        (reached(&node, "long.test", 5432, 1) == servers(&[1])).then_some(())
    });
    daemon.stop();
    // A floor: what lasts a second by its TTL is asked about once.
    let daemon = start("{minTtl: 1h}");
    let before = bind.queries("short.test", "A");
    assert_eq!(reached(&node, "short.test", 5432, 1), servers(&[1]));
    move_to("10.77.0.4");
    // That nothing is asked shows only in time: more than twice as long as the TTL is good.
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(reached(&node, "short.test", 5432, 1), servers(&[1]));
    assert_eq!(bind.queries("short.test", "A"), before + 1);
    daemon.stop();
}

#[test]
fn absence_is_remembered_for_its_time() {
    let node = node();
    let _servers = world(&node);
    // The zone says one second; the floor makes it five.
    let bind = Bind::start(&node.world, UPSTREAM, "");
    let config = "dns: {cache: {minTtl: 5s}}";
    let daemon = node.daemon().config(config).resource(tcp("late", "DNS", &[])).start();
    let outcome = reached(&node, "late.test", 5432, 20);
    assert!(!outcome.contains("server0"), "{outcome:?}");
    assert_eq!(daemon.wait_records(20)[0].flags, "UH");
    assert_eq!(bind.queries("late.test", "A"), 1);
    bind.update(&["add late.test 1 A 10.77.0.2"]);
    until("the name to be there", || {
        (reached(&node, "late.test", 5432, 1) == servers(&[0])).then_some(())
    });
    daemon.stop();
}

#[test]
fn proxy_metadata_switches_names_where_dns_is_silent() {
    let node = node();
    let bind = Bind::start(&node.world, UPSTREAM, "one 1 IN A 192.0.2.9");
    let known = |config: &str| {
        let one = service("one", "STATIC", &["192.0.2.1"]);
        let daemon = node.daemon().config(config).resource(one).start();
        let text = node.app(["dig", "+short", "one.test"]).run().text();
        let requests = daemon.number("/dns/requests");
        daemon.stop();
        (text, requests)
    };
    let metadata =
        |text: &str| format!("meshConfig: {{defaultConfig: {{proxyMetadata: {{{text}}}}}}}");
    let ours = |requests| ("240.240.0.1".to_owned(), requests);
    let theirs = |requests| ("192.0.2.9".to_owned(), requests);
    assert_eq!(known(""), ours(1));
    let capture_off = metadata("ISTIO_META_DNS_CAPTURE: \"false\"");
    assert_eq!(known(&capture_off), theirs(0));
    let allocate_off = metadata("ISTIO_META_DNS_AUTO_ALLOCATE: \"false\"");
    assert_eq!(known(&allocate_off), theirs(1));
    // What `dns:` says goes first.
    assert_eq!(known(&format!("dns: {{capture: all}}\n{capture_off}")), ours(1));
    assert_eq!(known(&format!("dns: {{allocateVips: true}}\n{allocate_off}")), ours(1));
    assert_eq!(bind.queries("one.test", "A"), 2);
}

#[test]
fn an_address_that_does_not_answer_holds_nobody_up() {
    let node = node();
    let list = ["[fd77::2]:9000", "[fd77::2]:8443"];
    let list = list.map(|at| (at.to_owned(), Behaviour::named("server6")));
    let _server = Servers::tcp(&node.world, list);
    let _bind = Bind::start(&node.world, UPSTREAM, "db 60 IN A 10.77.0.99\ndb 60 IN AAAA fd77::2");
    // What is sent to it is lost, so that connecting to it takes the whole time limit.
    node.netns.ip("neighbour add 10.77.0.99 lladdr 02:00:00:00:00:99 dev up0");
    let daemon = node.daemon().resource(tcp("db", "DNS", &[])).start();
    // Declared, as an endpoint of the cluster; and not declared, as an address of the host.
    for (port, times) in [(5432, 6), (8443, 2)] {
        let begin = Instant::now();
        let outcome = reached(&node, "db.test", port, times);
        assert_eq!(outcome, BTreeSet::from(["server6".to_owned()]));
        assert!(begin.elapsed() < CONNECT_TIMEOUT, "{:?}", begin.elapsed());
    }
    daemon.stop();
}

#[test]
fn requests_are_not_held_up_by_an_address_that_does_not_answer() {
    let node = node();
    let pages = ["[fd77::2]:9000", "[fd77::2]:80"];
    let pages = pages.map(|at| (at.to_owned(), Behaviour::Page("six".to_owned())));
    let _server = Servers::tcp(&node.world, pages);
    let zone = "web 60 IN A 10.77.0.99\nweb 60 IN AAAA fd77::2\n\
                a.dyn 60 IN A 10.77.0.99\na.dyn 60 IN AAAA fd77::2";
    let _bind = Bind::start(&node.world, UPSTREAM, zone);
    node.netns.ip("neighbour add 10.77.0.99 lladdr 02:00:00:00:00:99 dev up0");
    let daemon = node.daemon().resource(service("web", "DNS", &[]));
    let daemon =
        daemon.resource(entry("dyn", "*.dyn.test", "HTTP", 80, "DYNAMIC_DNS", &[])).start();
    for url in ["http://web.test/", "http://a.dyn.test/"] {
        for _ in 0..4 {
            let begin = Instant::now();
            assert_eq!(node.curl(url).arg("--ipv4").run().text(), "six", "{url}");
            assert!(begin.elapsed() < CONNECT_TIMEOUT / 2, "{url}: {:?}", begin.elapsed());
        }
    }
    let record = daemon.wait_records(8).pop().unwrap();
    assert!(record.upstream_host.starts_with("[fd77::2]:"), "{}", record.upstream_host);
    daemon.stop();
}

/// Of a cluster without a rule (semantics.md §1.2).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
