//! Endpoints that are there, that are not, and ways to find them.

use super::*;

#[tokio::test]
async fn nobody_listens_at_the_endpoint() {
    let at = refusing().await;
    let proxy = start(Config::default(), to(&[at]));
    dials_to_be_reset(proxy.addr).await;
    let record = proxy.records.only().await;
    let refused =
        TransportFailure::Delayed(io::ErrorKind::ConnectionRefused, Errno(libc::ECONNREFUSED));
    assert_eq!(record.outcome, Outcome::ConnectFailed(refused));
    assert_eq!(record.upstream, Some(UpstreamAddr::Ip(at)));
    assert_eq!(proxy.server.stats().failed, 1);
}

#[tokio::test]
async fn the_next_endpoint_is_tried() {
    let dead = refusing().await;
    let (endpoint, alive) = endpoint().await;
    let proxy = start(Config::default(), to(&[dead, alive]));
    let mut app = dial(proxy.addr).await;
    let mut upstream = accepted(&endpoint).await;
    upstream.write_all(b"here").await.unwrap();
    drop(upstream);
    assert_eq!(read_all(&mut app).await.unwrap(), b"here");
    drop(app);
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!(record.upstream, Some(UpstreamAddr::Ip(alive)));
}

#[tokio::test]
async fn no_more_endpoints_are_tried_than_allowed() {
    let mut all = vec![refusing().await, refusing().await];
    let (endpoint, at) = endpoint().await;
    all.push(at);
    let config = Config { max_connect_attempts: 1, ..Config::default() };
    let proxy = start(config, to(&all));
    dials_to_be_reset(proxy.addr).await;
    assert_eq!(proxy.records.only().await.upstream, Some(UpstreamAddr::Ip(all[0])));
    drop(endpoint);
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer() {
    let (_listener, at, _full) = silent().await;
    let limit = Duration::from_millis(300);
    let spec = crate::cluster::ClusterSpec { connect_timeout: limit, ..cluster(&[at.into()]) };
    let proxy = start(Config::default(), OneCluster::new(spec));
    dials_to_be_reset(proxy.addr).await;
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::ConnectFailed(TransportFailure::Timeout));
    assert!(record.duration >= limit, "{:?}", record.duration);
}

#[tokio::test]
async fn an_application_that_does_not_wait_for_the_endpoint() {
    let (_listener, at, _full) = silent().await;
    let proxy = start(Config::default(), to(&[at]));
    let app = dial(proxy.addr).await;
    until("the flow has begun", || proxy.server.stats().opened == 1).await;
    reset(app);
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::AppGone);
    assert!(record.duration < PATIENCE / 2);
}

#[tokio::test]
async fn endpoints_that_break_off_and_close_at_once() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let mut app = dial(proxy.addr).await;
    reset(accepted(&endpoint).await);
    is_reset(&mut app).await;
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::UpstreamReset);
    assert_ne!(record.upstream_local.unwrap().0.port(), 0);
    let mut app = dial(proxy.addr).await;
    drop(accepted(&endpoint).await);
    assert_eq!(read_all(&mut app).await.unwrap(), b"");
    drop(app);
    until("the second record", || proxy.records.count() == 2).await;
    assert_eq!(proxy.records.all()[1].outcome, Outcome::Completed);
}

async fn through_unix(name: &str, listener: UnixListener) {
    let name = UpstreamAddr::Unix(UnixName::new(name));
    let proxy = start(Config::default(), OneCluster::new(cluster(std::slice::from_ref(&name))));
    let mut app = dial(proxy.addr).await;
    let (mut upstream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    app.write_all(b"ping").await.unwrap();
    app.shutdown().await.unwrap();
    let mut got = Vec::new();
    upstream.read_to_end(&mut got).await.unwrap();
    upstream.write_all(&got).await.unwrap();
    drop(upstream);
    assert_eq!(read_all(&mut app).await.unwrap(), b"ping");
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!(record.upstream, Some(name));
    assert_eq!(record.upstream_local, None);
}

#[tokio::test]
async fn a_unix_socket_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    through_unix(path.to_str().unwrap(), UnixListener::bind(&path).unwrap()).await;
}

#[tokio::test]
async fn a_unix_socket_in_the_abstract_namespace() {
    use std::os::{linux::net::SocketAddrExt, unix::net};
    let name = format!("egressd-proxy-test-{}", std::process::id());
    let addr = net::SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let listener = net::UnixListener::bind_addr(&addr).unwrap();
    listener.set_nonblocking(true).unwrap();
    through_unix(&format!("@{name}"), UnixListener::from_std(listener).unwrap()).await;
}

#[tokio::test]
async fn a_unix_socket_that_is_not_there() {
    let name = UpstreamAddr::Unix(UnixName::new("/nonexistent/socket"));
    let proxy = start(Config::default(), OneCluster::new(cluster(&[name])));
    dials_to_be_reset(proxy.addr).await;
    let missing = TransportFailure::Immediate(io::ErrorKind::NotFound, Errno(libc::ENOENT));
    assert_eq!(proxy.records.only().await.outcome, Outcome::ConnectFailed(missing));
}

#[tokio::test]
async fn a_way_that_leads_back_is_not_taken() {
    let router = |addr| to(&[]).towards(Target::Address(UpstreamAddr::Ip(addr)));
    // The listener's address is known only when the server is there, so another one's is used.
    let first = start(Config::default(), to(&[]));
    let proxy = start(Config::default(), router("127.64.0.1:15001".parse().unwrap()));
    dials_to_be_reset(proxy.addr).await;
    let looped = Outcome::ConnectFailed(TransportFailure::Loop);
    assert_eq!(proxy.records.only().await.outcome, looped);
    let guard = first.server.shared.factory.guard();
    assert!(guard.check(&UpstreamAddr::Ip(first.addr)).is_err());
}

#[tokio::test]
async fn names_are_resolved_and_may_fail() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), OneCluster::new(named_cluster("a.example", at.port())));
    dials_to_be_reset(proxy.addr).await;
    assert_eq!(proxy.records.only().await.outcome, Outcome::Unresolved);
    proxy.names.set("a.example", &["127.0.0.1"]);
    let app = dial(proxy.addr).await;
    drop(accepted(&endpoint).await);
    drop(app);
    until("the second record", || proxy.records.count() == 2).await;
    assert_eq!(proxy.records.all()[1].upstream, Some(UpstreamAddr::Ip(at)));
}

#[tokio::test]
async fn a_name_that_the_application_asks_for() {
    let (endpoint, at) = endpoint().await;
    let families = egressd_tables::IpFamilies::V4;
    let target = Target::Name { name: "b.example".into(), port: at.port(), families, asked: true };
    let proxy = start(Config::default(), to(&[]).towards(target));
    dials_to_be_reset(proxy.addr).await;
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::DnsFailure);
    assert_eq!(record.outcome.flags().to_string(), "DF");
    proxy.names.set("b.example", &["127.0.0.1"]);
    let app = dial(proxy.addr).await;
    drop(accepted(&endpoint).await);
    drop(app);
    until("the second record", || proxy.records.count() == 2).await;
    assert_eq!(proxy.records.all()[1].outcome, Outcome::Completed);
}

#[tokio::test]
async fn names_that_applications_ask_for_do_not_lead_to_what_is_local() {
    let families = egressd_tables::IpFamilies::V4;
    let towards = |name: &str, asked| {
        to(&[]).towards(Target::Name { name: name.into(), port: 80, families, asked })
    };
    for (name, asked) in [("b.example", true), ("b.example", false), ("169.254.169.254", true)] {
        let proxy = start(Config::default(), towards(name, asked));
        proxy.names.set("b.example", &["169.254.169.254"]);
        dials_to_be_reset(proxy.addr).await;
        let outcome = proxy.records.only().await.outcome;
        assert_eq!(outcome, Outcome::Refused("local_address_refused"), "{name}");
    }
    // What else the name has is good.
    let (endpoint, at) = endpoint().await;
    let target = Target::Name { name: "b.example".into(), port: at.port(), families, asked: true };
    let proxy = start(Config::default(), to(&[]).towards(target));
    proxy.names.set("b.example", &["169.254.169.254", "127.0.0.1"]);
    let app = dial(proxy.addr).await;
    drop(accepted(&endpoint).await);
    drop(app);
    assert_eq!(proxy.records.only().await.upstream, Some(UpstreamAddr::Ip(at)));
}

#[tokio::test]
async fn as_many_names_as_may_be() {
    let families = egressd_tables::IpFamilies::V4;
    let name = "overload.example".into();
    let target = Target::Name { name, port: 80, families, asked: true };
    let proxy = start(Config::default(), to(&[]).towards(target));
    dials_to_be_reset(proxy.addr).await;
    let outcome = proxy.records.only().await.outcome;
    assert_eq!(outcome.flags().to_string(), "UO");
    assert_eq!(outcome.termination(), Some("dns_cache_overflow"));
}

#[tokio::test]
async fn a_cluster_without_endpoints() {
    let proxy = start(Config::default(), to(&[]));
    dials_to_be_reset(proxy.addr).await;
    assert_eq!(proxy.records.only().await.outcome, Outcome::NoHealthyUpstream);
}

#[tokio::test]
async fn one_connection_too_many_for_the_cluster() {
    let (endpoint, at) = endpoint().await;
    let spec = crate::cluster::ClusterSpec { max_connections: 1, ..cluster(&[at.into()]) };
    let proxy = start(Config::default(), OneCluster::new(spec));
    let first = dial(proxy.addr).await;
    let upstream = accepted(&endpoint).await;
    dials_to_be_reset(proxy.addr).await;
    assert_eq!(proxy.records.only().await.outcome.flags().to_string(), "UO");
    drop((first, upstream));
    until("the first has ended", || proxy.server.stats().active == 0).await;
    let third = dial(proxy.addr).await;
    accepted(&endpoint).await;
    drop(third);
}
