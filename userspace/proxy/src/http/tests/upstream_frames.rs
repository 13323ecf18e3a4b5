//! Endpoints that speak HTTP/2 badly, or say no in it: what the application is told, and that nothing
//! worse comes of it. The cases of h2spec that concern a client, by our own frames.

use egressd_tables::UpstreamHttp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{floods::frame, support::*};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// `:status: 200`.
const OK: &[u8] = b"\x88";

/// Reads frames up to the head of a request, and says its stream.
async fn request(socket: &mut TcpStream) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        socket.read_exact(&mut vec![0; length]).await.ok()?;
        if head[3] == HEADERS {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

/// An endpoint that answers each request with bytes made for its stream.
async fn answering(
    answer: impl Fn(u32) -> Vec<u8> + Copy + Send + Sync + 'static,
) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                socket.read_exact(&mut [0; 24]).await.ok()?;
                socket.write_all(&frame(SETTINGS, 0, 0, b"")).await.ok()?;
                while let Some(stream) = request(&mut socket).await {
                    socket.write_all(&answer(stream)).await.ok()?;
                }
                Some(())
            });
        }
    });
    addr
}

async fn told(answer: impl Fn(u32) -> Vec<u8> + Copy + Send + Sync + 'static) -> (u16, String) {
    let addr = answering(answer).await;
    let mut speaking = cluster("a");
    speaking.http = UpstreamHttp::Http2;
    let bed = bed().host("a", forwarding(to(speaking)), &[addr]).start().await;
    let raw = bed.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let status = raw.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, bed.said().await)
}

#[tokio::test]
async fn an_answer_as_it_should_be() {
    let (status, said) = told(|id| frame(HEADERS, END_HEADERS | END_STREAM, id, OK)).await;
    assert_eq!((status, &*said), (200, "200 - via_upstream"));
    // What comes before it and means nothing is passed over.
    let (status, _) = told(|id| {
        let hints = frame(HEADERS, END_HEADERS, id, b"\x08\x03103");
        let unknown = frame(0xfa, 0, id, b"what");
        let head = frame(HEADERS, END_HEADERS, id, OK);
        let data = frame(DATA, END_STREAM, id, b"ok");
        [hints, unknown, frame(PING, 0, 0, &[0; 8]), head, data].concat()
    })
    .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_breaks_the_protocol() {
    type Answer = fn(u32) -> Vec<u8>;
    let cases: [(&str, Answer); 11] = [
        ("data before a head", |id| frame(DATA, END_STREAM, id, b"x")),
        ("no status", |id| frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x00\x01x\x01y")),
        ("upper case", |id| frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x88\x00\x01X\x01y")),
        ("a line feed in a value", |id| {
            frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x88\x00\x01x\x03y\nz")
        }),
        ("a header of one connection", |id| {
            frame(HEADERS, END_HEADERS | END_STREAM, id, b"\x88\x00\x0aconnection\x05close")
        }),
        ("an index beyond the table", |id| {
            frame(HEADERS, END_HEADERS | END_STREAM, id, b"\xff\x80\x01")
        }),
        ("a push", |id| frame(PUSH, END_HEADERS, id, b"\0\0\0\x02\x82")),
        ("a frame beyond its limit", |id| frame(DATA, 0, id, &[0; 16_385])),
        ("a window beyond measure", |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a setting beyond measure", |_| frame(SETTINGS, 0, 0, b"\0\x04\xff\xff\xff\xff")),
        ("no frame at all", |_| b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ];
    for (name, answer) in cases {
        let (status, said) = told(answer).await;
        assert_eq!(status, 502, "{name}: {said}");
        let details = "upstream_reset_before_response_started{protocol_error}";
        assert_eq!(said, format!("502 UPE {details}"), "{name}");
    }
}

#[tokio::test]
async fn saying_no() {
    // Nobody has looked at it: tried again, as the default has it.
    let (_, said) = told(|id| frame(RESET, 0, id, &7_u32.to_be_bytes())).await;
    let refused = "upstream_reset_before_response_started{remote_refused_stream_reset}";
    assert_eq!(said, format!("503 UR,URX {refused}"));
    let (_, said) = told(|id| frame(RESET, 0, id, &2_u32.to_be_bytes())).await;
    assert_eq!(said, "503 UR upstream_reset_before_response_started{remote_reset}");
    let (status, said) = told(|_| frame(GOAWAY, 0, 0, &[0; 8])).await;
    assert_eq!(status, 503, "{said}");
}

#[tokio::test]
async fn an_endpoint_that_answers_no_ping_is_gone() {
    let addr = answering(|_| Vec::new()).await;
    let mut speaking = cluster("a");
    speaking.http = UpstreamHttp::Http2;
    let soon = std::time::Duration::from_millis(100);
    speaking.pool.http2_keepalive = Some((soon, soon));
    let bed = bed().host("a", forwarding(to(speaking)), &[addr]).start().await;
    assert_eq!(bed.get("a", "/").await.status, 503);
    let details = "upstream_reset_before_response_started{connection_termination}";
    assert_eq!(bed.said().await, format!("503 UC {details}"));
}

#[tokio::test]
async fn lengths_that_lie_break_the_answer_off() {
    for (length, body) in [("9", &b"abc"[..]), ("2", b"abc")] {
        let length = length.as_bytes()[0];
        let (_, said) = told(move |id| {
            let mut head = b"\x88\x00\x0econtent-length\x01".to_vec();
            head.push(length);
            let head = frame(HEADERS, END_HEADERS, id, &head);
            [head, frame(DATA, END_STREAM, id, body)].concat()
        })
        .await;
        assert_ne!(said, "200 - via_upstream");
    }
}

#[tokio::test]
async fn a_head_without_an_end_does_not_fill_memory() {
    let (status, said) = told(|id| {
        let mut header = b"\x00\x01x\x7f\xe9\x06".to_vec();
        header.resize(header.len() + 1000, b'y');
        let more = frame(CONTINUATION, 0, id, &header).repeat(2000);
        [frame(HEADERS, 0, id, OK), more].concat()
    })
    .await;
    assert!([502, 503].contains(&status), "{said}");
}
