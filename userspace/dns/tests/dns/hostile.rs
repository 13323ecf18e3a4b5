//! Packets from somebody who means no good: no panic, nothing larger than asked for, and everybody
//! else is still served.

use std::{net::UdpSocket, time::Duration};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    client::{Connection, WAIT, answers, ask_udp, exchange_udp, query},
    names::Table,
    running::Running,
    upstream::Upstream,
};

fn table() -> Table {
    Table::default()
        .with("known.example", &["240.240.0.1".parse().unwrap(), "2001:2::1".parse().unwrap()])
        .with("*.wild.example", &["240.240.0.3".parse().unwrap()])
}

/// Real queries, and single bytes to change in them.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let names = ["known.example.", "x.wild.example.", "other.example.", "known.example.corp.", "."];
    let question = (
        proptest::sample::select(names.to_vec()),
        proptest::sample::select(vec![RecordType::A, RecordType::AAAA, RecordType::ANY]),
        proptest::option::of(any::<u16>()),
    );
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    let tail = proptest::collection::vec(any::<u8>(), 0..40);
    (question, changes, tail).prop_map(|((name, record_type, payload), changes, tail)| {
        let mut bytes = query(name, record_type, payload).to_vec().unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.extend(tail);
        bytes
    })
}

/// What a client of this query can take, as hickory reads it; 512 if hickory cannot.
fn limit(bytes: &[u8]) -> usize {
    let payload = Message::from_vec(bytes).ok().and_then(|message| message.edns);
    payload.map_or(512, |edns| usize::from(edns.max_payload()).max(512))
}

#[test]
fn arbitrary_and_mutated_packets() {
    let upstream = Upstream::start(|asked| asked.addresses(5, &["192.0.2.9"]));
    let server = Running::start(table(), vec![upstream.plain()]);
    server.server.set_search("corp");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let anything = proptest::collection::vec(any::<u8>(), 0..700);
    let packets = prop_oneof![anything, mutated()];
    let mut runner =
        TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
    runner
        .run(&packets, |bytes| {
            socket.send(&bytes).unwrap();
            let mut buffer = [0; 65_535];
            if let Ok(length) = socket.recv(&mut buffer) {
                let reply = &buffer[..length];
                prop_assert!(length >= 12 && reply[2] & 0x80 != 0, "{reply:?}");
                // A late reply may belong to the packet before.
                if bytes.get(..2) == Some(&reply[..2]) {
                    prop_assert!(length <= limit(&bytes).max(bytes.len()), "{length} bytes");
                }
            }
            Ok(())
        })
        .unwrap();
    let reply = ask_udp(server.address, &query("known.example.", RecordType::A, None));
    assert_eq!(answers(&reply), ["known.example. 30 IN A 240.240.0.1"]);
}

#[test]
fn arbitrary_replies_from_upstream() {
    let upstream = Upstream::start(|asked| {
        let seed = usize::from(asked.bytes[0]) * 7 + usize::from(asked.bytes[1]);
        let good = asked.addresses(5, &["192.0.2.9"]).remove(0);
        let mut bad = good.clone();
        let place = 2 + seed % (bad.len() - 2);
        bad[place] ^= 0x55;
        vec![bad[..place].to_vec(), bad, good]
    });
    let server = Running::start(table(), vec![upstream.plain()]);
    for number in 0..500 {
        let asked = query(&format!("n{number}.example."), RecordType::A, None);
        let asked = asked.to_vec().unwrap();
        let reply = exchange_udp(server.address, &asked, WAIT).expect("a reply");
        assert_eq!(reply[..2], asked[..2]);
        assert!(reply.len() <= 512);
    }
}

#[test]
fn responses_are_not_answered() {
    let server = Running::start(table(), Vec::new());
    let mut bytes = query("known.example.", RecordType::A, None).to_vec().unwrap();
    bytes[2] |= 0x80;
    assert!(exchange_udp(server.address, &bytes, Duration::from_millis(200)).is_none());
    let mut connection = Connection::open(server.address);
    connection.send(&bytes);
    assert!(connection.receive().is_none());
    assert_eq!(server.metrics.malformed.get(), 2);
}

#[test]
fn no_question_and_too_many() {
    let server = Running::start(table(), Vec::new());
    for (count, code) in [(0, ResponseCode::ServFail), (2, ResponseCode::FormErr)] {
        let mut bytes = query("known.example.", RecordType::A, None).to_vec().unwrap();
        bytes[5] = count;
        let reply = exchange_udp(server.address, &bytes, WAIT).unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!((reply.response_code, reply.queries.len()), (code, 0));
    }
}

#[test]
fn a_huge_message_over_tcp() {
    let server = Running::start(table(), Vec::new());
    let mut connection = Connection::open(server.address);
    let mut bytes = query("known.example.", RecordType::A, None).to_vec().unwrap();
    // 64 KiB of names that nobody asked for.
    bytes[11] = 200;
    bytes.resize(65_535, 63);
    connection.send(&bytes);
    let reply = Message::from_vec(&connection.receive().unwrap()).unwrap();
    assert_eq!(reply.response_code, ResponseCode::FormErr);
}

#[test]
fn many_connections() {
    let server = Running::start(table(), Vec::new());
    let held: Vec<_> = (0..700).map(|_| Connection::open(server.address)).collect();
    let reply = ask_udp(server.address, &query("known.example.", RecordType::A, None));
    assert_eq!(reply.answers.len(), 1);
    drop(held);
}
