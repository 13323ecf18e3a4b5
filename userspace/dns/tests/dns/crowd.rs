//! One client that asks for too much, and others who ask for little.

use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use egressd_dns::{Asker, Askers, SocketKind, Transport, Upstream as Server};
use hickory_proto::rr::RecordType;

use crate::{
    client::{Connection, answers, ask_tcp, ask_udp, query},
    names::Table,
    running::Running,
    upstream::{Asked, Upstream},
};

/// Knows one user by the ports of its sockets; everybody else is another one.
#[derive(Debug, Default)]
struct Greedy(Mutex<HashSet<u16>>);

impl Greedy {
    fn has(&self, address: SocketAddr) {
        self.0.lock().unwrap().insert(address.port());
    }
}

impl Askers for Greedy {
    fn asker(&self, _: SocketKind, client: SocketAddr, _: SocketAddr) -> Option<Asker> {
        let is_greedy = self.0.lock().unwrap().contains(&client.port());
        let uid = if is_greedy { 1000 } else { 1001 };
        Some(Asker::Process { uid, cgroup: 1 })
    }
}

/// Never answers for names that begin with `slow`.
fn slow_and_fast() -> Upstream {
    Upstream::start(|asked: &Asked| {
        if asked.name().starts_with("slow") {
            return Vec::new();
        }
        asked.addresses(5, &["192.0.2.9"])
    })
}

fn slow(number: usize) -> Vec<u8> {
    query(&format!("slow{number}.example."), RecordType::A, None).to_vec().unwrap()
}

/// Asks for another name by both transports; says how long the longer one took.
fn others_are_served(server: &Running) -> Duration {
    let start = Instant::now();
    for ask in [ask_udp, ask_tcp] {
        let reply = ask(server.address, &query("fast.example.", RecordType::A, None));
        assert_eq!(answers(&reply), ["fast.example. 5 IN A 192.0.2.9"]);
    }
    start.elapsed()
}

/// Asks for slow names from many sockets; others ask in between.
fn flood(server: &Running, greedy: &Greedy, count: usize) {
    let sockets: Vec<_> = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    sockets.iter().for_each(|socket| greedy.has(socket.local_addr().unwrap()));
    for (number, socket) in (0..count).zip(sockets.iter().cycle()) {
        socket.send_to(&slow(number), server.address).unwrap();
        if number % 200 == 199 {
            let took = others_are_served(server);
            assert!(took < Duration::from_secs(2), "{took:?} after {number}: {}", server.metrics);
        }
    }
    let metrics = &server.metrics;
    let over = metrics.upstream_refused.get() + metrics.upstream_displaced.get();
    assert!(over > 500, "{metrics}");
}

#[test]
fn names_that_nobody_answers_starve_nobody_else() {
    let (upstream, greedy) = (slow_and_fast(), Arc::<Greedy>::default());
    let server = Running::for_askers(Table::default(), vec![upstream.plain()], greedy.clone());
    flood(&server, &greedy, 4000);
}

#[test]
fn nor_do_they_where_upstreams_are_asked_over_connections() {
    let (upstream, greedy) = (slow_and_fast(), Arc::<Greedy>::default());
    let by_tcp = Server { address: upstream.address, transport: Transport::Tcp };
    let server = Running::for_askers(Table::default(), vec![by_tcp], greedy.clone());
    flood(&server, &greedy, 2000);
}

#[test]
fn a_client_is_answered_though_it_asks_for_more_than_it_may() {
    // Its own oldest questions give way: some of them are those that nobody answers.
    let (upstream, greedy) = (slow_and_fast(), Arc::<Greedy>::default());
    let server = Running::for_askers(Table::default(), vec![upstream.plain()], greedy.clone());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    greedy.has(socket.local_addr().unwrap());
    for number in 0..2100 {
        socket.send_to(&slow(number), server.address).unwrap();
    }
    std::thread::sleep(Duration::from_millis(300));
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let fast = query("fast.example.", RecordType::A, None);
    socket.send_to(&fast.to_vec().unwrap(), server.address).unwrap();
    let mut buffer = [0; 512];
    let is_answer = |reply: &[u8]| reply[..2] == fast.id.to_be_bytes() && reply[3] & 15 == 0;
    let answered = (0..2100).any(|_| {
        let length = socket.recv(&mut buffer).expect("replies until the one asked for");
        is_answer(&buffer[..length])
    });
    assert!(answered, "{}", server.metrics);
}

#[test]
fn a_question_that_one_client_repeats_is_no_loop_for_others() {
    // What is on this node might ask us in turn, so repetitions are counted. Sixty-four are nobody's.
    let (seen, greedy) = (Arc::<AtomicUsize>::default(), Arc::<Greedy>::default());
    let count = Arc::clone(&seen);
    let upstream = Upstream::start(move |asked: &Asked| {
        if count.fetch_add(1, Ordering::Relaxed) < 64 + 256 {
            return Vec::new();
        }
        asked.addresses(5, &["192.0.2.9"])
    });
    let server = Running::for_askers(Table::default(), vec![upstream.plain()], greedy.clone());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    greedy.has(socket.local_addr().unwrap());
    let asked = query("fast.example.", RecordType::A, None);
    for _ in 0..400 {
        socket.send_to(&asked.to_vec().unwrap(), server.address).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(server.metrics.upstream_loops.get() > 0, "{}", server.metrics);
    let reply = ask_udp(server.address, &asked);
    assert_eq!(answers(&reply), ["fast.example. 5 IN A 192.0.2.9"]);
}

#[test]
fn answers_that_are_not_read_keep_nobody_out() {
    let greedy = Arc::<Greedy>::default();
    let many: Vec<String> = (0..1000).map(|n| format!("192.0.{}.{}", n / 256, n % 256)).collect();
    let upstream = Upstream::start(move |asked: &Asked| {
        if asked.name().starts_with("big") && asked.by_tcp {
            return asked.addresses(5, &many.iter().map(String::as_str).collect::<Vec<_>>());
        }
        asked.addresses(5, &["192.0.2.9"])
    });
    let server = Running::for_askers(Table::default(), vec![upstream.plain()], greedy.clone());
    let big = query("big.example.", RecordType::A, None).to_vec().unwrap();
    let mut held = Vec::new();
    for number in 0..80 {
        let (mut connection, local) = Connection::open_from(server.address);
        greedy.has(local);
        for _ in 0..16 {
            connection.send(&big);
        }
        held.push(connection);
        if number % 20 == 19 {
            let took = others_are_served(&server);
            assert!(took < Duration::from_secs(5), "{took:?}: {}", server.metrics);
        }
    }
}

#[test]
fn connections_that_are_only_held_keep_nobody_out() {
    let greedy = Arc::<Greedy>::default();
    let known = Table::default().with("known.example", &["240.240.0.1".parse().unwrap()]);
    let server = Running::for_askers(known, Vec::new(), greedy.clone());
    let mut held = Vec::new();
    for number in 0..1200 {
        let (connection, local) = Connection::open_from(server.address);
        greedy.has(local);
        held.push(connection);
        if number % 100 == 99 {
            let reply = ask_tcp(server.address, &query("known.example.", RecordType::A, None));
            assert_eq!(reply.answers.len(), 1, "after {number}");
        }
    }
    assert!(server.metrics.connections_closed.get() > 100, "{}", server.metrics);
}
