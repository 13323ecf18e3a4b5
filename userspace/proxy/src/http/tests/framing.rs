//! Bad input: shapes that could be read in two ways, and what is no HTTP at all. Each is answered as
//! Envoy answers it, the connection is closed, and nothing reaches the upstream.

use tokio::io::AsyncWriteExt;

use super::support::*;
use crate::{
    http::settings::HttpSettings,
    testing::{dial, read_all},
};

/// Sends bytes and checks the status of the first answer, that the connection ends, and the record.
async fn refused(bytes: &str, status: u16, details: &str) {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let answer = bed.raw(bytes.as_bytes()).await;
    let shown: String = bytes.chars().take(120).collect();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?}: {answer}");
    assert_eq!(bed.said().await, format!("{status} DPE {details}"), "{shown:?}");
    assert_eq!(upstream.requests(), 0, "{shown:?}");
}

#[tokio::test]
async fn smuggling_shapes() {
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5\r\n folded\r\n",
        "X: a\r\n b\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Content-Length : 5\r\n",
        "X: a\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X y: a\r\n",
        ": a\r\n",
        "no colon\r\n",
        "Host: b\r\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n0\r\n\r\n");
        refused(&text, 400, "http1.codec_error").await;
    }
}

#[tokio::test]
async fn request_lines() {
    refused("GET / HTTP/1.1\nHost: a\n\n", 400, "http1.codec_error").await;
    refused("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 400, "http1.codec_error").await;
    refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "http1.codec_error").await;
    refused("G T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "http1.codec_error").await;
    refused("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400, "http1.codec_error").await;
    refused("GET / HTTP/1.1\r\n\r\n", 400, "missing_host_header").await;
    refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "http1.invalid_authority").await;
    refused("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "http1.invalid_scheme").await;
}

#[tokio::test]
async fn chunks_that_are_none() {
    for body in
        ["zz\r\nabc\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "fffffffffffffffff\r\n"]
    {
        let upstream = Upstream::echo().await;
        let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = bed.raw(format!("{head}{body}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert_eq!(bed.said().await, "400 DPE http1.codec_error", "{body:?}");
    }
}

#[tokio::test]
async fn heads_beyond_measure() {
    let many = "X: y\r\n".repeat(101);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    refused(&text, 431, "http1.headers_too_large").await;
    let long = "x".repeat(61 * 1024);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n");
    refused(&text, 431, "http1.headers_too_large").await;
    let endless = "x".repeat(1024 * 1024);
    refused(&format!("GET /{endless}"), 431, "http1.headers_too_large").await;
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let fits = "x".repeat(58 * 1024);
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {fits}\r\nConnection: close\r\n\r\n");
    assert!(bed.raw(text.as_bytes()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn earlier_requests_are_answered_before_a_bad_one_is_refused() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let good = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n\
                Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let bad = "POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc";
    let answer = bed.raw(format!("{good}{bad}").as_bytes()).await;
    let statuses: Vec<_> = answer.matches("HTTP/1.1 200").collect();
    assert_eq!(statuses.len(), 2, "{answer}");
    assert!(answer.contains("HTTP/1.1 400"), "{answer}");
    let records = bed.all(3).await;
    assert_eq!(said(&records[2]), "400 DPE http1.codec_error");
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn a_connection_without_a_request_leaves_a_record() {
    let bed = bed().start().await;
    let mut stream = dial(bed.front).await;
    stream.write_all(b"GET / HT").await.unwrap();
    stream.shutdown().await.unwrap();
    read_all(&mut stream).await.ok();
    let record = bed.record().await;
    assert_eq!(record.flags().to_string(), "DC");
    assert_eq!(record.http.unwrap().method, None);
}

#[tokio::test]
async fn a_head_that_takes_too_long() {
    let settings = HttpSettings {
        request_head: std::time::Duration::from_millis(50),
        ..HttpSettings::default()
    };
    let bed = bed().settings(settings).start().await;
    let answer = bed.raw(b"GET / HTTP/1.1\r\nHo").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(bed.said().await, "408 DPE request_header_timeout");
}

#[tokio::test]
async fn answers_that_are_none() {
    for (answer, expected) in [
        ("what?\r\n\r\n", "502 UPE upstream_reset_before_response_started{protocol_error}"),
        (
            "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
            "502 UPE upstream_reset_before_response_started{protocol_error}",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "502 UPE upstream_reset_before_response_started{protocol_error}",
        ),
        ("HTTP/1.1 200 O", "503 UC upstream_reset_before_response_started{connection_termination}"),
        ("", "503 UC upstream_reset_before_response_started{connection_termination}"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut some = [0; 1024];
                tokio::io::AsyncReadExt::read(&mut socket, &mut some).await.unwrap();
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let bed = bed().host("a", plain("a"), &[addr]).start().await;
        bed.get("a", "/").await;
        assert_eq!(bed.said().await, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn paths_that_are_none() {
    let bed = bed().start().await;
    let answer = bed.raw(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(bed.said().await, "404 - absolute_path_rejected");
}

#[tokio::test]
async fn tunnels_are_not_ended() {
    let bed = bed().start().await;
    let answer =
        bed.raw(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(bed.said().await, "403 - upgrade_failed");
}

#[tokio::test]
async fn answers_are_not_split() {
    // What an application sends comes back in a header, as it is and decoded.
    let upstream = Upstream::echo().await;
    let mut route = plain("a");
    route.response_headers = set(
        &[
            ("x-path", "%REQ(:PATH)%"),
            ("x-back", "%REQ(x-there)%"),
            ("x-command", "%REQ(x-command)%"),
        ],
        &[],
    );
    let redirect = egressd_tables::Redirect {
        status: 302,
        authority: "b.example".into(),
        path: egressd_tables::PathRedirect::Whole("".into()),
        scheme: None,
        port: None,
    };
    let away = super::support::route(egressd_tables::RouteAction::Redirect(redirect));
    let bed = bed().host("a", route, &[upstream.addr]).host("b", away, &[]).start().await;
    let evil = "%0d%0aSet-Cookie:%20evil=1";
    let asked = format!(
        "GET /{evil} HTTP/1.1\r\nHost: a\r\nX-There: {evil}\r\nX-Command: %UPSTREAM_HOST%%%\r\n\r\n\
         GET /{evil} HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
    );
    let answer = bed.raw(asked.as_bytes()).await;
    assert!(answer.contains(&format!("x-path: /{evil}\r\n")), "{answer}");
    assert!(answer.contains(&format!("x-back: {evil}\r\n")), "{answer}");
    // What came in a header is a value, whatever it looks like.
    assert!(answer.contains("x-command: %UPSTREAM_HOST%%%\r\n"), "{answer}");
    assert!(answer.contains(&format!("location: http://b.example/{evil}\r\n")), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("\nset-cookie"), "{answer}");
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_in_time() {
    let idle = std::time::Duration::from_millis(150);
    let settings = HttpSettings { idle_connection: idle, ..HttpSettings::default() };
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).settings(settings).start().await;
    let start = std::time::Instant::now();
    let answer = bed.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(start.elapsed() >= idle);
    assert_eq!(bed.said().await, "200 - via_upstream");
}
