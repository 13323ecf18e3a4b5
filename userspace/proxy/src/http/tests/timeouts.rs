//! Limits on exchanges: the route's, a try's, the application's.

use std::time::{Duration, Instant};

use egressd_tables::{Forward, RetryPolicy};

use super::support::*;
use crate::{http::settings::HttpSettings, testing::silent};

async fn sleepy() -> Upstream {
    Upstream::http1(|_, _| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        text("")
    })
    .await
}

fn limited(timeout: u64, each: u64, retry_on: &str, attempts: u32) -> Forward {
    let millis = |millis| (millis > 0).then(|| Duration::from_millis(millis));
    let retry = RetryPolicy {
        attempts,
        retry_on: retry_on.into(),
        per_try_timeout: millis(each),
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    Forward { timeout: millis(timeout), retry: Some(retry), ..to(cluster("a")) }
}

#[tokio::test]
async fn a_route_has_a_limit() {
    let upstream = sleepy().await;
    let mut route = forwarding(limited(200, 0, "5xx", 2));
    route.name = "".into();
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let start = Instant::now();
    let answer = bed.get("a", "/").await;
    assert!((200..2000).contains(&start.elapsed().as_millis()));
    assert_eq!((answer.status, &*answer.body), (504, "upstream request timeout"));
    assert_eq!(answer.header("content-type"), "text/plain");
    let record = bed.record().await;
    assert_eq!(said(&record), "504 UT response_timeout");
    assert_eq!((record.bytes_sent, record.route_name), (24, None));
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn a_try_has_a_limit() {
    let upstream = sleepy().await;
    let default = RetryPolicy::default().retry_on;
    let route = forwarding(limited(10_000, 100, &default, 3));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!((answer.status, &*answer.body), (504, "upstream request timeout"));
    assert_eq!(bed.said().await, "504 UT upstream_per_try_timeout");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn a_try_that_takes_too_long_may_be_tried_again() {
    let upstream = Upstream::http1(|_, number| async move {
        if number < 3 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        text("at last")
    })
    .await;
    let route = forwarding(limited(0, 80, "5xx", 3));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/").await.body, "at last");
    assert_eq!(upstream.requests(), 3);
    let route = forwarding(limited(0, 50, "5xx", 1));
    let upstream = sleepy().await;
    let bed = super::support::bed().host("a", route, &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/").await.status, 504);
    assert_eq!(bed.said().await, "504 UT,URX upstream_per_try_timeout");
}

#[tokio::test]
async fn the_application_sets_limits() {
    let upstream = sleepy().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut request = request("GET", "a", "/");
    request.headers_mut().insert("x-envoy-upstream-rq-timeout-ms", "60".parse().unwrap());
    assert_eq!(bed.send(request).await.status, 504);
    assert_eq!(bed.said().await, "504 UT response_timeout");
}

#[tokio::test]
async fn the_upstream_is_told() {
    let upstream = Upstream::echo().await;
    let route = forwarding(limited(3000, 0, "5xx", 0));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let answer = bed.get("a", "/").await;
    assert!(answer.body.contains("x-envoy-expected-rq-timeout-ms: 3000\n"), "{}", answer.body);
}

#[tokio::test]
async fn grpc_has_limits_of_its_own() {
    let upstream = sleepy().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut request = request("POST", "a", "/svc/method");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    request.headers_mut().insert("grpc-timeout", "80m".parse().unwrap());
    let answer = bed.send(request).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "4"));
    assert_eq!(bed.record().await.flags().to_string(), "DT");
}

#[tokio::test]
async fn the_time_of_an_upload_does_not_count() {
    use tokio::io::AsyncWriteExt;
    let upstream = Upstream::echo().await;
    let route = forwarding(limited(250, 0, "5xx", 0));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let mut stream = crate::testing::dial(bed.front).await;
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\na";
    stream.write_all(head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    stream.write_all(b"b").await.unwrap();
    let answer = crate::testing::read_all(&mut stream).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_limit_holds_to_the_last_byte() {
    use std::sync::Mutex;

    use http_body_util::{BodyExt, StreamBody};
    let endless = Upstream::http1(|_, _| async {
        let body = StreamBody::new(Endless(Mutex::new(Some(bytes::Bytes::from("some")))));
        http::Response::new(body.boxed())
    })
    .await;
    let route = forwarding(limited(150, 0, "5xx", 0));
    let bed = bed().host("a", route, &[endless.addr]).start().await;
    let answer = bed.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("some") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(bed.said().await, "200 UT response_timeout");
}

/// Some bytes and no end.
struct Endless(std::sync::Mutex<Option<bytes::Bytes>>);

impl futures_core::Stream for Endless {
    type Item = Result<hyper::body::Frame<bytes::Bytes>, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        match self.0.lock().unwrap().take() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes)))),
            None => std::task::Poll::Pending,
        }
    }
}

#[tokio::test]
async fn connecting_has_a_limit() {
    let (_listener, addr, _streams) = silent().await;
    let mut impatient = cluster("a");
    impatient.connect_timeout = Duration::from_millis(80);
    let forward = Forward { retry: None, ..to(impatient) };
    let bed = bed().host("a", forwarding(forward), &[addr]).start().await;
    let answer = bed.get("a", "/").await;
    assert!(answer.body.ends_with("reset reason: connection timeout"), "{}", answer.body);
    assert_eq!(
        bed.said().await,
        "503 UF upstream_reset_before_response_started{connection_timeout}"
    );
}

#[tokio::test]
async fn a_request_may_be_quiet_for_so_long() {
    use http_body_util::{BodyExt, StreamBody};
    let settings =
        HttpSettings { idle_request: Some(Duration::from_millis(200)), ..HttpSettings::default() };
    let upstream = Upstream::http1(|_, n| async move {
        // The second answer begins, and then nothing comes.
        if n == 1 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let begun = Endless(std::sync::Mutex::new(Some(bytes::Bytes::from("begun"))));
        http::Response::new(StreamBody::new(begun).boxed())
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).settings(settings).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!((answer.status, &*answer.body), (504, "stream timeout"));
    assert_eq!(said(&bed.all(1).await[0]), "504 SI stream_idle_timeout");
    let raw = bed.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.contains("begun") && !raw.ends_with("0\r\n\r\n"), "{raw}");
    assert_eq!(said(&bed.all(2).await[1]), "200 SI stream_idle_timeout");
}

/// A server that answers with more than anybody takes unread.
async fn large(speaks_http2: bool) -> Upstream {
    let answer = |_, _| async { text(vec![b'x'; 64 << 20]) };
    if speaks_http2 { Upstream::http2(answer).await } else { Upstream::http1(answer).await }
}

#[tokio::test]
async fn a_limit_holds_although_the_application_takes_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = large(false).await;
    let route = forwarding(limited(300, 0, "5xx", 0));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let mut stream = crate::testing::dial(bed.front).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(bed.said().await, "200 UT response_timeout");
    // And the application does not take what it has got for all of it.
    let mut taken = Vec::new();
    assert!(stream.read_to_end(&mut taken).await.is_err());
    assert!(taken.len() < 64 << 20);
    crate::testing::until("nothing is left", || bed.worker.pools.is_empty()).await;
}

#[tokio::test]
async fn the_same_for_a_stream_of_http2() {
    use bytes::Bytes;
    use egressd_tables::UpstreamHttp;
    use http_body_util::Empty;
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let upstream = large(true).await;
    let mut forward = limited(300, 0, "5xx", 0);
    let mut over = cluster("a");
    over.http = UpstreamHttp::Http2;
    forward.destinations = egressd_tables::Destinations::Single(destination(over));
    let bed = bed().host("a", forwarding(forward), &[upstream.addr]).http2().start().await;
    let io = TokioIo::new(crate::testing::dial(bed.front).await);
    let shaken = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await;
    let (mut sender, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a/").body(Empty::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(bed.said().await, "200 UT response_timeout");
    let collected = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(collected.is_err());
    // The connection goes on.
    let request = http::Request::get("http://unknown/").body(Empty::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 404);
}

#[tokio::test]
async fn an_answer_nobody_takes_is_quiet() {
    use tokio::io::AsyncWriteExt;
    let settings =
        HttpSettings { idle_request: Some(Duration::from_millis(200)), ..HttpSettings::default() };
    let upstream = large(false).await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).settings(settings).start().await;
    let mut stream = crate::testing::dial(bed.front).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(bed.said().await, "200 SI stream_idle_timeout");
}

#[tokio::test]
async fn a_limit_holds_although_bytes_never_pause() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // A server that sends as fast as it is read, and a client that reads as fast as it is sent to.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let listener = listener.into_std().unwrap();
        listener.set_nonblocking(false).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        assert!(socket.read(&mut [0; 4096]).unwrap() > 0);
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while socket.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let route = forwarding(limited(300, 0, "5xx", 0));
    let bed = bed().host("a", route, &[addr]).start().await;
    let mut stream = crate::testing::dial(bed.front).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut some = vec![0; 1 << 20];
    let reading = async { while let Ok(1..) = stream.read(&mut some).await {} };
    tokio::time::timeout(crate::testing::PATIENCE, reading).await.expect("an end");
    assert_eq!(bed.said().await, "200 UT response_timeout");
}
