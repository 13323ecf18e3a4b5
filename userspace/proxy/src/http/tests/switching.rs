//! WebSocket, and other protocols that a connection may be asked to switch to.

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;
use crate::testing::{dial, until};

/// A server that agrees to anything and then answers each piece in capital letters.
async fn shouting() -> Upstream {
    Upstream::http1(|mut request, _| async move {
        if !request.headers().contains_key("upgrade") {
            return seen(request).await;
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            io.write_all(b"hello ").await.unwrap();
            let mut some = [0; 1024];
            while let Ok(read @ 1..) = io.read(&mut some).await {
                io.write_all(&some[..read].to_ascii_uppercase()).await.unwrap();
            }
        });
        let mut response = text("");
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "Upgrade".parse().unwrap());
        headers.insert("upgrade", "websocket".parse().unwrap());
        headers.insert("sec-websocket-accept", "yes".parse().unwrap());
        response
    })
    .await
}

#[tokio::test]
async fn websocket() {
    let upstream = shouting().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut stream = dial(bed.front).await;
    let head = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: x\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"hello ") {
        seen.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8_lossy(&seen).into_owned();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("sec-websocket-accept: yes\r\n"), "{answer}");
    // What looks like a head now is none.
    stream.write_all(b"a\nb\n").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"A\nB\n");
    assert_eq!(bed.records.count(), 0);
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut back).await.unwrap(), 0);
    let record = bed.record().await;
    assert_eq!(said(&record), "101 - via_upstream");
    assert_eq!((record.bytes_received, record.bytes_sent), (4, 10));
    until("nothing is held", || bed.worker.pools.is_empty()).await;
}

#[tokio::test]
async fn http2_over_http1_is_as_if_not_asked_for() {
    let upstream = shouting().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let answer = bed
        .raw(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
              Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("upgrade:") && !answer.contains("http2-settings:"), "{answer}");
}

#[tokio::test]
async fn other_protocols_are_refused() {
    let upstream = shouting().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: foo\r\n\r\n";
    assert!(bed.raw(head).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(bed.said().await, "403 - upgrade_failed");
}

#[tokio::test]
async fn a_server_that_does_not_switch() {
    let upstream = Upstream::statuses(&[426]).await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let head =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n";
    assert!(bed.raw(head).await.starts_with("HTTP/1.1 426 "));
    assert_eq!(bed.said().await, "426 - via_upstream");
}
