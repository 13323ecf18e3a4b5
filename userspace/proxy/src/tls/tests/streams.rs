//! A connection that stands, used as the relay uses sockets.

use std::{future::poll_fn, io, sync::Arc};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, server};

use super::{
    pki::{Like, Pki},
    server::{REQUEST, config, originate, originator, simple, soon, upstream},
};
use crate::{
    testing::{pair, reset},
    tls::TlsStream,
};

/// A connection, and the server's end of it.
pub(super) async fn connected() -> (TlsStream, server::TlsStream<tokio::net::TcpStream>) {
    let pki = Pki::new("ca");
    let originator = originator();
    let server = config(&pki.issue(Like::names(&["a.example"])), None);
    let (ours, theirs) = pair().await;
    let accepting =
        tokio::spawn(async move { TlsAcceptor::from(Arc::new(server)).accept(theirs).await });
    let tls = originate(&simple(&pki.write("ca.pem", &pki.ca())));
    let stream = originator.connect(&upstream(&originator, &tls, REQUEST), ours, soon()).await;
    (stream.unwrap(), accepting.await.unwrap().unwrap())
}

async fn send_all(stream: &mut TlsStream, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += poll_fn(|cx| stream.poll_send(cx, &bytes[sent..])).await?;
    }
    poll_fn(|cx| stream.poll_flush(cx)).await
}

#[tokio::test]
async fn much_gets_through_slow_readers() {
    let (mut stream, mut server) = connected().await;
    let bytes: Vec<u8> = (0..4 << 20).map(|at: u32| (at ^ (at >> 8)) as u8).collect();
    let copy = bytes.clone();
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        let mut buffer = vec![0; 100_000];
        loop {
            tokio::task::yield_now().await;
            let read = server.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            received.extend_from_slice(&buffer[..read]);
        }
        assert!(received == copy);
        // The client said that it sends no more; it still listens.
        server.write_all(&received).await.unwrap();
        server.shutdown().await.unwrap();
    });
    send_all(&mut stream, &bytes).await.unwrap();
    poll_fn(|cx| stream.poll_shutdown_write(cx)).await.unwrap();
    let mut received = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = poll_fn(|cx| stream.poll_recv(cx, &mut buffer)).await.unwrap();
        if read == 0 {
            break;
        }
        received.extend_from_slice(&buffer[..read]);
    }
    assert!(received == bytes);
    reading.await.unwrap();
    stream.close();
}

#[tokio::test]
async fn a_reset_is_seen_without_reading() {
    let (mut stream, server) = connected().await;
    let (socket, _) = server.into_inner();
    reset(socket);
    let error = poll_fn(|cx| stream.poll_reset(cx)).await;
    assert_eq!(TlsStream::failure(&error), crate::tls::TlsFailure::Reset);
}

#[tokio::test]
async fn a_dropped_connection_is_reset_and_a_closed_one_is_not() {
    let (mut stream, mut server) = connected().await;
    poll_fn(|cx| stream.poll_shutdown_write(cx)).await.unwrap();
    stream.close();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);

    let (stream, mut server) = connected().await;
    drop(stream);
    let error = server.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
