//! A way through an endpoint to somewhere else, opened by an HTTP/1.1 CONNECT (semantics.md §4,
//! tunnel). Behind the answer's head the connection belongs to the application.

use std::{future::poll_fn, io};

use egressd_tables::Tunnel;

use super::Upstream;
use crate::{
    record::TunnelFailure,
    socket::{Seen, Stream},
    tls::TlsStream,
};

/// Asks for the way, and waits for the answer.
///
/// # Errors
/// The endpoint did not say 2xx.
pub(super) async fn open(upstream: &mut Upstream, tunnel: &Tunnel) -> Result<(), TunnelFailure> {
    let target = target(tunnel);
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    upstream.send(request.as_bytes()).await.map_err(|error| closed(&error))?;
    let status = match upstream {
        Upstream::Plain(stream) => plain_answer(stream).await?,
        Upstream::Tls(stream) => tls_answer(stream).await?,
    };
    if (200..300).contains(&status) { Ok(()) } else { Err(TunnelFailure::Status(status)) }
}

fn target(tunnel: &Tunnel) -> String {
    let Tunnel { host, port, .. } = tunnel;
    if host.contains(':') && !host.starts_with('[') {
        return format!("[{host}]:{port}");
    }
    format!("{host}:{port}")
}

/// Looks until the head is whole, and takes it and nothing behind it.
async fn plain_answer(stream: &mut Stream) -> Result<u16, TunnelFailure> {
    let mut buffer = vec![0; HEAD_MOST];
    let mut known = 0;
    loop {
        let seen = poll_fn(|cx| stream.poll_peek(cx, &mut buffer, known)).await;
        known = match seen.map_err(|error| closed(&error))? {
            Seen::Bytes(seen) => seen,
            Seen::End(_) => return Err(TunnelFailure::Closed),
        };
        if let Some((status, length)) = head(&buffer[..known])? {
            let mut rest = &mut buffer[..length];
            while !rest.is_empty() {
                let taken = poll_fn(|cx| stream.poll_recv(cx, rest)).await;
                let taken = taken.map_err(|error| closed(&error))?;
                if taken == 0 {
                    return Err(TunnelFailure::Closed);
                }
                rest = &mut rest[taken..];
            }
            return Ok(status);
        }
    }
}

/// Takes the head byte by byte: they lie decrypted in memory, and cannot be put back.
async fn tls_answer(stream: &mut TlsStream) -> Result<u16, TunnelFailure> {
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        let taken = poll_fn(|cx| stream.poll_recv(cx, &mut byte)).await;
        if taken.map_err(|error| closed(&error))? == 0 {
            return Err(TunnelFailure::Closed);
        }
        answer.extend_from_slice(&byte);
        if byte == *b"\n"
            && let Some((status, _)) = head(&answer)?
        {
            return Ok(status);
        }
        if answer.len() >= HEAD_MOST {
            return Err(TunnelFailure::NotHttp);
        }
    }
}

/// The status of the answer and the length of its head, if that is whole.
///
/// Informational answers may come before: they are passed over.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize)>, TunnelFailure> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if !rest.starts_with(&START[..rest.len().min(START.len())]) {
            return Err(TunnelFailure::NotHttp);
        }
        let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") else {
            let full = bytes.len() >= HEAD_MOST;
            return if full { Err(TunnelFailure::NotHttp) } else { Ok(None) };
        };
        // `HTTP/1.1 200 ...`
        let digits = rest.get(9..12).and_then(|digits| str::from_utf8(digits).ok());
        let status = digits.and_then(|digits| digits.parse().ok()).ok_or(TunnelFailure::NotHttp)?;
        at += end + 4;
        if !(100..200).contains(&status) {
            return Ok(Some((status, at)));
        }
    }
}

fn closed(error: &io::Error) -> TunnelFailure {
    tracing::debug!(%error, "the tunnel's endpoint broke off");
    TunnelFailure::Closed
}

const START: &[u8] = b"HTTP/1.";
/// Bytes in the head of an answer: what Envoy takes, too.
const HEAD_MOST: usize = 60 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_an_answer() {
        let answer = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
        for length in 0..answer.len() {
            assert_eq!(head(&answer[..length]), Ok(None), "{length}");
        }
        assert_eq!(head(answer), Ok(Some((200, answer.len()))));
        let mut more = answer.to_vec();
        more.extend_from_slice(b"the application's");
        assert_eq!(head(&more), Ok(Some((200, answer.len()))));
    }

    #[test]
    fn what_is_said_before_the_answer_is_passed_over() {
        let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 403 No\r\n\r\n";
        assert_eq!(head(&answer[..30]), Ok(None));
        assert_eq!(head(answer), Ok(Some((403, answer.len()))));
    }

    #[test]
    fn what_is_not_an_answer() {
        for bytes in ["SSH-2.0", "HTTP/2", "HTTP/1.1\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(head(bytes.as_bytes()), Err(TunnelFailure::NotHttp), "{bytes}");
        }
        let endless = [START, &[b'x'; HEAD_MOST]].concat();
        assert_eq!(head(&endless), Err(TunnelFailure::NotHttp));
    }

    #[test]
    fn targets_are_authorities() {
        let written = |host: &str| target(&Tunnel { post: false, host: host.into(), port: 443 });
        assert_eq!(written("a.example"), "a.example:443");
        assert_eq!(written("10.0.0.1"), "10.0.0.1:443");
        assert_eq!(written("2001:db8::1"), "[2001:db8::1]:443");
    }
}
