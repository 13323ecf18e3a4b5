//! What is asked upstream.

use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    os::fd::BorrowedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use egressd_dns::{Asked, Foreign, Transport, Upstream as Server, Upstreams};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};

use crate::{
    client::{Connection, WAIT, answers, ask_tcp, ask_udp, exchange_udp, query},
    names::Table,
    running::Running,
    upstream::{Asked as Question, Probes, Upstream},
};

fn known() -> Table {
    Table::default().with("known.example", &["240.240.0.1".parse().unwrap()])
}

fn forwarding(upstreams: Vec<Server>) -> Running {
    Running::start(known(), upstreams)
}

/// An address where nobody answers and nobody refuses.
fn silent() -> (UdpSocket, Server) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, Server::plain(address))
}

#[test]
fn relayed_unchanged_over_the_same_transport() {
    let upstream = Upstream::start(|asked| {
        let mut reply = asked.reply(ResponseCode::NXDomain);
        reply.metadata.authoritative = asked.by_tcp;
        let mut bytes = reply.to_vec().unwrap();
        // Something that no parser would keep.
        bytes[3] |= 0x40;
        vec![bytes]
    });
    let server = forwarding(vec![upstream.plain()]);
    let asked = query("No.Such.Name.example.", RecordType::SRV, Some(1400)).to_vec().unwrap();
    let mut expected = asked.clone();
    expected[2] |= 0x80;
    expected[3] |= 0x80 | 0x40 | 3;
    assert_eq!(exchange_udp(server.address, &asked, WAIT).unwrap(), expected);
    let mut connection = Connection::open(server.address);
    connection.send(&asked);
    expected[2] |= 0x04;
    assert_eq!(connection.receive().unwrap(), expected);
    assert_eq!(server.metrics.requests.get(), 2);
    assert_eq!(server.metrics.upstream_requests.get(), 2);
    assert_eq!(server.metrics.upstream_failures.get(), 0);
    assert_eq!(server.metrics.upstream_duration.count(), 2);
}

#[test]
fn the_query_travels_unchanged_under_an_id_of_our_own() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let upstream = Upstream::start(move |asked| {
        kept.lock().unwrap().push(asked.bytes.clone());
        asked.nothing()
    });
    let server = forwarding(vec![upstream.plain()]);
    let asked = query("Some.Name.example.", RecordType::A, Some(1400)).to_vec().unwrap();
    for _ in 0..32 {
        exchange_udp(server.address, &asked, WAIT).unwrap();
    }
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|bytes| bytes[2..] == asked[2..]));
    let ids: HashSet<_> = seen.iter().map(|bytes| [bytes[0], bytes[1]]).collect();
    let ports: HashSet<_> = upstream.sources().iter().map(SocketAddr::port).collect();
    assert!(ids.len() > 30 && ports.len() > 28, "{} ids, {} ports", ids.len(), ports.len());
}

#[test]
fn truncated_replies_stay_truncated() {
    let upstream = Upstream::start(|asked| {
        let mut reply = asked.reply(ResponseCode::NoError);
        reply.metadata.truncation = !asked.by_tcp;
        vec![reply.to_vec().unwrap()]
    });
    let server = forwarding(vec![upstream.plain()]);
    let asked = query("big.example.", RecordType::TXT, None);
    assert!(ask_udp(server.address, &asked).truncation);
    assert_eq!(upstream.queries(), 1, "the client asks over TCP itself");
    assert!(!ask_tcp(server.address, &asked).truncation);
}

#[test]
fn the_next_server_on_error() {
    let good = Upstream::start(|asked| asked.addresses(5, &["192.0.2.9"]));
    let refusing =
        Upstream::start(|asked| vec![asked.reply(ResponseCode::Refused).to_vec().unwrap()]);
    // Bound and gone: the kernel says so at once.
    let gone = silent().1;
    let server = forwarding(vec![gone, refusing.plain(), good.plain()]);
    for _ in 0..10 {
        for ask in [ask_udp, ask_tcp] {
            let start = Instant::now();
            let reply = ask(server.address, &query("x.example.", RecordType::A, None));
            assert_eq!(answers(&reply), ["x.example. 5 IN A 192.0.2.9"]);
            assert!(start.elapsed() < Duration::from_secs(2));
        }
    }
    assert!(refusing.queries() > 0, "the order is random");
    assert_eq!(server.metrics.upstream_failures.get(), 0);
}

#[test]
fn what_the_last_server_says_is_relayed() {
    let failing =
        Upstream::start(|asked| vec![asked.reply(ResponseCode::ServFail).to_vec().unwrap()]);
    let server = forwarding(vec![failing.plain(), silent().1]);
    for ask in [ask_udp, ask_tcp] {
        let reply = ask(server.address, &query("x.example.", RecordType::A, None));
        assert_eq!(reply.response_code, ResponseCode::ServFail);
    }
    assert_eq!(server.metrics.upstream_failures.get(), 0);
}

#[test]
fn a_silent_server_costs_five_seconds_and_is_then_asked_last() {
    let (_silent, silent) = silent();
    let good = Upstream::start(|asked| asked.addresses(5, &["192.0.2.9"]));
    let server = forwarding(vec![silent, good.plain()]);
    let delays: Vec<_> = (0..40)
        .map(|_| {
            let start = Instant::now();
            let reply = ask_udp(server.address, &query("x.example.", RecordType::A, None));
            assert_eq!(reply.answers.len(), 1);
            start.elapsed()
        })
        .collect();
    let slow: Vec<_> = delays.iter().filter(|delay| delay.as_secs() >= 1).collect();
    assert!((1..=4).contains(&slow.len()), "{slow:?}");
    assert!(slow.iter().all(|delay| (5..7).contains(&delay.as_secs())), "{slow:?}");
}

#[test]
fn nobody_answers() {
    let (_silent, silent) = silent();
    let server = forwarding(vec![silent]);
    let start = Instant::now();
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, Some(1232)));
    assert_eq!(reply.response_code, ResponseCode::ServFail);
    assert_eq!(reply.queries.len(), 1);
    assert!((5..7).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(server.metrics.upstream_failures.get(), 1);
    let reply = ask_udp(forwarding(Vec::new()).address, &query("x.", RecordType::A, None));
    assert_eq!(reply.response_code, ResponseCode::ServFail);
}

#[test]
fn ten_thousand_questions_to_a_dead_server() {
    let (dead, silent) = silent();
    let server = forwarding(vec![silent]);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..10_000 {
        let asked = query(&format!("n{number}.example."), RecordType::A, None);
        sender.send_to(&asked.to_vec().unwrap(), server.address).unwrap();
        if number % 50 == 0 {
            // Everybody else is still served.
            let reply = ask_udp(server.address, &query("known.example.", RecordType::A, None));
            assert_eq!(answers(&reply), ["known.example. 30 IN A 240.240.0.1"]);
        }
    }
    // All but those that wait were told, at once or as soon as others needed their place.
    let told = server.metrics.upstream_refused.get() + server.metrics.upstream_displaced.get();
    assert!(told > 7000, "{}", server.metrics);
    // One socket for many questions, once there are many.
    dead.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    let from: Vec<_> = std::iter::from_fn(|| Some(dead.recv_from(&mut buffer).ok()?.1)).collect();
    let ports: HashSet<_> = from.iter().collect();
    assert!(from.len() > 150 && ports.len() <= 130, "{} from {}", from.len(), ports.len());
    // Another server, were there one, would still be asked: the oldest questions give way.
    thread::sleep(Duration::from_millis(300));
    let good = Upstream::start(|asked| asked.addresses(5, &["192.0.2.9"]));
    server.server.set_upstreams(Upstreams::new(vec![good.plain()], Foreign::AskIt, Vec::new()));
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, None));
    assert_eq!(reply.answers.len(), 1);
}

/// Says that every query was meant for one server.
struct Meant(SocketAddr);

impl Asked for Meant {
    fn datagram(&self, _client: SocketAddr, _local: SocketAddr) -> Option<SocketAddr> {
        Some(self.0)
    }

    fn connection(&self, _socket: BorrowedFd<'_>) -> Option<SocketAddr> {
        Some(self.0)
    }
}

#[test]
fn a_server_that_is_none_of_ours_is_asked_itself() {
    let ours = Upstream::start(|asked| asked.addresses(5, &["192.0.2.1"]));
    let at = |text: &str, address: &'static str| {
        let behaviour = move |asked: &Question| asked.addresses(5, &[address]);
        Upstream::start_at(text.parse().unwrap(), Probes::Refused, behaviour)
    };
    let theirs = at("127.0.0.2:0", "192.0.2.2");
    for (foreign, address) in [(Foreign::AskIt, "192.0.2.2"), (Foreign::AskUpstreams, "192.0.2.1")]
    {
        let upstreams = Upstreams::new(vec![ours.plain()], foreign, Vec::new());
        let server = Running::start_with(known(), upstreams, |wiring| {
            wiring.asked = Arc::new(Meant(theirs.address));
        });
        for ask in [ask_udp, ask_tcp] {
            let reply = ask(server.address, &query("x.example.", RecordType::A, None));
            assert_eq!(answers(&reply), [format!("x.example. 5 IN A {address}")]);
        }
    }
}

#[test]
fn an_upstream_that_is_ourselves() {
    let server = forwarding(Vec::new());
    let ourselves = Upstreams::new(vec![Server::plain(server.address)], Foreign::AskIt, Vec::new());
    server.server.set_upstreams(ourselves);
    for ask in [ask_udp, ask_tcp] {
        let start = Instant::now();
        let reply = ask(server.address, &query("x.example.", RecordType::A, None));
        assert_eq!(reply.response_code, ResponseCode::ServFail);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(server.metrics.upstream_loops.get(), 2);
}

/// A stub that asks us whatever it is asked.
fn stub_that_asks_us(us: Arc<OnceLock<SocketAddr>>, probes: Probes) -> Upstream {
    Upstream::start_at("127.0.0.1:0".parse().unwrap(), probes, move |asked: &Question| {
        let us = *us.get().unwrap();
        let (bytes, from) = (asked.bytes.clone(), asked.from);
        let id = [bytes[0], bytes[1]];
        // Not in the way of the next question.
        let stub = REPLY_FROM.with(|socket| socket.try_clone().unwrap());
        thread::spawn(move || {
            if let Some(mut reply) = exchange_udp(us, &bytes, WAIT) {
                reply[..2].copy_from_slice(&id);
                stub.send_to(&reply, from).unwrap();
            }
        });
        Vec::new()
    })
}

thread_local! {
    static REPLY_FROM: UdpSocket = UdpSocket::bind("127.0.0.1:0").unwrap();
}

#[test]
fn a_stub_that_leads_back_here_is_noticed() {
    let us = Arc::new(OnceLock::new());
    let stub = stub_that_asks_us(Arc::clone(&us), Probes::Seen);
    let server = forwarding(Vec::new());
    us.set(server.address).unwrap();
    server.server.set_upstreams(Upstreams::new(vec![stub.plain()], Foreign::AskIt, Vec::new()));
    let deadline = Instant::now() + WAIT;
    // The probe takes a moment.
    while server.metrics.upstream_loops.get() == 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
        let asked = query("x.example.", RecordType::A, None).to_vec().unwrap();
        exchange_udp(server.address, &asked, Duration::from_millis(100));
    }
    let start = Instant::now();
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, None));
    assert_eq!(reply.response_code, ResponseCode::ServFail);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_loop_without_a_probe_ends_by_its_depth() {
    let us = Arc::new(OnceLock::new());
    let stub = stub_that_asks_us(Arc::clone(&us), Probes::Refused);
    let server = forwarding(vec![stub.plain()]);
    us.set(server.address).unwrap();
    let asked = query("x.example.", RecordType::A, None).to_vec().unwrap();
    exchange_udp(server.address, &asked, WAIT);
    assert!(server.metrics.upstream_loops.get() > 0, "{}", server.metrics);
    assert!(stub.queries() < 1000, "{}", stub.queries());
}

#[test]
fn an_upstream_over_tcp_only() {
    let count = Arc::new(AtomicUsize::new(0));
    let by_udp = Arc::clone(&count);
    let upstream = Upstream::start(move |asked| {
        by_udp.fetch_add(usize::from(!asked.by_tcp), Ordering::Relaxed);
        let many: Vec<String> = (0..60).map(|last| format!("192.0.2.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        asked.addresses(5, &many)
    });
    let server = forwarding(vec![Server { address: upstream.address, transport: Transport::Tcp }]);
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, Some(1400)));
    assert_eq!((reply.answers.len(), reply.truncation), (60, false));
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, None));
    assert_eq!((reply.answers.len(), reply.truncation), (0, true));
    let reply = ask_tcp(server.address, &query("x.example.", RecordType::A, None));
    assert_eq!((reply.answers.len(), reply.truncation), (60, false));
    assert_eq!(count.load(Ordering::Relaxed), 0);
    let from: HashSet<_> = upstream.sources().into_iter().collect();
    assert_eq!(from.len(), 1, "one connection for all");
}

#[test]
fn replies_of_others_are_ignored() {
    let upstream = Upstream::start(|asked: &Question| {
        let good = asked.addresses(5, &["192.0.2.9"]).remove(0);
        let mut wrong_id = good.clone();
        wrong_id[0] ^= 1;
        let mut wrong_name = good.clone();
        wrong_name[13] = b'y';
        let mut wrong_type = good.clone();
        let end = 12 + "x.example.".len() + 1;
        wrong_type[end + 1] = 28;
        let mut no_response = good.clone();
        no_response[2] &= 0x7f;
        let no_question = [&good[..4], &[0; 8]].concat();
        let cut = good[..20].to_vec();
        vec![wrong_id, wrong_name, wrong_type, no_response, no_question, cut, good]
    });
    let server = forwarding(vec![upstream.plain()]);
    for _ in 0..20 {
        let asked = query("x.example.", RecordType::A, None).to_vec().unwrap();
        let bytes = exchange_udp(server.address, &asked, WAIT).unwrap();
        assert_eq!(bytes[..2], asked[..2]);
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(answers(&reply), ["x.example. 5 IN A 192.0.2.9"]);
    }
    let reply = ask_tcp(server.address, &query("x.example.", RecordType::A, None));
    assert_eq!(answers(&reply), ["x.example. 5 IN A 192.0.2.9"]);
}

#[test]
fn spoofed_replies_from_another_address_are_ignored() {
    let upstream = Upstream::start(|asked: &Question| {
        // The right id and question, from a port that was not asked.
        let spoofed = asked.addresses(5, &["192.0.2.66"]).remove(0);
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20 {
            stranger.send_to(&spoofed, asked.from).unwrap();
        }
        thread::sleep(Duration::from_millis(20));
        asked.addresses(5, &["192.0.2.9"])
    });
    let server = forwarding(vec![upstream.plain()]);
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, None));
    assert_eq!(answers(&reply), ["x.example. 5 IN A 192.0.2.9"]);
}

#[test]
fn a_reply_larger_than_asked_for_is_no_reply() {
    let upstream = Upstream::start(|asked| {
        let many: Vec<String> = (0..60).map(|last| format!("192.0.2.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        asked.addresses(5, &many)
    });
    let server = forwarding(vec![upstream.plain()]);
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, Some(600)));
    assert_eq!(reply.response_code, ResponseCode::ServFail);
    let reply = ask_udp(server.address, &query("x.example.", RecordType::A, Some(1232)));
    assert_eq!(reply.answers.len(), 60);
}
