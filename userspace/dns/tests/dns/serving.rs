//! What is ours to answer.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use egressd_dns::{Foreign, Listeners, Services, SocketKind, Upstreams, plain_socket};
use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};

use crate::{
    client::{Connection, WAIT, answers, ask_tcp, ask_udp, exchange_udp, query},
    names::Table,
    running::Running,
    upstream::{Asked, Upstream},
};

fn table() -> Table {
    let many: Vec<IpAddr> = (0..100).map(|last| IpAddr::from([240, 240, 1, last])).collect();
    Table::default()
        .with("api.example.com", &["240.240.0.1".parse().unwrap(), "2001:2::1".parse().unwrap()])
        .with("V4.example.com", &["240.240.0.2".parse().unwrap()])
        .with("*.wild.example", &["240.240.0.3".parse().unwrap()])
        .with("many.example.com", &many)
}

fn alone() -> Running {
    Running::start(table(), Vec::new())
}

#[test]
fn flags_and_sections() {
    let server = alone();
    let reply = ask_udp(server.address, &query("api.example.com.", RecordType::A, None));
    assert!(reply.authoritative && reply.recursion_desired && reply.recursion_available);
    assert!(!reply.truncation && reply.edns.is_none());
    assert_eq!(answers(&reply), ["api.example.com. 30 IN A 240.240.0.1"]);
    let reply = ask_udp(server.address, &query("api.example.com.", RecordType::AAAA, Some(4096)));
    assert_eq!(answers(&reply), ["api.example.com. 30 IN AAAA 2001:2::1"]);
    assert_eq!(reply.edns.unwrap().max_payload(), 1232);
}

#[test]
fn the_absent_family_is_no_error() {
    let server = alone();
    for ask in [ask_udp, ask_tcp] {
        let reply = ask(server.address, &query("v4.example.com.", RecordType::AAAA, None));
        assert_eq!(reply.response_code, ResponseCode::NoError);
        assert!(reply.authoritative && reply.answers.is_empty());
    }
}

#[test]
fn the_question_keeps_its_case_and_the_owner_loses_it() {
    let server = alone();
    let asked = query("Api.EXAMPLE.com.", RecordType::A, None);
    let bytes = exchange_udp(server.address, &asked.to_vec().unwrap(), WAIT).unwrap();
    assert!(bytes.windows(7).any(|window| window == b"EXAMPLE"));
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(answers(&reply), ["api.example.com. 30 IN A 240.240.0.1"]);
    let reply = ask_udp(server.address, &query("Deep.Er.WILD.example.", RecordType::A, None));
    assert_eq!(answers(&reply), ["deep.er.wild.example. 30 IN A 240.240.0.3"]);
}

#[test]
fn addresses_are_shuffled() {
    let server = alone();
    let asked = query("many.example.com.", RecordType::A, Some(4096));
    let orders: Vec<_> = (0..8).map(|_| answers(&ask_udp(server.address, &asked))).collect();
    assert!(orders.windows(2).any(|pair| pair[0] != pair[1]));
    for mut order in orders {
        order.sort();
        order.dedup();
        assert_eq!(order.len(), 100);
    }
}

#[test]
fn an_answer_is_never_larger_than_asked_for() {
    let server = alone();
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(900), 900), (Some(1650), 1650)] {
        for name in ["many.example.com.", "MANY.example.com."] {
            let asked = query(name, RecordType::A, payload).to_vec().unwrap();
            let bytes = exchange_udp(server.address, &asked, WAIT).unwrap();
            assert!(bytes.len() <= limit, "{} bytes for {payload:?}", bytes.len());
            let reply = Message::from_vec(&bytes).unwrap();
            assert!(reply.answers.len() > (limit - 60) / 16 - 1);
            assert_eq!(reply.truncation, reply.answers.len() < 100, "{payload:?}");
            assert_eq!(reply.edns.is_some(), payload.is_some());
        }
    }
    let reply = ask_tcp(server.address, &query("many.example.com.", RecordType::A, None));
    assert_eq!((reply.answers.len(), reply.truncation), (100, false));
}

#[test]
fn an_unknown_edns_version() {
    let server = alone();
    let mut asked = query("api.example.com.", RecordType::A, Some(1232));
    asked.edns.as_mut().unwrap().set_version(1);
    let reply = ask_udp(server.address, &asked);
    assert_eq!(u16::from(reply.response_code), 16);
    assert!(reply.answers.is_empty());
}

#[test]
fn other_types_classes_and_opcodes_go_upstream() {
    let upstream =
        Upstream::start(|asked| vec![asked.reply(ResponseCode::Refused).to_vec().unwrap()]);
    let server = Running::start(table(), vec![upstream.plain()]);
    let types = [RecordType::MX, RecordType::SRV, RecordType::ANY, RecordType::TXT];
    for record_type in types {
        let reply = ask_udp(server.address, &query("api.example.com.", record_type, None));
        assert_eq!(reply.response_code, ResponseCode::Refused, "{record_type}");
    }
    let mut chaos = Message::query();
    let mut question = Query::query(Name::from_ascii("api.example.com.").unwrap(), RecordType::A);
    question.set_query_class(DNSClass::CH);
    chaos.add_query(question);
    assert_eq!(ask_udp(server.address, &chaos).response_code, ResponseCode::Refused);
    let mut update = query("api.example.com.", RecordType::A, None);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(ask_udp(server.address, &update).response_code, ResponseCode::Refused);
    assert_eq!(upstream.queries(), types.len() + 2);
}

#[test]
fn the_first_search_domain() {
    let server = alone();
    server.server.set_search("Corp.example.");
    let reply =
        ask_udp(server.address, &query("API.example.com.corp.example.", RecordType::A, None));
    assert_eq!(
        answers(&reply),
        [
            "api.example.com.corp.example. 30 IN CNAME api.example.com.",
            "api.example.com. 30 IN A 240.240.0.1"
        ]
    );
    let reply =
        ask_udp(server.address, &query("x.wild.example.corp.example.", RecordType::A, None));
    assert_eq!(
        answers(&reply),
        [
            "x.wild.example.corp.example. 30 IN CNAME *.wild.example.",
            "*.wild.example. 30 IN A 240.240.0.3"
        ]
    );
    let reply =
        ask_udp(server.address, &query("v4.example.com.corp.example.", RecordType::AAAA, None));
    assert_eq!((reply.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
}

#[test]
fn before_the_first_generation() {
    let none = Upstreams::new(Vec::new(), Foreign::AskIt, Vec::new());
    let server = Running::unpublished(none, |_| {});
    for ask in [ask_udp, ask_tcp] {
        let reply = ask(server.address, &query("api.example.com.", RecordType::A, None));
        assert_eq!(reply.response_code, ResponseCode::ServFail);
    }
}

#[test]
fn a_new_generation_is_answered_at_once() {
    let server = alone();
    let asked = query("new.example.com.", RecordType::A, None);
    assert_eq!(ask_udp(server.address, &asked).response_code, ResponseCode::ServFail);
    let names: Arc<dyn egressd_dns::Names> =
        Arc::new(Table::default().with("new.example.com", &["240.240.9.9".parse().unwrap()]));
    server.server.publish(&names);
    assert_eq!(answers(&ask_udp(server.address, &asked)), ["new.example.com. 30 IN A 240.240.9.9"]);
}

#[test]
fn several_queries_on_one_connection() {
    let upstream = Upstream::start(|asked| {
        if asked.name() == "slow.example." {
            thread::sleep(Duration::from_millis(300));
        }
        asked.addresses(5, &["192.0.2.9"])
    });
    let server = Running::start(table(), vec![upstream.plain()]);
    let mut connection = Connection::open(server.address);
    let slow = query("slow.example.", RecordType::A, None);
    let fast = query("api.example.com.", RecordType::A, None);
    let other = query("other.example.", RecordType::A, None);
    for message in [&slow, &fast, &other] {
        connection.send(&message.to_vec().unwrap());
    }
    connection.finish();
    let ids: Vec<u16> = std::iter::from_fn(|| connection.receive())
        .map(|bytes| Message::from_vec(&bytes).unwrap().id)
        .collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0], fast.id, "what is known does not wait");
    assert_eq!(ids[2], slow.id);
}

#[test]
fn an_idle_connection_is_closed() {
    let server = alone();
    let mut connection = Connection::open(server.address);
    let start = Instant::now();
    assert!(connection.receive().is_none());
    assert!((9..12).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[test]
fn the_answer_comes_from_the_address_asked() {
    let server = alone();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let listeners = Listeners { udp: vec![vec![socket]], tcp: Vec::new(), askers: None };
    let id = server.server.listen(listeners).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    let asked = query("api.example.com.", RecordType::A, None).to_vec().unwrap();
    for last in [1, 16] {
        let to = SocketAddr::from(([127, 64, 53, last], port));
        client.send_to(&asked, to).unwrap();
        let mut buffer = [0; 512];
        assert_eq!(client.recv_from(&mut buffer).unwrap().1, to);
    }
    server.server.close(id);
    let closed = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + WAIT;
    while exchange_udp(closed, &asked, Duration::from_millis(100)).is_some() {
        assert!(Instant::now() < deadline, "still served");
    }
    assert!(exchange_udp(server.address, &asked, WAIT).is_some());
}

#[test]
fn threads_share_an_address() {
    let none = Upstreams::new(Vec::new(), Foreign::AskIt, Vec::new());
    let server = Running::start_with(table(), none, |wiring| wiring.threads = 2);
    let first = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).unwrap();
    first.set_reuse_port(true).unwrap();
    first.bind(&"[::1]:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let second = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None).unwrap();
    second.set_reuse_port(true).unwrap();
    second.bind(&address.into()).unwrap();
    let udp = vec![vec![first.into()], vec![second.into()]];
    server.server.listen(Listeners { udp, tcp: Vec::new(), askers: None }).unwrap();
    for _ in 0..50 {
        let reply = ask_udp(address, &query("api.example.com.", RecordType::A, None));
        assert_eq!(reply.answers.len(), 1);
    }
    assert_eq!(server.metrics.requests.get(), 50);
}

#[test]
fn the_heart_beats() {
    let server = alone();
    thread::sleep(Duration::from_millis(1100));
    let beats = server.beats.load(Ordering::Relaxed);
    // Two threads, five times a second each.
    assert!((8..=14).contains(&beats), "{beats}");
}

#[test]
fn the_heart_stands_still_while_connections_hang() {
    // Not all threads are alive: queries over TCP would wait for ever.
    let hanging = |kind: SocketKind, server: SocketAddr| {
        if kind == SocketKind::Tcp {
            thread::sleep(Duration::from_secs(3));
        }
        plain_socket(kind, server)
    };
    let upstream = Upstream::start(|asked| asked.addresses(5, &["192.0.2.9"]));
    let upstreams = Upstreams::new(vec![upstream.plain()], Foreign::AskIt, Vec::new());
    let server = Running::start_with(table(), upstreams, |wiring| {
        wiring.sockets = Arc::new(hanging);
    });
    let mut connection = Connection::open(server.address);
    connection.send(&query("x.example.", RecordType::A, None).to_vec().unwrap());
    thread::sleep(Duration::from_millis(1000));
    let before = server.beats.load(Ordering::Relaxed);
    thread::sleep(Duration::from_millis(1000));
    assert_eq!(server.beats.load(Ordering::Relaxed), before);
    // Over UDP everything goes on, and the sign comes back with the thread.
    let reply = ask_udp(server.address, &query("api.example.com.", RecordType::A, None));
    assert_eq!(reply.answers.len(), 1);
    assert!(connection.receive().is_some());
    let limit = Instant::now() + Duration::from_secs(10);
    while server.beats.load(Ordering::Relaxed) <= before {
        assert!(Instant::now() < limit, "no sign of life");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_says_how_a_known_host_is_reached_is_hidden() {
    let hint = |asked: &Asked| asked.addresses(5, &["192.0.2.9"]);
    let upstream = Upstream::start(hint);
    let plain = vec![upstream.plain()];
    let server = Running::start(table(), plain.clone());
    server.server.set_search("corp.example");
    let names = [
        "api.example.com.",
        "_8443._https.api.example.com.",
        "x.wild.example.",
        "api.example.com.corp.example.",
    ];
    for name in names {
        for record_type in [RecordType::HTTPS, RecordType::SVCB] {
            for ask in [ask_udp, ask_tcp] {
                let reply = ask(server.address, &query(name, record_type, Some(1232)));
                assert_eq!(reply.response_code, ResponseCode::NoError, "{name}");
                assert!(reply.answers.is_empty() && reply.authoritative, "{name}");
            }
        }
    }
    assert_eq!(upstream.queries(), 0);
    // Those of others, and other records of ours, are asked for.
    for (name, record_type) in
        [("other.example.", RecordType::HTTPS), ("api.example.com.", RecordType::TXT)]
    {
        ask_udp(server.address, &query(name, record_type, None));
    }
    assert_eq!(upstream.queries(), 2);
    // As Istio does it.
    let upstreams = Upstreams::new(plain, Foreign::AskIt, Vec::new());
    let server = Running::start_with(table(), upstreams, |wiring| {
        wiring.services = Services::Forwarded;
    });
    ask_udp(server.address, &query("api.example.com.", RecordType::HTTPS, None));
    assert_eq!(upstream.queries(), 3);
}
