//! An application's connection as hyper reads and writes it: watched, and closed so that the last answer
//! still arrives.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

use super::Speaks;
use crate::http::{downstream::Downstream, framing::Framing, io::HttpIo};

/// An application's connection.
pub(super) struct AppIo {
    io: HttpIo,
    downstream: Arc<Downstream>,
    /// Looks at where messages begin and end; nothing for HTTP/2, where frames say so.
    framing: Option<Framing>,
    /// The application sends no more.
    ended: bool,
    /// hyper waits for bytes, and so will see the end.
    reading: bool,
    /// We send no more, and wait this long for the application to notice.
    lingering: Option<Pin<Box<Sleep>>>,
    /// Bytes that were thrown away in the meantime.
    wasted: usize,
}

impl AppIo {
    /// A connection that nothing was read from.
    pub(super) fn new(io: HttpIo, downstream: Arc<Downstream>, speaks: Speaks) -> Self {
        let framing = (speaks == Speaks::Http1).then(Framing::default);
        let (reading, lingering, wasted) = (false, None, 0);
        Self { io, downstream, framing, ended: false, reading, lingering, wasted }
    }

    /// The connection itself.
    pub(super) fn into_inner(self) -> HttpIo {
        self.io
    }

    /// Throws away what still comes, until the application ends or breaks off, or has had its time.
    /// Closing at once would reset the connection, and the reset may overtake the last answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 16 * 1024];
        while !self.ended {
            let mut buf = ReadBuf::new(&mut waste);
            match Pin::new(&mut self.io).poll_read(cx, buf.unfilled()) {
                Poll::Ready(Ok(())) => {
                    self.wasted += buf.filled().len();
                    self.ended = buf.filled().is_empty() || self.wasted > LINGER_BYTES;
                }
                Poll::Ready(Err(_gone)) => self.ended = true,
                Poll::Pending => {
                    let lingering = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
                    ready!(lingering.as_mut().poll(cx));
                    self.ended = true;
                }
            }
        }
        Poll::Ready(())
    }
}

impl Read for AppIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, downstream, framing, ended, reading, .. } = self.get_mut();
        let read = io.poll_read_and(cx, buf, |bytes| {
            if bytes.is_empty() {
                *ended = true;
                return;
            }
            let activity = &downstream.activity;
            // Frames of HTTP/2 come when there is no request, too.
            if let Some(framing) = framing
                && !activity.is_switched()
            {
                framing.look(bytes);
                activity.received(framing.is_in_head());
            }
        });
        *reading = read.is_pending();
        read
    }
}

impl Write for AppIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// hyper asks for this whenever it has done what it can. Where it does not read, because a body is
    /// not taken or further requests wait, an application that goes would never be noticed, and what
    /// the request holds never be given back.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        let reading = std::mem::take(&mut this.reading);
        if !reading
            && this.framing.is_some()
            && this.downstream.activity.is_busy()
            && this.io.poll_gone(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        this.poll_linger(cx).map(Ok)
    }
}

/// How long an application is given to notice that we have closed.
const LINGER: Duration = Duration::from_secs(1);
/// What it may send in that time: what may have been on its way, and not a flood.
const LINGER_BYTES: usize = 8 * 1024 * 1024;
