//! What programs that mean ill, or are merely in a hurry, do to the connection, and endpoints to us.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use egressd_tables::{Forward, RetryPolicy};
use http_body_util::BodyExt;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::support::*;
use crate::{
    http::{circuit::Limited, downstream::Standing},
    testing::{PATIENCE, dial, read_all, reset, until},
};

/// Takes connections and never reads from them; they stay open as long as the listener does.
async fn mute() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Breaks every connection off as soon as it stands; counts them.
async fn breaking() -> (SocketAddr, Arc<AtomicU32>) {
    let (listener, addr) = mute().await;
    let (count, counted) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            reset(socket);
        }
        drop(counted);
    });
    (addr, count)
}

async fn sends_and_leaves(bed: &Bed, bytes: &[u8]) {
    let mut app = dial(bed.front).await;
    // Whatever is taken is enough.
    timeout(Duration::from_secs(2), app.write_all(bytes)).await.ok();
    until("the request is at the upstream", || !bed.worker.pools.is_empty()).await;
    // An end would wait behind what is not taken.
    reset(app);
}

async fn nothing_is_left(bed: &Bed) {
    let said = bed.said().await;
    assert!(said.contains("DC"), "{said}");
    until("the upstream's connection is closed", || bed.worker.pools.is_empty()).await;
}

#[tokio::test]
async fn who_goes_while_the_upstream_is_silent_is_noticed() {
    let (_listener, addr) = mute().await;
    for request in [
        "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        // A byte more than the request, so that nobody reads up to the end.
        "GET /slow HTTP/1.1\r\nHost: a\r\n\r\nX".to_owned(),
        // A body that the upstream does not take.
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n{}",
            "x".repeat(40_000_000)
        ),
    ] {
        let bed = bed().host("a", plain("a"), &[addr]).start().await;
        sends_and_leaves(&bed, request.as_bytes()).await;
        nothing_is_left(&bed).await;
    }
}

#[tokio::test]
async fn a_switch_of_protocols_has_no_body() {
    let (_listener, addr) = mute().await;
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let answer = bed.raw(format!("{head}Content-Length: 10\r\n\r\nx").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(bed.said().await, "400 DPE upgrade_with_a_body");
}

#[tokio::test]
async fn an_endpoint_that_breaks_off_at_once_is_tried_as_often_as_the_route_says() {
    let (addr, count) = breaking().await;
    let retry = RetryPolicy {
        attempts: 2,
        retry_on: "reset".into(),
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let route = forwarding(Forward { retry: Some(retry), ..to(cluster("a")) });
    let bed = bed().host("a", route, &[addr]).start().await;
    let answer = timeout(PATIENCE, bed.get("a", "/")).await.expect("an answer");
    assert_eq!(answer.status, 503, "{answer:?}");
    let record = bed.record().await;
    assert!(record.flags().to_string().ends_with("URX"), "{record:?}");
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_connection_that_has_outlived_its_configuration_carries_one_more_request() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).standing(Standing::Outlived);
    let bed = bed.start().await;
    let mut app = dial(bed.front).await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    app.write_all(&request.repeat(2)).await.unwrap();
    let all = String::from_utf8(read_all(&mut app).await.unwrap()).unwrap();
    assert!(all.contains("connection: close\r\n"), "{all}");
    assert_eq!(all.matches("HTTP/1.1 200").count(), 1, "{all}");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn a_connection_that_would_be_refused_carries_none() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).standing(Standing::Refused);
    let bed = bed.start().await;
    let answer = bed.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let record = bed.record().await;
    assert_eq!(said(&record), "502 UH destination_refused");
    assert_eq!(record.cluster.as_deref(), Some("BlackHoleCluster"));
    assert_eq!(upstream.requests(), 0);
}

/// Says `answer` to whatever comes first on a connection.
async fn saying(answer: &'static [u8]) -> SocketAddr {
    use tokio::io::AsyncReadExt;
    let (listener, addr) = mute().await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut some = [0; 1024];
            assert_ne!(socket.read(&mut some).await.unwrap(), 0);
            socket.write_all(answer).await.ok();
            hold(socket);
        }
    });
    addr
}

/// Keeps a connection open until its peer goes.
fn hold(mut socket: TcpStream) {
    tokio::spawn(async move { read_all(&mut socket).await });
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    let switch = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let addr = saying(switch).await;
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(bed.said().await.starts_with("502 UPE "), "{}", bed.said().await);
    until("its connection is closed", || bed.worker.pools.is_empty()).await;
}

#[tokio::test]
async fn a_body_goes_with_any_method() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let request = "GET /_search HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = bed.raw(request.as_bytes()).await;
    assert!(answer.ends_with("[abc]"), "{answer}");
}

#[tokio::test]
async fn a_body_in_crumbs_is_not_kept_for_another_try() {
    let upstream = Upstream::http1(|request, n| async move {
        request.into_body().collect().await.unwrap();
        status(if n % 2 == 1 { 503 } else { 200 })
    })
    .await;
    let retry = RetryPolicy { retry_on: "5xx".into(), ..RetryPolicy::default() };
    for (crumbs, status) in [(100, 200), (1000, 503)] {
        let route = forwarding(Forward { retry: Some(retry.clone()), ..to(cluster("a")) });
        let bed = bed().host("a", route, &[upstream.addr]).start().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        let request = format!("{head}{}0\r\n\r\n", "1\r\na\r\n".repeat(crumbs));
        let answer = bed.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{crumbs}: {answer}");
    }
}

#[tokio::test]
async fn who_ends_with_something_unread_is_noticed() {
    let (_listener, addr) = mute().await;
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let mut app = dial(bed.front).await;
    app.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nX").await.unwrap();
    until("the request is at the upstream", || !bed.worker.pools.is_empty()).await;
    drop(app);
    nothing_is_left(&bed).await;
}

#[tokio::test]
async fn codings_and_lengths_that_can_be_read_in_two_ways() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    assert!(bed.raw(request.as_bytes()).await.starts_with("HTTP/1.1 501 "));
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
    ] {
        let addr = saying(answer).await;
        let bed = super::support::bed().host("a", plain("a"), &[addr]).start().await;
        assert_eq!(bed.get("a", "/").await.status, 502, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn connections_of_all_clusters_have_a_limit() {
    let (upstream, (_listener, silent)) = (Upstream::echo().await, mute().await);
    let bed = bed()
        .host("a", plain("a"), &[upstream.addr])
        .host("b", plain("b"), &[upstream.addr])
        .host("slow", plain("slow"), &[silent])
        .connections(2);
    let bed = bed.start().await;
    // What lies idle goes first, whosever it is.
    for host in ["a", "b", "a", "b"] {
        assert_eq!(bed.get(host, "/").await.status, 200);
    }
    let slow = bed.circuits.get(&"slow".into());
    let mut held = Vec::new();
    for number in 1..=2 {
        let mut app = dial(bed.front).await;
        app.write_all(b"GET / HTTP/1.1\r\nHost: slow\r\n\r\n").await.unwrap();
        until("it is at the upstream", || slow.count(Limited::Connections) == number).await;
        held.push(app);
    }
    let refused = bed.get("slow", "/").await;
    assert_eq!((refused.status, refused.header("x-envoy-overloaded")), (503, "true"));
    let full = "503 UO upstream_reset_before_response_started{overflow|max_http_connections}";
    assert_eq!(said(bed.all(5).await.last().unwrap()), full);
    assert_eq!(bed.get("a", "/").await.status, 503);
    drop(held);
    until("they are closed", || bed.worker.pools.is_empty()).await;
    assert_eq!(bed.get("a", "/").await.status, 200);
}
