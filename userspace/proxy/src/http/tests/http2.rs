//! HTTP/2 with prior knowledge, gRPC, and the translation between versions.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use egressd_tables::UpstreamHttp;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Semaphore;

use super::support::*;
use crate::testing::{dial, until};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

async fn connect(bed: &Bed) -> http2::SendRequest<Body> {
    let io = TokioIo::new(dial(bed.front).await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn ask(path: &str, body: impl Into<Bytes>) -> Request<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    Request::builder().method("POST").uri(format!("http://a{path}")).body(body).unwrap()
}

fn speaking(http: UpstreamHttp) -> egressd_tables::Route {
    let mut cluster = cluster("a");
    cluster.http = http;
    forwarding(to(cluster))
}

#[tokio::test]
async fn http2_to_http1() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).http2().start().await;
    let mut sender = connect(&bed).await;
    let mut request = ask("/x", "body");
    for part in ["a=1", "b=2"] {
        request.headers_mut().append("cookie", part.parse().unwrap());
    }
    let answer = Answer::read(sender.send_request(request).await.unwrap()).await;
    let lines: Vec<_> = answer.body.lines().collect();
    assert_eq!(lines[0], "POST /x HTTP/1.1");
    assert!(lines.contains(&"host: a") && lines.contains(&"cookie: a=1; b=2"), "{lines:?}");
    assert!(answer.body.ends_with("[body]"));
    let record = bed.record().await;
    assert_eq!(record.http.as_ref().unwrap().protocol(), "HTTP/2");
    assert_eq!(record.http.unwrap().authority.unwrap(), "a");
}

#[tokio::test]
async fn http1_to_http2() {
    let upstream = Upstream::http2(|request, _| seen(request)).await;
    let bed = bed().host("a:81", speaking(UpstreamHttp::Http2), &[]);
    let bed = bed.host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]).start().await;
    let answer = bed.send(with_body("POST", "a", "/x", "body")).await;
    assert!(answer.body.starts_with("POST http://a/x HTTP/2.0\n"), "{}", answer.body);
    assert!(answer.body.ends_with("[body]"));
    for _ in 0..5 {
        assert_eq!(bed.get("a", "/").await.status, 200);
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(bed.all(6).await[0].http.as_ref().unwrap().protocol(), "HTTP/1.1");
}

#[tokio::test]
async fn as_the_client_speaks() {
    let (one, two) = (Upstream::echo().await, Upstream::http2(|request, _| seen(request)).await);
    let route = || speaking(UpstreamHttp::AsDownstream);
    let first = bed().host("a", route(), &[one.addr]).start().await;
    assert_eq!(first.get("a", "/").await.status, 200);
    let second = bed().host("a", route(), &[two.addr]).http2().start().await;
    let mut sender = connect(&second).await;
    let answer = Answer::read(sender.send_request(ask("/", "")).await.unwrap()).await;
    assert!(answer.body.starts_with("POST http://a/ HTTP/2.0"), "{}", answer.body);
}

#[tokio::test]
async fn many_at_once_share_a_connection() {
    let upstream = Upstream::http2(|_, _| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        text("ok")
    })
    .await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]).http2();
    let bed = bed.start().await;
    let sender = connect(&bed).await;
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                Answer::read(sender.send_request(ask("/", "")).await.unwrap()).await.status
            })
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(bed.all(50).await.len(), 50);
}

#[tokio::test]
async fn streams_of_a_connection_are_limited() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let upstream = Upstream::http2(move |_, _| {
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await.unwrap().forget();
            text("ok")
        }
    })
    .await;
    let mut limited = cluster("a");
    limited.http = UpstreamHttp::Http2;
    limited.pool.max_concurrent_streams = 2;
    let bed = Arc::new(bed().host("a", forwarding(to(limited)), &[upstream.addr]).start().await);
    let mut asking = Vec::new();
    for number in 1..=5 {
        let bed = Arc::clone(&bed);
        asking.push(tokio::spawn(async move { bed.get("a", "/").await.status }));
        until("it is there", || upstream.requests() == number).await;
    }
    assert_eq!(upstream.connections(), 3);
    gate.add_permits(5);
    for one in asking {
        assert_eq!(one.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn grpc_streams_both_ways_with_trailers() {
    let upstream = Upstream::http2(|request, _| async {
        let body = request.into_body().map_frame(|frame| frame).map_err(std::io::Error::other);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "7".parse().unwrap());
        let body = body.with_trailers(async move { Some(Ok(trailers)) }).boxed();
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    })
    .await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]).http2();
    let bed = bed.start().await;
    let mut sender = connect(&bed).await;
    let (give, mut taken) = tokio::sync::mpsc::channel::<Bytes>(1);
    let stream = Pieces(Box::new(move |cx: &mut std::task::Context<'_>| taken.poll_recv(cx)));
    let request = Request::builder()
        .method("POST")
        .uri("http://a/svc/method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(stream).boxed_unsync());
    let asking = tokio::spawn(async move { sender.send_request(request.unwrap()).await.unwrap() });
    give.send("one".into()).await.unwrap();
    let mut body = asking.await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    give.send("two".into()).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    drop(give);
    let rest = body.collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "7");
    let record = bed.record().await;
    assert_eq!(record.http.unwrap().grpc_status, Some(7));
    assert_eq!((record.bytes_received, record.bytes_sent), (6, 6));
}

type Poller =
    Box<dyn FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> + Send + Sync>;

struct Pieces(Poller);

impl futures_core::Stream for Pieces {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        (self.0)(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn failures_of_grpc_are_statuses_of_grpc() {
    let dead = crate::testing::refusing().await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[dead]).http2().start().await;
    let mut sender = connect(&bed).await;
    let mut request = ask("/svc/method", "");
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = Answer::read(sender.send_request(request).await.unwrap()).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "14"));
    assert!(answer.header("grpc-message").contains("remote connection failure"));
    assert_eq!(bed.record().await.flags().to_string(), "UF,URX");
}

#[tokio::test]
async fn too_many_headers() {
    let bed = bed().http2().start().await;
    let mut sender = connect(&bed).await;
    let mut request = ask("/", "");
    for number in 0..101 {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        request.headers_mut().insert(name, "y".parse().unwrap());
    }
    assert_eq!(sender.send_request(request).await.unwrap().status(), 431);
    assert_eq!(bed.said().await, "431 DPE http2.too_many_headers");
}

#[tokio::test]
async fn a_closed_connection_is_replaced() {
    // Each connection is closed, in order, after some requests.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(socket).await.unwrap();
                for _ in 0..2 {
                    let Some(Ok((_, mut respond))) = connection.accept().await else { return };
                    let response = Response::builder().status(200).body(()).unwrap();
                    respond.send_response(response, true).unwrap();
                }
                connection.graceful_shutdown();
                std::future::poll_fn(|cx| connection.poll_closed(cx)).await.ok();
            });
        }
    });
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[addr]).start().await;
    for _ in 0..10 {
        assert_eq!(bed.get("a", "/").await.status, 200);
    }
    assert!(connections.load(std::sync::atomic::Ordering::SeqCst) >= 5);
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_not_the_proxy() {
    let upstream = Upstream::http1(|_, _| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        text("")
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).http2().start().await;
    let socket = dial(bed.front).await;
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..20_000 {
        let Ok(mut sender) = sender.clone().ready().await else { break };
        let request = Request::get("http://a/").body(()).unwrap();
        let Ok((_response, mut stream)) = sender.send_request(request, true) else { break };
        stream.send_reset(h2::Reason::CANCEL);
    }
    drop(sender);
    // Whether it was sent away or came to its end: nothing is left of it, and others are served.
    tokio::time::timeout(crate::testing::PATIENCE, connection).await.unwrap().unwrap().ok();
    let mut other = connect(&bed).await;
    let mut request = ask("/", "");
    *request.uri_mut() = "http://unknown/".parse().unwrap();
    assert_eq!(other.send_request(request).await.unwrap().status(), 404);
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_else() {
    // Answers that are larger than a stream may have ahead, of which many are never read.
    let large = Bytes::from(vec![b'x'; 4 << 20]);
    let upstream = Upstream::http2(move |request, _| {
        let large = large.clone();
        async move { if request.uri().path() == "/large" { text(large) } else { text("ok") } }
    })
    .await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]).http2();
    let bed = bed.start().await;
    let mut unread = Vec::new();
    for _ in 0..40 {
        let mut sender = connect(&bed).await;
        unread.push(sender.send_request(ask("/large", "")).await.unwrap());
    }
    // What may come ahead has come, of each.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut sender = connect(&bed).await;
    for path in ["/", "/large", "/"] {
        let answer = Answer::read(sender.send_request(ask(path, "")).await.unwrap()).await;
        assert_eq!(answer.body.len(), if path == "/" { 2 } else { 4 << 20 });
    }
    assert_eq!(upstream.connections(), 1);
    for response in unread {
        assert_eq!(Answer::read(response).await.body.len(), 4 << 20);
    }
}

#[tokio::test]
async fn uploads_that_nobody_takes_hold_up_no_others() {
    let upstream = Upstream::http1(|request, _| async move {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        seen(request).await
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).http2().start().await;
    let sender = connect(&bed).await;
    let mut never = Vec::new();
    for _ in 0..40 {
        let mut sender = sender.clone();
        let request = ask("/never", vec![b'x'; 16 << 20]);
        never.push(tokio::spawn(async move { sender.send_request(request).await.map(drop) }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asking = sender.clone().send_request(ask("/", "body"));
    let asking = tokio::time::timeout(crate::testing::PATIENCE, asking);
    let answer = Answer::read(asking.await.expect("an answer").unwrap()).await;
    assert!(answer.body.ends_with("[body]"), "{}", answer.body);
    for one in never {
        one.abort();
    }
}

#[tokio::test]
async fn headers_beyond_measure() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).http2().start().await;
    let mut sender = connect(&bed).await;
    let mut request = ask("/", "");
    request.headers_mut().insert("x", "y".repeat(61 * 1024).parse().unwrap());
    match sender.send_request(request).await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(refused) => assert!(!refused.is_timeout()),
    }
    assert_eq!(upstream.requests(), 0);
    let mut other = connect(&bed).await;
    assert_eq!(other.send_request(ask("/", "")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_drained_connection_answers_what_is_under_way() {
    let upstream = Upstream::http1(|_, _| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        text("late")
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).http2().start().await;
    let io = TokioIo::new(dial(bed.front).await);
    let shaken = http2::handshake::<_, _, Body>(TokioExecutor::new(), io).await;
    let (mut sender, connection) = shaken.unwrap();
    let ended = tokio::spawn(connection);
    let asking = sender.send_request(ask("/", ""));
    let drain = async {
        until("the request is there", || upstream.requests() == 1).await;
        bed.drain.notify_waiters();
    };
    let (answer, ()) = tokio::join!(asking, drain);
    assert_eq!(Answer::read(answer.unwrap()).await.body, "late");
    tokio::time::timeout(crate::testing::PATIENCE, ended).await.unwrap().unwrap().ok();
    assert!(sender.send_request(ask("/", "")).await.is_err());
}

#[tokio::test]
async fn trailers_of_http1_end_no_connection_of_others() {
    let upstream = Upstream::http2(|request, _| seen(request)).await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]).start().await;
    let chunks = "1\r\na\r\n0\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\
                Connection: close\r\n\r\n";
    let answer = bed.raw(format!("{head}{chunks}").as_bytes()).await;
    assert!(answer.contains("[a]\nx=y"), "{answer}");
    assert_eq!(bed.get("a", "/").await.status, 200);
    assert_eq!(upstream.connections(), 1);
}

/// Answers that are never read, on many streams of some connections, and what the process held at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_reads_is_bounded() {
    const BUDGET: u64 = 32 << 20;
    let piece = Bytes::from(vec![b'x'; 16 << 10]);
    let upstream = Upstream::http2(move |request, _| {
        let piece = piece.clone();
        async move {
            if request.uri().path() != "/endless" {
                return text("ok");
            }
            let endless =
                move |_: &mut std::task::Context<'_>| std::task::Poll::Ready(Some(piece.clone()));
            Response::new(StreamBody::new(Pieces(Box::new(endless))).boxed())
        }
    })
    .await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]).http2();
    let bed = bed.unread(BUDGET).start().await;
    let mut unread = Vec::new();
    let mut greatest = 0;
    for _ in 0..3 {
        let sender = connect(&bed).await;
        for _ in 0..1000 {
            let mut sender = sender.clone();
            unread.push(tokio::spawn(async move {
                let answer = sender.send_request(ask("/endless", "")).await;
                // Held, and never read.
                std::future::pending::<()>().await;
                drop(answer);
            }));
        }
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            greatest = greatest.max(bed.worker.unread.held());
        }
    }
    until("most have been ended", || bed.records.count() > 2_800).await;
    let mut sender = connect(&bed).await;
    for _ in 0..10 {
        let answer = Answer::read(sender.send_request(ask("/", "")).await.unwrap()).await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"));
    }
    greatest = greatest.max(bed.worker.unread.held());
    // Beyond it by what counts before somebody makes room.
    assert!(greatest <= BUDGET + (2 << 20), "{greatest}");
    let ended = bed.records.all();
    let overflown = ended.iter().filter(|it| said(it) == "200 OM unread_overflow").count();
    assert!(overflown > 2_800, "{overflown}, and {}", said(&ended[0]));
    for one in unread {
        one.abort();
    }
    until("nothing is held", || bed.worker.unread.held() == 0).await;
}

/// The same for requests: an endpoint that takes nothing, and one that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_nobody_takes_are_bounded() {
    const BUDGET: u64 = 8 << 20;
    let upstream = Upstream::http2(|request, _| async move {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        seen(request).await
    })
    .await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]).http2();
    let bed = bed.unread(BUDGET).start().await;
    let sender = connect(&bed).await;
    let mut never = Vec::new();
    for _ in 0..100 {
        let mut sender = sender.clone();
        let request = ask("/never", vec![b'x'; 4 << 20]);
        never.push(tokio::spawn(async move { sender.send_request(request).await.map(drop) }));
    }
    until("some have been ended", || bed.records.count() > 50).await;
    assert!(bed.worker.unread.held() <= BUDGET + (1 << 20), "{}", bed.worker.unread.held());
    for record in bed.records.all() {
        assert!(said(&record).ends_with(" OM unread_overflow"), "{}", said(&record));
    }
    // Without a body: the endpoint gives its connection no further window.
    let asking = sender.clone().send_request(ask("/", ""));
    let answer = tokio::time::timeout(crate::testing::PATIENCE, asking).await.expect("an answer");
    assert_eq!(answer.unwrap().status(), 200);
    for one in never {
        one.abort();
    }
    until("nothing is held", || bed.worker.unread.held() == 0).await;
}

/// An application's connection of HTTP/1 that takes nothing ends, and its record says why.
#[tokio::test]
async fn http1_that_reads_nothing_is_bounded() {
    let large = Bytes::from(vec![b'x'; 64 << 20]);
    let upstream = Upstream::http2(move |_, _| {
        let large = large.clone();
        async move { text(large) }
    })
    .await;
    let bed = bed().host("a", speaking(UpstreamHttp::Http2), &[upstream.addr]);
    let bed = bed.unread(4 << 20).start().await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        let mut stream = dial(bed.front).await;
        use tokio::io::AsyncWriteExt;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        unread.push(stream);
    }
    until("some have been ended", || bed.records.count() >= 10).await;
    for record in bed.records.all() {
        assert_eq!(said(&record), "200 OM unread_overflow");
    }
    assert!(bed.worker.unread.held() <= 4 << 20);
}
