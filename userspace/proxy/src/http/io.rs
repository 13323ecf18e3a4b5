//! Connections as hyper reads and writes them.

mod fill;
mod tls;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

pub(crate) use self::tls::TlsIo;
use crate::socket::Stream;

/// A connection that HTTP is spoken on.
pub(crate) enum HttpIo {
    /// A socket, as it is.
    Plain(Stream),
    /// TLS on a socket.
    Tls(TlsIo),
}

impl HttpIo {
    /// Reads into `buf`, and lets `look` see, and change, what was read.
    pub(super) fn poll_read_and(
        &mut self,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
        mut look: impl FnMut(&mut [u8]),
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => {
                let read = stream.poll_read_with(cx, |fd| fill::recv(fd, &mut buf, &mut look));
                read.map_ok(|_bytes| ())
            }
            Self::Tls(tls) => {
                let read = |space: &mut [u8]| {
                    tls.poll_recv(cx, space).map_ok(|read| {
                        look(space.get_mut(..read).unwrap_or_default());
                        read
                    })
                };
                fill::poll_read(buf, read)
            }
        }
    }

    /// Waits for the peer's end or reset, whether or not it has been read up to there.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_gone(cx),
            Self::Tls(tls) => tls.poll_gone(cx),
        }
    }

    /// Says that no more bytes follow. From here on a drop ends the connection in order instead of
    /// breaking it off.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Plain(stream) => {
                stream.shutdown_write();
                stream.end();
            }
            Self::Tls(tls) => tls.finish(),
        }
    }
}

impl Read for HttpIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_read_and(cx, buf, |_| {})
    }
}

impl Write for HttpIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => stream.poll_send(cx, buf),
            Self::Tls(tls) => tls.poll_send(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self.get_mut(), bufs) {
            (Self::Plain(stream), [only]) => stream.poll_send(cx, only),
            (Self::Plain(stream), _)
                if bufs.iter().map(|one| one.len()).sum::<usize>() <= SMALL =>
            {
                // A head and a short body: copying them costs less than telling the kernel of two.
                let (mut all, mut filled) = ([0; SMALL], 0);
                for one in bufs {
                    if let Some(space) = all.get_mut(filled..filled + one.len()) {
                        space.copy_from_slice(one);
                        filled += one.len();
                    }
                }
                stream.poll_send(cx, all.get(..filled).unwrap_or_default())
            }
            (Self::Plain(stream), _) => stream.poll_write_with(cx, |fd| {
                let mut control = SendAncillaryBuffer::default();
                sendmsg(fd, bufs, &mut control, SendFlags::NOSIGNAL)
            }),
            (Self::Tls(tls), _) => tls.poll_send_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            plain @ Self::Plain(_) => {
                plain.finish();
                Poll::Ready(Ok(()))
            }
            Self::Tls(tls) => tls.poll_finish(cx),
        }
    }
}

/// Bytes in several pieces that are put together before they are sent.
const SMALL: usize = 2048;
