//! A TLS connection that stands.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::{CommonState, HandshakeKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{failure::TlsFailure, wire::Wire};
use crate::{addrs::LocalAddr, socket::Stream};

/// A TLS connection, either side of one. Read and written like the socket it is on, and as hyper
/// wants it.
///
/// Dropped, it is *reset*; [`TlsStream::close`] ends it in order, once
/// [`TlsStream::poll_shutdown_write`] has said goodbye.
///
/// # Writing
/// What [`TlsStream::poll_send`] takes may still be here, encrypted, when it returns:
/// [`TlsStream::poll_flush`] must be asked until it is ready, or the last bytes of a burst stay.
///
/// # Errors
/// They carry the reason: [`TlsFailure::from_io`]. A peer that closes without saying so inside TLS
/// gives an error of kind `UnexpectedEof`, not an end: somebody on the way may have cut the
/// connection short. A server that asks for a certificate we do not have tells so on the first read
/// after the handshake, because TLS 1.3 is over by then.
#[derive(Debug)]
pub(crate) struct TlsStream(Box<tokio_rustls::TlsStream<Wire>>);

impl TlsStream {
    pub(super) fn new(stream: tokio_rustls::TlsStream<Wire>) -> Self {
        Self(Box::new(stream))
    }

    /// Reads up to `buf.len()` bytes; 0 means that the peer sends no more.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(Pin::new(&mut *self.0).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Takes some of `buf` to be sent.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    /// Sends what was taken; ready when nothing of it is left here.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.common().wants_write() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    /// Tells the peer that no more bytes follow, inside TLS and below. Reading goes on.
    pub(crate) fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }

    /// Waits for the peer's reset while nothing is read from it; never ready otherwise.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.wire().poll_reset(cx)
    }

    /// Waits for the end or reset of the connection below, whether or not it has been read up to there.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire().poll_gone(cx)
    }

    /// Closes in order: what was sent still arrives, then the end.
    pub(crate) fn close(self) {
        match *self.0 {
            tokio_rustls::TlsStream::Client(stream) => stream.into_inner().0,
            tokio_rustls::TlsStream::Server(stream) => stream.into_inner().0,
        }
        .close();
    }

    /// From here on, dropping it closes in order. Goodbye has been said, or need not be.
    pub(crate) fn end(&mut self) {
        self.wire().end();
    }

    fn wire(&mut self) -> &mut Stream {
        match &mut *self.0 {
            tokio_rustls::TlsStream::Client(stream) => stream.get_mut().0,
            tokio_rustls::TlsStream::Server(stream) => stream.get_mut().0,
        }
        .stream_mut()
    }

    /// Our end's address; `None` for a Unix socket.
    pub(crate) fn local_addr(&self) -> Option<LocalAddr> {
        self.0.get_ref().0.stream().local_addr()
    }

    /// The application protocol both sides have settled on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// The name the client asked for; nothing on the client's side.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match &*self.0 {
            tokio_rustls::TlsStream::Client(_) => None,
            tokio_rustls::TlsStream::Server(stream) => stream.get_ref().1.server_name(),
        }
    }

    /// The handshake was shortened, because the sides knew each other.
    pub(crate) fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The peer's certificate as it was sent, if it sent one.
    pub(crate) fn peer_certificate(&self) -> Option<&[u8]> {
        Some(self.common().peer_certificates()?.first()?.as_ref())
    }

    /// Why a read or a write failed.
    pub(crate) fn failure(error: &io::Error) -> TlsFailure {
        TlsFailure::from_io(error)
    }

    fn common(&self) -> &CommonState {
        self.0.get_ref().1
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
