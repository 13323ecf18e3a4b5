//! HTTP/2 frames by the thousand: the connection they come on may end, others are served meanwhile, and
//! what is held for them is bounded.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::support::*;
use crate::testing::{PATIENCE, dial};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it is on the wire.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// GET http://a/, with indexed headers and a literal authority.
const GET_A: &[u8] = b"\x82\x86\x84\x41\x01a";

async fn greeted(bed: &Bed) -> TcpStream {
    let mut socket = dial(bed.front).await;
    socket.write_all(PREFACE).await.unwrap();
    socket.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
    socket
}

/// Sends `piece` until the other side no longer takes it, or so many times; says how many bytes went.
async fn flood(socket: &mut TcpStream, piece: &[u8], times: usize) -> usize {
    let mut sent = 0;
    for _ in 0..times {
        match timeout(Duration::from_secs(1), socket.write_all(piece)).await {
            Ok(Ok(())) => sent += piece.len(),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    sent
}

/// The kinds of the frames that come until the connection ends or is quiet.
async fn kinds(socket: &mut TcpStream) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut head = [0; 9];
    while let Ok(Ok(_)) = timeout(Duration::from_secs(1), socket.read_exact(&mut head)).await {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        if socket.read_exact(&mut payload).await.is_err() {
            break;
        }
        kinds.push(head[3]);
    }
    kinds
}

/// What the others of the bed are told meanwhile.
async fn others_are_served(bed: &Bed) {
    let mut socket = greeted(bed).await;
    socket.write_all(&frame(HEADERS, END_HEADERS | 1, 1, GET_A)).await.unwrap();
    let answered = async {
        let mut head = [0; 9];
        loop {
            socket.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            socket.read_exact(&mut vec![0; length]).await.unwrap();
            if head[3] == HEADERS {
                return;
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("an answer");
}

async fn a_bed() -> (Bed, Upstream) {
    let upstream = Upstream::echo().await;
    (bed().host("a", plain("a"), &[upstream.addr]).http2().start().await, upstream)
}

#[tokio::test]
async fn headers_without_an_end() {
    let (bed, upstream) = a_bed().await;
    let mut socket = greeted(&bed).await;
    socket.write_all(&frame(HEADERS, 0, 1, GET_A)).await.unwrap();
    // A literal header of 1,000 bytes, and no end.
    let mut header = b"\x00\x01x\x7f\xe9\x06".to_vec();
    header.resize(header.len() + 1000, b'y');
    let piece = frame(CONTINUATION, 0, 1, &header);
    let sent = flood(&mut socket, &piece, 100_000).await;
    // What is in flight between two sockets, and not the hundred megabytes.
    assert!(sent < 32 * 1024 * 1024, "{sent}");
    others_are_served(&bed).await;
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn headers_without_an_end_and_without_a_byte() {
    let (bed, _upstream) = a_bed().await;
    let mut socket = greeted(&bed).await;
    socket.write_all(&frame(HEADERS, 0, 1, GET_A)).await.unwrap();
    let piece = frame(CONTINUATION, 0, 1, b"").repeat(1000);
    let sent = flood(&mut socket, &piece, 10_000).await;
    assert!(sent < 32 * 1024 * 1024, "{sent}");
    others_are_served(&bed).await;
}

#[tokio::test]
async fn pings_and_settings_that_nobody_reads_the_answers_of() {
    for piece in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])] {
        let (bed, _upstream) = a_bed().await;
        let mut socket = greeted(&bed).await;
        let many = piece.repeat(1000);
        // Either it is cut off, or it has to wait for its answers to be read.
        let sent = flood(&mut socket, &many, 20_000).await;
        assert!(sent < 64 * 1024 * 1024, "{sent}");
        others_are_served(&bed).await;
    }
}

#[tokio::test]
async fn frames_that_say_nothing() {
    for piece in [
        frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        // A kind that nobody knows has to be passed over.
        frame(0xee, 0, 0, b"what"),
    ] {
        let (bed, _upstream) = a_bed().await;
        let mut socket = greeted(&bed).await;
        let many = piece.repeat(100);
        flood(&mut socket, &many, 200).await;
        others_are_served(&bed).await;
    }
}

#[tokio::test]
async fn data_without_a_byte() {
    let (bed, _upstream) = a_bed().await;
    let mut socket = greeted(&bed).await;
    // POST, whose body never ends.
    socket.write_all(&frame(HEADERS, END_HEADERS, 1, b"\x83\x86\x84\x41\x01a")).await.unwrap();
    let many = frame(DATA, 0, 1, b"").repeat(1000);
    flood(&mut socket, &many, 200).await;
    others_are_served(&bed).await;
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    for (name, bytes) in [
        ("data without a stream", frame(DATA, 0, 0, b"x")),
        ("data on a stream that is none", frame(DATA, 0, 5, b"x")),
        ("a stream of the server's", frame(HEADERS, END_HEADERS | 1, 2, GET_A)),
        ("a frame beyond its limit", frame(DATA, 0, 1, &[0; 16_385])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, GET_A)),
        ("a ping of another size", frame(PING, 0, 0, b"7")),
        ("settings of another size", frame(SETTINGS, 0, 0, b"1234")),
        ("settings of a stream", frame(SETTINGS, 0, 1, b"")),
        ("a window beyond measure", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a window that does not grow", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("an index beyond the table", frame(HEADERS, END_HEADERS | 1, 1, b"\xff\x80\x01")),
        ("a push", frame(5, END_HEADERS, 1, b"\0\0\0\x02\x82")),
    ] {
        let (bed, upstream) = a_bed().await;
        let mut socket = greeted(&bed).await;
        socket.write_all(&bytes).await.unwrap();
        let kinds = kinds(&mut socket).await;
        assert_eq!(kinds.last(), Some(&GOAWAY), "{name}: {kinds:?}");
        assert_eq!(bed.said().await, "400 DPE http2.codec_error", "{name}");
        others_are_served(&bed).await;
        assert_eq!(upstream.requests(), 1, "{name}");
    }
}

#[tokio::test]
async fn heads_that_are_none_end_their_stream() {
    for (name, head) in [
        ("no path", &b"\x82\x86\x41\x01a"[..]),
        ("no method", b"\x86\x84\x41\x01a"),
        ("upper case", b"\x82\x86\x84\x41\x01a\x00\x01X\x01y"),
        ("a header of one connection", b"\x82\x86\x84\x41\x01a\x00\x0aconnection\x05close"),
        ("chunks", b"\x82\x86\x84\x41\x01a\x00\x11transfer-encoding\x07chunked"),
        ("a late pseudo-header", b"\x82\x86\x84\x00\x01x\x01y\x41\x01a"),
        ("a pseudo-header twice", b"\x82\x82\x86\x84\x41\x01a"),
        ("a pseudo-header that is none", b"\x82\x86\x84\x41\x01a\x00\x05:what\x01y"),
        ("a line feed in a value", b"\x82\x86\x84\x41\x01a\x00\x01x\x03y\nz"),
        ("a zero in a value", b"\x82\x86\x84\x41\x01a\x00\x01x\x03y\0z"),
    ] {
        let (bed, upstream) = a_bed().await;
        let mut socket = greeted(&bed).await;
        socket.write_all(&frame(HEADERS, END_HEADERS | 1, 1, head)).await.unwrap();
        let kinds = kinds(&mut socket).await;
        let refused = kinds.iter().any(|kind| [3, GOAWAY, HEADERS].contains(kind));
        assert!(refused, "{name}: {kinds:?}");
        assert_eq!(upstream.requests(), 0, "{name}");
        others_are_served(&bed).await;
    }
}

#[tokio::test]
async fn lengths_that_lie() {
    for (length, body) in [("5", &b"abc"[..]), ("2", b"abc")] {
        let (bed, _upstream) = a_bed().await;
        let mut socket = greeted(&bed).await;
        let mut head = b"\x83\x86\x84\x41\x01a\x00\x0econtent-length\x01".to_vec();
        head.extend_from_slice(length.as_bytes());
        socket.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await.unwrap();
        socket.write_all(&frame(DATA, 1, 1, body)).await.unwrap();
        let kinds = kinds(&mut socket).await;
        assert!(kinds.iter().any(|kind| [3, GOAWAY, HEADERS].contains(kind)), "{kinds:?}");
        let said = bed.said().await;
        assert!(!said.starts_with("200"), "{length}: {said}");
    }
}
