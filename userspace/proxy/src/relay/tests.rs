//! The relay between real sockets over loopback.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::*;
use crate::testing::{PATIENCE, pair, read_all, reset};

/// A relay that runs, with the application's and the server's ends in our hands.
struct Running {
    app: TcpStream,
    server: TcpStream,
    relay: JoinHandle<(Ending, Carried)>,
    pipes: Arc<PipePool>,
}

const NO_LIMITS: Limits = Limits { idle: None, until: None };

async fn start(limits: Limits, pipes: usize) -> Running {
    let (app_end, app) = pair().await;
    let (upstream_end, server) = pair().await;
    let mut ends = Ends { app: app_end, upstream: upstream_end };
    let pool = Arc::new(PipePool::new(pipes));
    let pipes = Arc::clone(&pool);
    let relay = tokio::spawn(async move {
        let mut carried = Carried::default();
        let ending = relay(&mut ends, limits, &pipes, &mut carried).await;
        (ending, carried)
    });
    Running { app, server, relay, pipes: pool }
}

async fn ended(relay: JoinHandle<(Ending, Carried)>) -> (Ending, Carried) {
    timeout(PATIENCE, relay).await.expect("the relay ends").unwrap()
}

/// Bytes that show where one is missing or moved.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn the_application_ends_first_and_still_gets_the_answer() {
    let Running { mut app, mut server, relay, .. } = start(NO_LIMITS, 0).await;
    app.write_all(b"question").await.unwrap();
    app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_eq!(read_all(&mut app).await.unwrap(), b"answer");
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::Complete), "{ending:?}");
    assert_eq!(carried, Carried { up: 8, down: 6 });
}

#[tokio::test]
async fn the_server_ends_first_and_still_gets_the_rest() {
    let Running { mut app, mut server, relay, .. } = start(NO_LIMITS, 0).await;
    server.write_all(b"hello").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut app).await.unwrap(), b"hello");
    app.write_all(b"and goodbye").await.unwrap();
    drop(app);
    assert_eq!(read_all(&mut server).await.unwrap(), b"and goodbye");
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::Complete), "{ending:?}");
    assert_eq!(carried, Carried { up: 11, down: 5 });
}

#[tokio::test]
async fn a_flow_without_a_byte() {
    let Running { app, mut server, relay, .. } = start(NO_LIMITS, 0).await;
    drop(app);
    assert_eq!(read_all(&mut server).await.unwrap(), b"");
    drop(server);
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::Complete), "{ending:?}");
    assert_eq!(carried, Carried::default());
}

#[tokio::test]
async fn the_application_resets() {
    let Running { app, mut server, relay, .. } = start(NO_LIMITS, 0).await;
    reset(app);
    assert_eq!(read_all(&mut server).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (ending, _) = ended(relay).await;
    assert!(matches!(ending, Ending::AppReset(_)), "{ending:?}");
}

#[tokio::test]
async fn the_server_resets() {
    let Running { mut app, server, relay, .. } = start(NO_LIMITS, 0).await;
    reset(server);
    assert_eq!(read_all(&mut app).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (ending, _) = ended(relay).await;
    assert!(matches!(ending, Ending::UpstreamReset(_)), "{ending:?}");
}

#[tokio::test]
async fn a_side_that_has_ended_can_still_reset() {
    let Running { mut app, mut server, relay, .. } = start(NO_LIMITS, 0).await;
    app.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"");
    reset(app);
    let error = server.read(&mut [0]).await;
    // The server has read the end already, so the reset shows when it writes.
    assert!(matches!(error, Ok(0) | Err(_)));
    let (ending, _) = ended(relay).await;
    assert!(matches!(ending, Ending::AppReset(_)), "{ending:?}");
    assert!(server.write_all(b"anybody there?").await.is_err());
}

#[tokio::test]
async fn an_application_that_resets_while_the_server_is_slow() {
    let Running { app, server, relay, .. } = start(NO_LIMITS, 0).await;
    // Fill everything up to the server, which reads nothing.
    while timeout(Duration::from_millis(100), app.writable()).await.is_ok() {
        drop(app.try_write(&[7; 65536]));
    }
    reset(app);
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::AppReset(_)), "{ending:?}");
    assert!(carried.up > 0);
    drop(server);
}

#[tokio::test]
async fn what_the_server_said_before_it_reset_arrives() {
    let Running { mut app, mut server, relay, .. } = start(NO_LIMITS, 0).await;
    server.write_all(b"too large").await.unwrap();
    let mut said = [0; 9];
    app.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"too large");
    reset(server);
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::UpstreamReset(_)), "{ending:?}");
    assert_eq!(carried.down, 9);
}

#[tokio::test]
async fn a_slow_reader_holds_the_sender_back() {
    let Running { mut app, mut server, relay, .. } = start(NO_LIMITS, 0).await;
    let sent = pattern(32 << 20);
    let sender = tokio::spawn({
        let sent = sent.clone();
        async move {
            server.write_all(&sent).await.unwrap();
            server.shutdown().await.unwrap();
            read_all(&mut server).await.unwrap()
        }
    });
    let mut got = Vec::with_capacity(sent.len());
    let mut chunk = vec![0; 4096];
    for _ in 0..64 {
        let read = app.read(&mut chunk).await.unwrap();
        got.extend_from_slice(&chunk[..read]);
        tokio::task::yield_now().await;
    }
    assert!(!sender.is_finished(), "32 MiB do not fit into buffers");
    app.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    app.write_all(b"thanks").await.unwrap();
    drop(app);
    assert_eq!(sender.await.unwrap(), b"thanks");
    assert_eq!(ended(relay).await.1, Carried { up: 6, down: 32 << 20 });
}

async fn both_ways(pipes: usize, size: usize) {
    let Running { app, server, relay, pipes: pool } = start(NO_LIMITS, pipes).await;
    let sent = Arc::new(pattern(size));
    let side = |stream: TcpStream, sent: Arc<Vec<u8>>| async move {
        let (mut read, mut write) = stream.into_split();
        let writer = tokio::spawn({
            let sent = Arc::clone(&sent);
            async move {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            }
        });
        let mut got = Vec::with_capacity(size);
        read.read_to_end(&mut got).await.unwrap();
        writer.await.unwrap();
        assert!(got == *sent);
    };
    tokio::join!(side(app, Arc::clone(&sent)), side(server, sent));
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::Complete), "{ending:?}");
    assert_eq!(carried, Carried { up: size as u64, down: size as u64 });
    assert_eq!(pool.opened(), pipes, "bulk goes through the pipes there are");
}

#[tokio::test]
async fn bulk_by_splice_is_exact() {
    both_ways(2, 64 << 20).await;
}

#[tokio::test]
async fn bulk_with_one_pipe_for_two_directions_is_exact() {
    both_ways(1, 16 << 20).await;
}

#[tokio::test]
async fn bulk_without_pipes_is_exact() {
    both_ways(0, 16 << 20).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_flow_ends() {
    let limits = Limits { idle: Some(Duration::from_secs(3600)), until: None };
    let started = Instant::now();
    let Running { mut app, server, relay, .. } = start(limits, 0).await;
    let (ending, _) = relay.await.unwrap();
    assert!(matches!(ending, Ending::Idle), "{ending:?}");
    assert_eq!(started.elapsed().as_secs(), 3600);
    assert_eq!(read_all(&mut app).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    drop(server);
}

#[tokio::test]
async fn a_busy_flow_ends_when_its_time_is_up() {
    let limits =
        Limits { idle: Some(PATIENCE), until: Some(Instant::now() + Duration::from_millis(300)) };
    let Running { mut app, mut server, relay, .. } = start(limits, 0).await;
    let echo = tokio::spawn(async move {
        let mut byte = [0];
        while server.read_exact(&mut byte).await.is_ok() {
            if server.write_all(&byte).await.is_err() {
                break;
            }
        }
    });
    let mut byte = [1];
    while app.write_all(&byte).await.is_ok() && app.read_exact(&mut byte).await.is_ok() {}
    let (ending, carried) = ended(relay).await;
    assert!(matches!(ending, Ending::Expired), "{ending:?}");
    assert!(carried.up > 0 && carried.down > 0);
    echo.await.unwrap();
}
