//! TLS as hyper needs it: a connection that can be used until it is dropped, and that then ends as it
//! was told to.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use crate::tls::TlsStream;

/// A TLS connection.
pub(crate) struct TlsIo {
    /// There until it is dropped.
    stream: Option<TlsStream>,
    /// A drop ends it in order.
    orderly: bool,
}

impl TlsIo {
    /// Takes over a connection that stands.
    pub(crate) fn new(stream: TlsStream) -> Self {
        Self { stream: Some(stream), orderly: false }
    }

    /// The connection itself; nothing once it has been dropped.
    pub(crate) fn into_inner(mut self) -> Option<TlsStream> {
        self.stream.take()
    }

    pub(super) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_recv(cx, buf)
    }

    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_send(cx, buf)
    }

    pub(super) fn poll_send_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream()?).poll_write_vectored(cx, bufs)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stream() {
            Ok(stream) => stream.poll_gone(cx),
            Err(_ended) => Poll::Ready(()),
        }
    }

    /// Says goodbye, inside TLS and below.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream()?.poll_shutdown_write(cx))?;
        self.finish();
        Poll::Ready(Ok(()))
    }

    pub(super) fn finish(&mut self) {
        self.orderly = true;
    }

    fn stream(&mut self) -> io::Result<&mut TlsStream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for TlsIo {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take().filter(|_| self.orderly) {
            stream.close();
        }
    }
}
