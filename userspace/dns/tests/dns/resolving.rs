//! Names for clusters, over real sockets.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use egressd_dns::{
    Foreign, Known, Metrics, Origin, Resolver, ResolverSettings, SocketKind, SocketMaker,
    Upstream as Server, Upstreams, plain_socket,
};
use egressd_tables::IpFamilies;
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType, rdata},
};
use tokio::runtime::Handle;

use crate::{
    client::{answers, ask_udp, query},
    names::Table,
    running::Running,
    tls::Tls,
    upstream::{Asked, Upstream, a},
};

fn settings() -> ResolverSettings {
    ResolverSettings {
        hosts: PathBuf::new(),
        timeout: Duration::from_millis(500),
        attempts: 1,
        ..ResolverSettings::default()
    }
}

fn upstreams(servers: Vec<Server>) -> Upstreams {
    Upstreams::new(servers, Foreign::AskIt, Vec::new())
}

fn resolver(servers: Vec<Server>) -> Resolver {
    resolver_with(servers, Arc::new(plain_socket), None)
}

fn resolver_with(
    servers: Vec<Server>,
    sockets: Arc<dyn SocketMaker>,
    tls: Option<&Tls>,
) -> Resolver {
    let trust = tls.map(|tls| Arc::clone(&tls.trust));
    let metrics = Arc::new(Metrics::default());
    Resolver::new(settings(), &upstreams(servers), sockets, trust, metrics, Handle::current())
}

async fn shown(resolver: &Resolver, name: &str, families: IpFamilies) -> String {
    match resolver.lookup(name, families, Origin::Cluster).await {
        Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

fn is(asked: &Asked, record_type: RecordType) -> bool {
    asked.message.queries[0].query_type() == record_type
}

#[tokio::test]
async fn every_address_of_either_family() {
    let upstream = Upstream::start(|asked| {
        let addresses = if is(asked, RecordType::A) {
            ["192.0.2.2", "192.0.2.1"]
        } else {
            ["2001:db8::2", "2001:db8::1"]
        };
        asked.addresses(60, &addresses)
    });
    let resolver = resolver(vec![upstream.plain()]);
    assert_eq!(shown(&resolver, "a.example", IpFamilies::V4).await, "192.0.2.2 192.0.2.1");
    assert_eq!(upstream.queries(), 1, "no search domain, no second family");
    assert_eq!(shown(&resolver, "a.example", IpFamilies::V4).await, "192.0.2.2 192.0.2.1");
    assert_eq!(upstream.queries(), 1);
    let both = shown(&resolver, "a.example", IpFamilies::Dual).await;
    assert_eq!(both, "192.0.2.2 192.0.2.1 2001:db8::2 2001:db8::1");
}

#[tokio::test]
async fn records_that_change_are_followed() {
    let count = Arc::new(AtomicUsize::new(1));
    let counter = Arc::clone(&count);
    let upstream = Upstream::start(move |asked| {
        asked.addresses(1, &[&format!("192.0.2.{}", counter.load(Ordering::Relaxed))])
    });
    let resolver = resolver(vec![upstream.plain()]);
    let mut watch = resolver.watch("a.example", IpFamilies::V4, Origin::Cluster).unwrap();
    for last in 1..4 {
        count.store(last, Ordering::Relaxed);
        let start = Instant::now();
        watch.changed().await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(1500));
        let expected = [format!("192.0.2.{last}").parse().unwrap()];
        assert_eq!(*watch.borrow_and_update(), Known::Addresses(Arc::from(expected)));
    }
}

#[tokio::test]
async fn aliases_truncation_and_absence() {
    let upstream = Upstream::start(|asked| {
        let alias = |from: &str, to: &str| {
            let target = rdata::CNAME(Name::from_ascii(to).unwrap());
            Record::from_rdata(Name::from_ascii(from).unwrap(), 60, RData::CNAME(target))
        };
        let mut reply = asked.reply(ResponseCode::NoError);
        match asked.name().as_str() {
            "alias.example." => {
                reply.add_answer(alias("alias.example.", "real.example."));
                reply.add_answer(a(Name::from_ascii("real.example.").unwrap(), 60, "192.0.2.7"));
            }
            "far.example." => {
                reply.add_answer(alias("far.example.", "alias.example."));
            }
            "loop.example." => {
                reply.add_answer(alias("loop.example.", "pool.example."));
            }
            "pool.example." => {
                reply.add_answer(alias("pool.example.", "loop.example."));
            }
            "large.example." if !asked.by_tcp => reply.metadata.truncation = true,
            "large.example." => return asked.addresses(60, &["192.0.2.8"]),
            "real.example." => return asked.addresses(60, &["192.0.2.7"]),
            "empty.example." => {}
            _ => return asked.nothing(),
        }
        vec![reply.to_vec().unwrap()]
    });
    let resolver = resolver(vec![upstream.plain()]);
    for (name, expected) in [
        ("alias.example", "192.0.2.7"),
        ("far.example", "192.0.2.7"),
        ("large.example", "192.0.2.8"),
        ("loop.example", "resolving loop.example: it has no IPv4 addresses"),
        ("empty.example", "resolving empty.example: it has no IPv4 addresses"),
        ("none.example", "resolving none.example: there is no such name"),
    ] {
        assert_eq!(shown(&resolver, name, IpFamilies::V4).await, expected);
    }
    assert!(upstream.queries() < 20, "{}", upstream.queries());
}

#[tokio::test]
async fn answers_to_other_questions_are_no_answers() {
    let upstream = Upstream::start(|asked| {
        let mut wrong_id = asked.addresses(60, &["192.0.2.66"]).remove(0);
        wrong_id[1] ^= 1;
        let mut wrong_name = asked.addresses(60, &["192.0.2.66"]).remove(0);
        wrong_name[13] = b'z';
        let good = asked.addresses(60, &["192.0.2.1"]).remove(0);
        vec![wrong_id, wrong_name, good]
    });
    let resolver = resolver(vec![upstream.plain()]);
    assert_eq!(shown(&resolver, "a.example", IpFamilies::V4).await, "192.0.2.1");
}

#[tokio::test]
async fn a_dead_server_and_then_a_live_one() {
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = resolver(vec![Server::plain(dead.local_addr().unwrap())]);
    let start = Instant::now();
    let error = shown(&resolver, "a.example", IpFamilies::V4).await;
    assert!(error.starts_with("resolving a.example: no DNS server answers: "), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let upstream = Upstream::start(|asked| asked.addresses(60, &["192.0.2.1"]));
    resolver.set_upstreams(&upstreams(vec![upstream.plain()]));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(shown(&resolver, "a.example", IpFamilies::V4).await, "192.0.2.1");
    resolver.set_upstreams(&upstreams(Vec::new()));
    assert_eq!(shown(&resolver, "a.example", IpFamilies::V4).await, "192.0.2.1");
    let error = shown(&resolver, "b.example", IpFamilies::V4).await;
    assert!(error.ends_with("there is no DNS server to ask"), "{error}");
}

#[tokio::test]
async fn sockets_are_of_the_agents_making() {
    let upstream = Upstream::start(|asked| {
        let mut reply = asked.reply(ResponseCode::NoError);
        reply.metadata.truncation = !asked.by_tcp;
        if asked.by_tcp {
            asked.addresses(60, &["192.0.2.1"])
        } else {
            vec![reply.to_vec().unwrap()]
        }
    });
    let kinds = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = Arc::clone(&kinds);
    let maker = move |kind, server| {
        counted[usize::from(kind == SocketKind::Tcp)].fetch_add(1, Ordering::Relaxed);
        plain_socket(kind, server)
    };
    let resolver = resolver_with(vec![upstream.plain()], Arc::new(maker), None);
    assert_eq!(shown(&resolver, "a.example", IpFamilies::V4).await, "192.0.2.1");
    assert!(kinds.iter().all(|count| count.load(Ordering::Relaxed) > 0));
    assert!(upstream.sources().iter().any(|from| from.port() != 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    let by_udp = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&by_udp);
    let upstream = Upstream::start(move |asked| {
        seen.fetch_or(!asked.by_tcp, Ordering::Relaxed);
        asked.addresses(60, &["192.0.2.1"])
    });
    // Made and dropped outside the runtime: it has one of its own.
    let address = upstream.address;
    let tls = std::thread::spawn(move || Tls::before(address)).join().unwrap();
    let maker = || Arc::new(plain_socket);
    let resolver = resolver_with(vec![tls.upstream("dns.example")], maker(), Some(&tls));
    assert_eq!(shown(&resolver, "a.example", IpFamilies::V4).await, "192.0.2.1");
    for (name, trusted) in [("other.example", Some(&tls)), ("dns.example", None)] {
        let resolver = resolver_with(vec![tls.upstream(name)], maker(), trusted);
        let error = shown(&resolver, "a.example", IpFamilies::V4).await;
        assert!(error.contains("no DNS server answers"), "{error}");
    }
    // What programs ask goes the same way.
    let servers = upstreams(vec![tls.upstream("dns.example")]);
    let trust = Arc::clone(&tls.trust);
    std::thread::spawn(move || {
        let server =
            Running::start_with(Table::default(), servers, |wiring| wiring.tls = Some(trust));
        for _ in 0..3 {
            let reply = ask_udp(server.address, &query("b.example.", RecordType::A, None));
            assert_eq!(answers(&reply), ["b.example. 60 IN A 192.0.2.1"]);
        }
    })
    .join()
    .unwrap();
    assert!(!by_udp.load(Ordering::Relaxed), "nothing in the clear");
    std::thread::spawn(move || drop(tls)).join().unwrap();
}
