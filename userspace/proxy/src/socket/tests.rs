//! What the factory's sockets carry, and how its failures read.

use std::{
    error::Error,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    task::Poll,
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpListener;

use super::*;
use crate::{
    addrs::{UnixName, UpstreamAddr},
    testing::{PATIENCE, pair, refusing, silent},
};

const OPTIONS: ConnectOptions = ConnectOptions { timeout: PATIENCE, keepalive: None, source: None };

async fn connect(to: &UpstreamAddr, options: &ConnectOptions) -> Result<Stream, ConnectError> {
    SocketFactory::new(None, LoopGuard::default()).connect(to, options).await
}

async fn listener(addr: &str) -> (TcpListener, UpstreamAddr) {
    let listener = TcpListener::bind(addr).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr.into())
}

#[tokio::test]
async fn both_families_without_delay() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let (listener, to) = listener(addr).await;
        let stream = connect(&to, &OPTIONS).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(stream.local_addr().unwrap().0, peer);
        assert!(SockRef::from(&stream).tcp_nodelay().unwrap());
        assert!(!SockRef::from(&stream).keepalive().unwrap());
    }
}

#[tokio::test]
async fn probes_as_asked_for() {
    let (_listener, to) = listener("127.0.0.1:0").await;
    let keepalive = Some(Keepalive {
        time: Some(Duration::from_secs(600)),
        interval: Some(Duration::from_secs(60)),
        probes: Some(3),
    });
    let stream = connect(&to, &ConnectOptions { keepalive, ..OPTIONS }).await.unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(600));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(60));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
}

#[tokio::test]
async fn the_applications_source_is_kept_where_it_is_ours() {
    for (source, kept) in [("127.0.0.9", true), ("192.0.2.1", false), ("2001:db8::1", false)] {
        let (listener, to) = listener("127.0.0.1:0").await;
        let source: IpAddr = source.parse().unwrap();
        let options = ConnectOptions { source: Some(source), ..OPTIONS };
        let _stream = connect(&to, &options).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.ip() == source, kept, "{source}");
    }
}

#[tokio::test]
async fn a_mark_is_set_or_done_without() {
    let factory = SocketFactory::new(Some(Mark(0x1234)), LoopGuard::default());
    let (_listener, to) = listener("127.0.0.1:0").await;
    let stream = factory.connect(&to, &OPTIONS).await.unwrap();
    let marked = SockRef::from(&stream).mark().unwrap();
    // Who may not set marks is told so once and goes on.
    let plain = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let permitted = plain.set_mark(1).is_ok();
    assert_eq!(marked, if permitted { 0x1234 } else { 0 });
}

#[tokio::test]
async fn failures_say_what_was_tried() {
    let refused = refusing().await;
    let error = connect(&refused.into(), &OPTIONS).await.unwrap_err();
    assert_eq!(error.to_string(), format!("connecting to {refused}"));
    assert!(error.source().unwrap().to_string().starts_with("Connection refused"));

    let (_listener, slow, _full) = silent().await;
    let options = ConnectOptions { timeout: Duration::from_millis(100), ..OPTIONS };
    let error = connect(&slow.into(), &options).await.unwrap_err();
    assert_eq!(error.to_string(), format!("connecting to {slow}: no answer within 100ms"));

    let looped = UpstreamAddr::Ip("127.64.0.1:80".parse().unwrap());
    let error = connect(&looped, &OPTIONS).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "connecting to 127.64.0.1:80 is refused: 127.64.0.1 is in the range of our own listeners"
    );
    assert_eq!(error.to(), &looped);

    let long = UpstreamAddr::Unix(UnixName::new(&"x".repeat(200)));
    let error = connect(&long, &OPTIONS).await.unwrap_err();
    assert!(matches!(error, ConnectError::Immediate { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_unix_server_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    server.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    server.listen(0).unwrap();
    let to = UpstreamAddr::Unix(UnixName::new(path.to_str().unwrap()));
    // The queue takes one more than it is long.
    let first = connect(&to, &OPTIONS).await.unwrap();
    let short = ConnectOptions { timeout: Duration::from_millis(50), ..OPTIONS };
    let error = connect(&to, &short).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    let second = tokio::spawn(async move { connect(&to, &OPTIONS).await.map(drop) });
    server.accept().unwrap();
    second.await.unwrap().unwrap();
    drop(first);
}

#[tokio::test]
async fn a_reset_after_the_handshake_shows_behind_the_bytes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.connect(&addr.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut peer, b"sorry").unwrap();
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    // As when connect() has told of the reset, and the kernel says no more.
    let error = rustix::net::sockopt::socket_error(socket.as_fd()).unwrap().unwrap_err();
    let mut stream = Stream::after_reset(OwnedFd::from(socket), error);
    let mut bytes = [0; 16];
    let read = poll_fn(|cx| stream.poll_recv(cx, &mut bytes)).await.unwrap();
    assert_eq!(&bytes[..read], b"sorry");
    let error = poll_fn(|cx| stream.poll_recv(cx, &mut bytes)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn who_sends_without_end_leaves_a_turn_to_others() {
    let (mut ours, app) = pair().await;
    let mut app = app.into_std().unwrap();
    app.set_nonblocking(false).unwrap();
    let flooding = std::thread::spawn(move || {
        let piece = [0; 64 * 1024];
        while std::io::Write::write_all(&mut app, &piece).is_ok() {}
    });
    // As hyper reads frames that ask for nothing: small pieces, until there are no more.
    let mut small = [0; 9];
    for _ in 0..10 {
        let mut reads = 0;
        poll_fn(|cx| {
            while let Poll::Ready(read) = ours.poll_recv(cx, &mut small) {
                read.unwrap();
                reads += 1;
                assert!(reads < 10_000, "a turn without end");
            }
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
    }
    drop(ours);
    flooding.join().unwrap();
}
