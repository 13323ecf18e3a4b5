//! A flow whose endpoint is spoken TLS to.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream as ServerStream};

use super::{
    pki::{Like, Pki},
    server::{REQUEST, config, originate, originator, simple, soon, upstream},
    streams::connected,
};
use crate::{
    relay::{Carried, Ending, Limits, SealedEnds, relay_sealed},
    testing::{PATIENCE, pair, read_all, reset},
    tls::{Alert, TlsFailure},
};

const NO_LIMITS: Limits = Limits { idle: None, until: None };

struct Running {
    app: TcpStream,
    server: ServerStream<TcpStream>,
    relay: JoinHandle<(Ending, Carried)>,
}

async fn start(limits: Limits) -> Running {
    let (tls, server) = connected().await;
    let (ours, app) = pair().await;
    Running { app, server, relay: relaying(SealedEnds { app: ours, upstream: tls }, limits) }
}

fn relaying(
    mut ends: SealedEnds<crate::socket::Stream, crate::tls::TlsStream>,
    limits: Limits,
) -> JoinHandle<(Ending, Carried)> {
    tokio::spawn(async move {
        let mut carried = Carried::default();
        let ending = relay_sealed(&mut ends, limits, &mut carried).await;
        (ending, carried)
    })
}

async fn ended(relay: JoinHandle<(Ending, Carried)>) -> (Ending, Carried) {
    timeout(PATIENCE, relay).await.expect("the relay ends").unwrap()
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let Running { mut app, mut server, relay } = start(NO_LIMITS).await;
    app.write_all(b"question").await.unwrap();
    app.shutdown().await.unwrap();
    let mut question = Vec::new();
    server.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    server.write_all(b"an answer").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut app).await.unwrap(), b"an answer");
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::Complete), "{ending:?}");
    assert_eq!(carried, Carried { up: 8, down: 9 });
}

#[tokio::test]
async fn much_gets_through_both_ways_at_once() {
    const SIZE: usize = 8 << 20;
    let Running { app, server, relay } = start(NO_LIMITS).await;
    let sent: Arc<[u8]> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let (mut app_reads, mut app_writes) = app.into_split();
    let (mut server_reads, mut server_writes) = tokio::io::split(server);
    let up = Arc::clone(&sent);
    let down = Arc::clone(&sent);
    let writes = tokio::spawn(async move {
        app_writes.write_all(&up).await.unwrap();
        app_writes.shutdown().await.unwrap();
    });
    let answers = tokio::spawn(async move {
        server_writes.write_all(&down).await.unwrap();
        server_writes.shutdown().await.unwrap();
    });
    let at_server = tokio::spawn(async move {
        let mut received = Vec::new();
        server_reads.read_to_end(&mut received).await.unwrap();
        received
    });
    let mut received = Vec::new();
    app_reads.read_to_end(&mut received).await.unwrap();
    assert!(*received == *sent);
    assert!(*at_server.await.unwrap() == *sent);
    writes.await.unwrap();
    answers.await.unwrap();
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::Complete), "{ending:?}");
    assert_eq!(carried, Carried { up: SIZE as u64, down: SIZE as u64 });
}

#[tokio::test]
async fn an_end_without_goodbye_is_no_end() {
    let Running { mut app, mut server, relay } = start(NO_LIMITS).await;
    server.write_all(b"half of it").await.unwrap();
    server.flush().await.unwrap();
    let mut half = [0; 10];
    app.read_exact(&mut half).await.unwrap();
    let (mut socket, _) = server.into_inner();
    socket.shutdown().await.unwrap();
    assert_eq!(read_all(&mut app).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (Ending::UpstreamReset(error), _) = ended(relay).await else { panic!("a reset") };
    assert_eq!(TlsFailure::from_io(&error), TlsFailure::Closed);
}

#[tokio::test]
async fn a_server_that_does_not_answer_a_goodbye_has_ended() {
    let Running { mut app, mut server, relay } = start(NO_LIMITS).await;
    app.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    let (mut socket, _) = server.into_inner();
    socket.shutdown().await.unwrap();
    let (ending, _) = ended(relay).await;
    assert!(matches!(ending, Ending::Complete), "{ending:?}");
    // To an application that still listens it is no end.
    assert_eq!(read_all(&mut app).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn resets_go_through() {
    let Running { app, mut server, relay } = start(NO_LIMITS).await;
    reset(app);
    let error = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(matches!(ended(relay).await, (Ending::AppReset(_), _)));

    let Running { mut app, server, relay } = start(NO_LIMITS).await;
    let (socket, _) = server.into_inner();
    reset(socket);
    assert_eq!(read_all(&mut app).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (Ending::UpstreamReset(error), _) = ended(relay).await else { panic!("a reset") };
    assert_eq!(TlsFailure::from_io(&error), TlsFailure::Reset);
}

/// With TLS 1.3 the server's objection to a client comes after the handshake.
#[tokio::test]
async fn an_objection_after_the_handshake_is_the_reason() {
    let pki = Pki::new("ca");
    let server = config(&pki.issue(Like::names(&["a.example"])), Some(&pki.ca()));
    let (ours, theirs) = pair().await;
    let accepting =
        tokio::spawn(async move { TlsAcceptor::from(Arc::new(server)).accept(theirs).await });
    let originator = originator();
    let tls = originate(&simple(&pki.write("ca.pem", &pki.ca())));
    let stream = originator.connect(&upstream(&originator, &tls, REQUEST), ours, soon()).await;
    let (ours, mut app) = pair().await;
    app.write_all(&[0; 100_000]).await.unwrap();
    assert!(accepting.await.unwrap().is_err());
    let relay = relaying(SealedEnds { app: ours, upstream: stream.unwrap() }, NO_LIMITS);
    let (Ending::UpstreamReset(error), _) = ended(relay).await else { panic!("a reset") };
    // certificate_required
    assert_eq!(TlsFailure::from_io(&error), TlsFailure::Refused(Alert(116)));
}

#[tokio::test]
async fn limits_hold() {
    let idle = Limits { idle: Some(Duration::from_millis(50)), until: None };
    let Running { mut app, server, relay } = start(idle).await;
    assert!(matches!(ended(relay).await, (Ending::Idle, Carried { up: 0, down: 0 })));
    assert!(read_all(&mut app).await.is_err());
    drop(server);
    let until = Instant::now() + Duration::from_millis(50);
    let Running { relay, app, server } = start(Limits { idle: None, until: Some(until) }).await;
    assert!(matches!(ended(relay).await, (Ending::Expired, _)));
    drop((app, server));
}
