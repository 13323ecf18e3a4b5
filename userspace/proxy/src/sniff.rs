//! Sniffing: what a connection's first bytes are, found out without taking them from the socket.
//!
//! Only where the listener asks; a declared TCP port waits for no byte. The bytes are looked at in
//! place (MSG_PEEK), at most [`MOST`] of them, so that whatever reads the connection afterwards
//! gets all of it and nothing is copied or kept.
//!
//! A request may begin with any method. The rest of a line that begins with a method hardly anybody uses
//! is waited for a second, and for less where it has lower case, lest the client of another protocol waits
//! for its server's answer in vain.
//!
//! An application may stay silent because its server speaks first. Istio waits for ever by default;
//! so do we, bounded by the idle time of a relay, and for no longer than the listener's timeout.

pub(crate) mod http;
pub(crate) mod tls;

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

pub(crate) use self::{http::HttpVersion, tls::ClientHello};
use crate::{
    relay::scratch,
    socket::{Seen, Stream},
};

/// What the first bytes of a connection are, as far as they tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// More are needed.
    Undecided,
    /// A ClientHello, and the server name in it, in lower case.
    Tls(Option<Box<str>>),
    /// An HTTP/1 request.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// None of these, whatever follows.
    Other,
}

/// What a connection is that begins with these bytes, where TLS and HTTP are looked for. Once it is
/// decided, more bytes change nothing.
pub fn first_bytes(bytes: &[u8]) -> FirstBytes {
    let wanted = Wanted { tls: true, http: true, timeout: Duration::ZERO };
    match judge(bytes.get(..MOST).unwrap_or(bytes), wanted) {
        None => FirstBytes::Undecided,
        Some(Sniffed::Tls(hello)) => FirstBytes::Tls(hello.server_name),
        Some(Sniffed::Http(HttpVersion::Http1)) => FirstBytes::Http1,
        Some(Sniffed::Http(HttpVersion::Http2)) => FirstBytes::Http2,
        Some(Sniffed::Raw | Sniffed::Nothing) => FirstBytes::Other,
    }
}

/// What there is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Whether it is TLS, and for whom.
    pub(crate) tls: bool,
    /// Whether it is HTTP, and for whom.
    pub(crate) http: bool,
    /// How long to wait; then it is [`Sniffed::Raw`].
    pub(crate) timeout: Duration,
}

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// Nobody asked.
    Nothing,
    /// Neither TLS nor HTTP, or nothing in time.
    Raw,
    /// A ClientHello.
    Tls(ClientHello),
    /// An HTTP request.
    Http(HttpVersion),
}

/// What the bytes so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed<T> {
    /// It is one, and here it is.
    Whole(T),
    /// It may become one.
    Partial,
    /// It is none, whatever follows.
    Not,
}

/// Finds out what `stream` begins with.
///
/// # Errors
/// The application broke off, or went without a word.
pub(crate) async fn sniff(stream: &mut Stream, wanted: Wanted) -> io::Result<Sniffed> {
    let mut timer = pin!(sleep(wanted.timeout));
    let mut so_far = SoFar::default();
    let mut patience = Patience::default();
    poll_fn(|cx| {
        if let Poll::Ready(sniffed) = poll_sniff(cx, stream, wanted, &mut so_far) {
            return Poll::Ready(sniffed);
        }
        if let Some(limit) = so_far.patience
            && patience.poll(cx, limit).is_ready()
        {
            return Poll::Ready(Ok(Sniffed::Raw));
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Ok(Sniffed::Raw))
    })
    .await
}

/// What has come so far.
#[derive(Default)]
struct SoFar {
    /// Bytes.
    known: usize,
    /// How long more is waited for since they began to look like a request that hardly anybody sends.
    patience: Option<Duration>,
}

/// How long bytes have looked like a request that hardly anybody sends.
#[derive(Default)]
struct Patience(Option<(Instant, Pin<Box<Sleep>>)>);

impl Patience {
    /// Ready once `limit` is over since the first call.
    fn poll(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let (since, timer) = self.0.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(limit))));
        let end = *since + limit;
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        timer.as_mut().poll(cx)
    }
}

fn poll_sniff(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    wanted: Wanted,
    so_far: &mut SoFar,
) -> Poll<io::Result<Sniffed>> {
    scratch::with(|buffer| {
        let buffer = &mut buffer[..MOST];
        loop {
            let (seen, more) = match ready!(stream.poll_peek(cx, buffer, so_far.known))? {
                Seen::End(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Seen::End(seen) => (seen, false),
                Seen::Bytes(seen) => (seen, seen < MOST),
            };
            if let Some(sniffed) = judge(&buffer[..seen], wanted) {
                return Poll::Ready(Ok(sniffed));
            }
            if !more {
                // A request line beyond all measure is for HTTP to refuse.
                let http = wanted.http && seen == MOST && http::has_method(buffer);
                let endless = if http { Sniffed::Http(HttpVersion::Http1) } else { Sniffed::Raw };
                return Poll::Ready(Ok(endless));
            }
            so_far.known = seen;
            so_far.patience = if wanted.http { http::patience(&buffer[..seen]) } else { None };
        }
    })
}

/// What the first bytes are; `None` if more are needed to tell.
fn judge(bytes: &[u8], wanted: Wanted) -> Option<Sniffed> {
    let tls = if wanted.tls { tls::parse(bytes) } else { Parsed::Not };
    let http = if wanted.http { http::parse(bytes) } else { Parsed::Not };
    match (tls, http) {
        (Parsed::Whole(hello), _) => Some(Sniffed::Tls(hello)),
        (_, Parsed::Whole(head)) => Some(Sniffed::Http(head)),
        (Parsed::Not, Parsed::Not) => Some(Sniffed::Raw),
        (Parsed::Partial, _) | (_, Parsed::Partial) => None,
    }
}

/// Bytes looked at: the largest ClientHello and the largest request head that are understood. As
/// much as a thread's scratch buffer holds, and as Envoy looks at.
const MOST: usize = scratch::SIZE;

#[cfg(test)]
mod tests;
