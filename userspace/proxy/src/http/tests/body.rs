//! Bodies: streamed both ways, chunked or not, with trailers, after 100 Continue.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use super::support::*;
use crate::testing::{PATIENCE, dial, read_all};

async fn read_until(stream: &mut tokio::net::TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(end) {
        let mut some = [0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut some)).await.expect("bytes").unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&some[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn sized_and_chunked_requests() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let answer = bed.send(with_body("POST", "a", "/", "hello")).await;
    assert!(answer.body.contains("content-length: 5\n"), "{}", answer.body);
    assert!(answer.body.ends_with("[hello]"));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n\
                   GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = bed.raw(chunked.as_bytes()).await;
    assert!(answer.contains("transfer-encoding: chunked\n"), "{answer}");
    assert!(answer.contains("[abcdefg]") && answer.ends_with("[]"), "{answer}");
    let records = bed.all(3).await;
    assert_eq!(records[0].bytes_received, 5);
    assert_eq!(records[1].bytes_received, 7);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn large_bodies_pass_whole() {
    let upstream = Upstream::http1(|request, _| async {
        let all = request.into_body().collect().await.unwrap().to_bytes();
        text(all)
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    let mut client = bed.client().await;
    for _ in 0..2 {
        let answer = client.send(with_body("PUT", "a", "/", sent.clone())).await;
        assert_eq!(answer.body.as_bytes(), sent);
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(bed.all(2).await[1].bytes_sent, 3_000_000);
}

/// A server whose answers have the body that is given through the sender.
async fn given() -> (mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>, Upstream) {
    let (give, taken) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let taken = std::sync::Mutex::new(Some(taken));
    let upstream = Upstream::http1(move |_, _| {
        let taken = taken.lock().unwrap().take().unwrap();
        async move { Response::new(StreamBody::new(futures_stream(taken)).boxed()) }
    })
    .await;
    (give, upstream)
}

#[tokio::test]
async fn bodies_stream() {
    let (give, upstream) = given().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut stream = dial(bed.front).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    for piece in ["first", "second"] {
        give.send(Ok(Frame::data(piece.into()))).await.unwrap();
        read_until(&mut stream, piece).await;
    }
    assert_eq!(bed.records.count(), 0);
    drop(give);
    read_until(&mut stream, "0\r\n\r\n").await;
    assert_eq!(bed.said().await, "200 - via_upstream");
}

#[tokio::test]
async fn a_request_is_passed_on_before_it_is_complete() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let upstream = Upstream::http1(move |request, _| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                tell.send(frame.into_data().unwrap()).unwrap();
            }
            text("done")
        }
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut stream = dial(bed.front).await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").await.unwrap();
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap().unwrap(), "abc");
    stream.write_all(b"def").await.unwrap();
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap().unwrap(), "def");
    read_until(&mut stream, "done").await;
}

#[tokio::test]
async fn continue_is_said_when_the_body_is_wanted() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut stream = dial(bed.front).await;
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let answer = read_until(&mut stream, "[abc]").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("expect"), "{answer}");
    let mut refused = dial(bed.front).await;
    refused.write_all(&head.map(|byte| if byte == b'a' { b'z' } else { byte })).await.unwrap();
    let answer = read_until(&mut refused, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn trailers_of_chunked_bodies() {
    let upstream = Upstream::http1(|request, _| async {
        let all = request.into_body().collect().await.unwrap();
        let trailers = all.trailers().cloned().unwrap();
        let data = Frame::data(all.to_bytes());
        let frames = [Ok(data), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_iter(frames)).boxed();
        Response::builder().header("trailer", "x-sum").body(body).unwrap()
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let answer = bed
        .raw(
            b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\
              Trailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
        )
        .await;
    assert!(answer.ends_with("abc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_breaks_the_answer_off() {
    let (give, upstream) = given().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut stream = dial(bed.front).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    give.send(Ok(Frame::data("part".into()))).await.unwrap();
    read_until(&mut stream, "part").await;
    give.send(Err(std::io::Error::other("broken"))).await.unwrap();
    let rest = read_all(&mut stream).await;
    assert!(!rest.is_ok_and(|rest| rest.ends_with(b"0\r\n\r\n")));
    assert_eq!(
        bed.said().await,
        "200 UC upstream_reset_after_response_started{connection_termination}"
    );
}

#[tokio::test]
async fn an_application_that_leaves_is_recorded() {
    let upstream = Upstream::http1(|_, _| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        text("")
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut stream = dial(bed.front).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    crate::testing::until("the request is there", || upstream.requests() == 1).await;
    drop(stream);
    assert_eq!(bed.said().await, "0 DC downstream_remote_disconnect");
}

fn futures_stream<T: Send + 'static>(
    mut receiver: mpsc::Receiver<T>,
) -> impl futures_core::Stream<Item = T> + Send {
    FromFn(move |cx: &mut std::task::Context<'_>| receiver.poll_recv(cx))
}

fn futures_iter<T: Send + Unpin + 'static, const N: usize>(
    items: [T; N],
) -> impl futures_core::Stream<Item = T> + Send {
    let mut items = items.into_iter();
    FromFn(move |_: &mut std::task::Context<'_>| std::task::Poll::Ready(items.next()))
}

struct FromFn<F>(F);

impl<T, F> futures_core::Stream for FromFn<F>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
{
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        (self.0)(cx)
    }
}
