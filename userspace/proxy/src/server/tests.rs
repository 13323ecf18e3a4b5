//! The whole way of a connection, with real sockets: an application, the server on its own threads,
//! and endpoints.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener as Listener, TcpSocket, TcpStream, UnixListener},
    time::timeout,
};

use super::*;
use crate::{
    addrs::{UnixName, UpstreamAddr},
    plan::Target,
    record::{Errno, Outcome, TransportFailure},
    sniff::Wanted,
    socket::LoopGuard,
    testing::*,
};

mod endpoints;
mod ends;

/// A server with one listener, and what it was made of.
struct Running {
    server: Arc<Server>,
    addr: SocketAddr,
    records: Arc<Kept>,
    names: Arc<Names>,
}

const DIALLED: &str = "240.0.0.1:443";

fn start(config: Config, router: OneCluster) -> Running {
    start_with(config, router, Arc::new(dialled(DIALLED)))
}

fn start_with(config: Config, router: OneCluster, originals: Arc<dyn Originals>) -> Running {
    let (records, names) = (Arc::<Kept>::default(), Arc::<Names>::default());
    let parts = Parts {
        snapshot: Arc::new(Snapshot::of(router)),
        factory: Arc::new(SocketFactory::new(None, LoopGuard::default())),
        resolver: Arc::clone(&names) as Arc<dyn Resolver>,
        originals,
        records: Arc::clone(&records) as Arc<dyn Records>,
        sources: Sources::default(),
    };
    let server = Server::new(Config { workers: 1, ..config }, parts).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    server.serve(listener).unwrap();
    Running { server: Arc::new(server), addr, records, names }
}

fn to(endpoints: &[SocketAddr]) -> OneCluster {
    let endpoints: Vec<_> = endpoints.iter().copied().map(UpstreamAddr::Ip).collect();
    OneCluster::new(cluster(&endpoints))
}

async fn endpoint() -> (Listener, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    // The usual queue of 128 overflows in a storm, and the kernel then resets some connections.
    let listener = socket.listen(BACKLOG as u32).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn accepted(listener: &Listener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("a connection comes").unwrap().0
}

/// An application whose connection is reset, perhaps before it knows that it stands.
async fn dials_to_be_reset(addr: SocketAddr) {
    let error = match try_dial(addr).await {
        Ok(mut app) => read_all(&mut app).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

async fn is_reset(app: &mut TcpStream) {
    let error = read_all(app).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_question_and_an_answer() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let mut app = dial(proxy.addr).await;
    app.write_all(b"question").await.unwrap();
    let mut upstream = accepted(&endpoint).await;
    let mut question = [0; 8];
    upstream.read_exact(&mut question).await.unwrap();
    upstream.write_all(b"an answer").await.unwrap();
    let (client, local) = (app.local_addr().unwrap(), upstream.peer_addr().unwrap());
    drop(upstream);
    assert_eq!(read_all(&mut app).await.unwrap(), b"an answer");
    drop(app);
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!((record.bytes_received, record.bytes_sent), (8, 9));
    assert_eq!(record.destination().to_string(), DIALLED);
    assert_eq!(record.client.unwrap().0, client);
    assert_eq!(record.upstream, Some(UpstreamAddr::Ip(at)));
    assert_eq!(record.upstream_local.unwrap().0, local);
    assert_eq!(record.cluster.as_deref(), Some("outbound|80||test.example"));
    let stats = proxy.server.stats();
    let expected = Stats {
        opened: 1,
        closed: 1,
        bytes_received: 8,
        bytes_sent: 9,
        active: stats.active,
        ..Stats::default()
    };
    assert_eq!(stats, expected);
    until("the flow's place is free", || proxy.server.stats().active == 0).await;
}

#[tokio::test]
async fn the_server_speaks_first() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let mut app = dial(proxy.addr).await;
    let mut upstream = accepted(&endpoint).await;
    upstream.write_all(b"220 ready\r\n").await.unwrap();
    let mut greeting = [0; 11];
    timeout(PATIENCE, app.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
}

#[tokio::test]
async fn not_a_single_byte() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    drop(dial(proxy.addr).await);
    let mut upstream = accepted(&endpoint).await;
    assert_eq!(read_all(&mut upstream).await.unwrap(), b"");
    drop(upstream);
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::Completed);
    assert_eq!((record.bytes_received, record.bytes_sent), (0, 0));
}

#[tokio::test]
async fn one_flow_too_many_for_the_proxy() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config { max_flows: 1, ..Config::default() }, to(&[at]));
    let _first = dial(proxy.addr).await;
    let _upstream = accepted(&endpoint).await;
    dials_to_be_reset(proxy.addr).await;
    let record = proxy.records.only().await;
    assert_eq!(record.outcome, Outcome::FlowLimit);
    assert_eq!(record.destination().to_string(), DIALLED);
    assert_eq!(proxy.server.stats().over_limit, 1);
}

#[tokio::test]
async fn a_connection_that_nobody_handed_over() {
    let proxy =
        start_with(Config::default(), to(&[]), Arc::new(|_: std::os::fd::BorrowedFd<'_>| Ok(None)));
    dials_to_be_reset(proxy.addr).await;
    until("it is counted", || proxy.server.stats().no_original == 1).await;
    assert_eq!(proxy.server.stats().opened, 0);
    assert_eq!(proxy.records.count(), 0);
}

#[tokio::test]
async fn bytes_that_were_looked_at_arrive() {
    let (endpoint, at) = endpoint().await;
    let wanted = Wanted { tls: false, http: true, timeout: PATIENCE };
    let proxy = start(Config::default(), to(&[at]).sniffing(wanted));
    let mut app = dial(proxy.addr).await;
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    app.write_all(request).await.unwrap();
    let mut upstream = accepted(&endpoint).await;
    let mut got = vec![0; request.len()];
    upstream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, request);
    let mut raw = dial(proxy.addr).await;
    raw.write_all(b"hello").await.unwrap();
    is_reset(&mut raw).await;
    assert_eq!(proxy.records.only().await.outcome.flags().to_string(), "NR");
}

#[tokio::test]
async fn many_connections_at_once() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let echo = tokio::spawn(async move {
        loop {
            let (mut stream, _) = endpoint.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    let apps = (0..500_u32).map(|number| {
        let addr = proxy.addr;
        tokio::spawn(async move {
            let mut app = dial(addr).await;
            app.write_all(&number.to_be_bytes()).await?;
            app.shutdown().await?;
            let answer = read_all(&mut app).await?;
            assert_eq!(answer, number.to_be_bytes());
            io::Result::Ok(())
        })
    });
    let mut failed = 0;
    for app in apps.collect::<Vec<_>>() {
        failed += u32::from(app.await.unwrap().is_err());
    }
    until("every flow has ended", || proxy.server.stats().active == 0).await;
    let records = proxy.records.all();
    let odd: Vec<_> = records.iter().filter(|one| one.outcome != Outcome::Completed).collect();
    assert!(failed == 0 && odd.is_empty(), "{failed} of {}: {odd:?}", records.len());
    assert_eq!(records.len(), 500);
    echo.abort();
}

/// Tables without a single resource: every destination is reached as it was dialled.
fn empty_tables() -> Arc<egressd_tables::Tables> {
    use egressd_tables::{Node, Options, Tables, VipAllocation};
    let (node, options, vips) = (Node::default(), Options::default(), VipAllocation::default());
    let tables = Tables::compile(&Default::default(), &Default::default(), &node, &options, &vips);
    Arc::new(tables)
}

#[tokio::test]
async fn the_tables_decide() {
    let (endpoint, at) = endpoint().await;
    let snapshot = Arc::new(Snapshot::new(empty_tables()));
    let records = Arc::<Kept>::default();
    let parts = Parts {
        snapshot: Arc::clone(&snapshot),
        factory: Arc::new(SocketFactory::new(None, LoopGuard::default())),
        resolver: Arc::<Names>::default(),
        originals: Arc::new(dialled(&at.to_string())),
        records: Arc::clone(&records) as Arc<dyn Records>,
        sources: Sources::default(),
    };
    let server = Server::new(Config { workers: 1, ..Config::default() }, parts).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    server.serve(listener).unwrap();
    for count in 1..3 {
        let mut app = dial(addr).await;
        drop(accepted(&endpoint).await);
        assert_eq!(read_all(&mut app).await.unwrap(), b"");
        drop(app);
        until("there is a record", || records.count() == count).await;
        snapshot.publish(empty_tables());
    }
    for record in records.all() {
        assert_eq!(record.outcome, Outcome::Completed);
        assert_eq!(record.cluster.as_deref(), Some("PassthroughCluster"));
        assert_eq!(record.upstream, Some(UpstreamAddr::Ip(at)));
    }
}

#[test]
fn a_flow_is_small() {
    let parts = Parts {
        snapshot: Arc::new(Snapshot::of(to(&[]))),
        factory: Arc::new(SocketFactory::new(None, LoopGuard::default())),
        resolver: Arc::<Names>::default(),
        originals: Arc::new(dialled(DIALLED)),
        records: Arc::<Kept>::default(),
        sources: Sources::default(),
    };
    let server = Server::new(Config { workers: 1, ..Config::default() }, parts).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _app = std::net::TcpStream::from(
        socket2::Socket::new(Domain::IPV4, socket2::Type::STREAM, None)
            .and_then(|app| app.connect(&listener.local_addr()?.into()).map(|()| app))
            .unwrap(),
    );
    let accepted = crate::socket::accept(&listener).unwrap();
    let worker = Arc::clone(&server.workers[0].worker);
    let slot = worker.slot();
    let size = size_of_val(&crate::flow::run(worker, accepted, slot));
    assert!(size <= 1536, "{size} bytes");
}

#[test]
fn those_who_dial_us_leave_room_for_what_is_captured() {
    let parts = Parts {
        snapshot: Arc::new(Snapshot::of(to(&[]))),
        factory: Arc::new(SocketFactory::new(None, LoopGuard::default())),
        resolver: Arc::<Names>::default(),
        originals: Arc::new(dialled(DIALLED)),
        records: Arc::<Kept>::default(),
        sources: Sources::default(),
    };
    let server = Server::new(Config { workers: 1, max_flows: 8, ..Config::default() }, parts);
    let server = server.unwrap();
    let worker = &server.workers[0].worker;
    let mut visits: Vec<_> = (0..2).map(|_| worker.visitors_slot().unwrap()).collect();
    assert!(worker.visitors_slot().is_err());
    let captured: Vec<_> = (0..6).map(|_| worker.slot().unwrap()).collect();
    assert!(worker.slot().is_err());
    visits.pop();
    assert!(worker.visitors_slot().is_ok());
    drop((visits, captured));
    assert_eq!(server.stats().active, 0);
}
