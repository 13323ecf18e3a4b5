//! A connected socket on this thread's reactor.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};

use tokio::task::coop;

use super::{Watched, linux};
use crate::{addrs::LocalAddr, alert};

/// A connected, non-blocking stream socket, TCP or Unix.
///
/// Dropped, it is *reset*, so that a peer never takes a flow that broke off for one that ended,
/// unless [`Stream::end`] was called before.
///
/// Calls go to the kernel first and to the reactor only when the kernel has nothing: on a new
/// socket that saves a turn of the event loop.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: Watched,
    /// There may be bytes that the reactor does not know of yet: it need not be asked before a read.
    fresh: bool,
    /// The last write found the send buffer full: ask the reactor before the next one.
    full: bool,
    orderly: bool,
    /// The peer has reset already, and the kernel has told; it tells once.
    reset: Option<Errno>,
}

/// What a look at the received bytes found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The first so many bytes of the buffer are filled; more than at the last look.
    Bytes(usize),
    /// The peer has sent all it will: the first so many bytes of the buffer are filled.
    End(usize),
}

impl Stream {
    /// Takes over an accepted socket, whose application may have sent something already.
    pub(crate) fn accepted(fd: OwnedFd) -> Self {
        Self { fd: Watched::new(fd), fresh: true, full: false, orderly: false, reset: None }
    }

    /// Takes over a socket that has been connected, or is being: nothing can have come yet.
    pub(super) fn connected(fd: OwnedFd) -> Self {
        let mut stream = Self::accepted(fd);
        stream.fresh = false;
        stream
    }

    /// Takes over a socket that was connected and that the peer has reset since: what the peer sent
    /// in between can be read, and then the reset shows.
    pub(super) fn after_reset(fd: OwnedFd, error: Errno) -> Self {
        let mut stream = Self::accepted(fd);
        stream.reset = Some(error);
        stream
    }

    /// Reads up to `buf.len()` bytes; 0 means that the peer sends no more.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |fd| {
            let (read, _) = recv(fd, &mut *buf, RecvFlags::empty())?;
            // A short read has emptied the socket; whatever comes later is a new event.
            Ok((read, read < buf.len()))
        })
    }

    /// Runs `read`, which takes bytes from the socket and says how many, and whether that emptied
    /// it for certain, once the socket is readable.
    pub(crate) fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(BorrowedFd<'_>) -> Result<(usize, bool), Errno>,
    ) -> Poll<io::Result<usize>> {
        if self.fresh {
            // The reactor keeps count of a task's turn, and what goes past it has to as well: somebody
            // who sends without end would have this thread for himself.
            let turn = ready!(coop::poll_proceed(cx));
            match retrying(|| read(self.fd.as_fd())) {
                Err(Errno::AGAIN) => self.fresh = false,
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok((taken, emptied)) => {
                    turn.made_progress();
                    self.fresh = !emptied;
                    return Poll::Ready(self.taken(taken));
                }
            }
        }
        let (fd, watch) = self.fd.watch()?;
        loop {
            let mut ready = ready!(watch.poll_read_ready(cx))?;
            match retrying(|| read(fd)) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok((taken, emptied)) => {
                    if emptied {
                        ready.clear_ready();
                    }
                    return Poll::Ready(self.taken(taken));
                }
            }
        }
    }

    fn taken(&self, bytes: usize) -> io::Result<usize> {
        alert::note();
        match self.reset {
            Some(error) if bytes == 0 => Err(error.into()),
            Some(_) | None => Ok(bytes),
        }
    }

    /// Looks at the received bytes without taking them, until there are more than `known`.
    pub(crate) fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
        known: usize,
    ) -> Poll<io::Result<Seen>> {
        let mut peek = |fd: BorrowedFd<'_>| match retrying(|| recv(fd, &mut *buf, RecvFlags::PEEK))
        {
            Ok((0, _)) => Ok(Some(Seen::End(0))),
            Ok((seen, _)) if seen > known => Ok(Some(Seen::Bytes(seen))),
            Ok(_) | Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(io::Error::from(error)),
        };
        if self.fresh {
            if let Some(seen) = peek(self.fd.as_fd())? {
                return Poll::Ready(Ok(seen));
            }
            self.fresh = false;
        }
        let (fd, watch) = self.fd.watch()?;
        loop {
            let mut ready = ready!(watch.poll_read_ready(cx))?;
            if let Some(seen) = peek(fd)? {
                return Poll::Ready(Ok(seen));
            }
            if ready.ready().is_read_closed() {
                return Poll::Ready(Ok(Seen::End(known)));
            }
            ready.clear_ready();
        }
    }

    /// Writes some of `buf`.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |fd| send(fd, buf, SendFlags::NOSIGNAL))
    }

    /// Runs `write`, which gives bytes to the socket and says how many, once it takes some.
    pub(crate) fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        if !self.full {
            match retrying(|| write(self.fd.as_fd())) {
                Err(Errno::AGAIN) => self.full = true,
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
        }
        let (fd, watch) = self.fd.watch()?;
        loop {
            let mut ready = ready!(watch.poll_write_ready(cx))?;
            match retrying(|| write(fd)) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                done => {
                    self.full = false;
                    return Poll::Ready(done.map_err(io::Error::from));
                }
            }
        }
    }

    /// Waits until a connect() in progress is over.
    pub(super) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        let unwatched = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM);
        let (_, watch) = self.fd.watch().map_err(unwatched)?;
        let _writable = ready!(watch.poll_write_ready(cx)).map_err(unwatched)?;
        Poll::Ready(match take_error(self.fd.as_fd()) {
            None => Ok(()),
            Some(error) if says_established(error) => {
                self.reset = Some(error);
                Ok(())
            }
            Some(error) => Err(error),
        })
    }

    /// Waits for the peer's reset while nothing is read from it; never ready otherwise.
    ///
    /// Forgets that the socket is writable, which nobody relies on: writes are tried first.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.poll_broken(cx) {
            Poll::Ready(Ok(error) | Err(error)) => Poll::Ready(error),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Waits for the peer's end or reset, whether or not what it has sent before has been read.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Without a watch it shows when the next byte is written.
        let Ok((_, watch)) = self.fd.watch() else { return Poll::Pending };
        loop {
            let Ok(mut ready) = ready!(watch.poll_read_ready(cx)) else { return Poll::Pending };
            if ready.ready().is_read_closed() {
                return Poll::Ready(());
            }
            // The next read asks the socket and not the reactor, which forgets that there is something.
            ready.clear_ready();
            self.fresh = true;
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<io::Error>> {
        if self.full {
            // Whoever waits to write is woken by a reset, and needs to be told of room as well.
            return Poll::Pending;
        }
        let (fd, watch) = self.fd.watch()?;
        loop {
            let mut ready = ready!(watch.poll_write_ready(cx))?;
            if ready.ready().is_write_closed() {
                // Without an error both sides have said goodbye, and there is nothing to wait for.
                return take_error(fd).map_or(Poll::Pending, |error| Poll::Ready(Ok(error.into())));
            }
            ready.clear_ready();
        }
    }

    /// Tells the peer that no more bytes follow.
    pub(crate) fn shutdown_write(&self) {
        // The one error possible is that the peer has gone, and reading tells that better.
        shutdown(&self.fd, Shutdown::Write).ok();
    }

    /// Closes in order.
    pub(crate) fn close(mut self) {
        self.end();
    }

    /// From here on, dropping it closes in order: what was written still arrives, then the end.
    pub(crate) fn end(&mut self) {
        self.orderly = true;
    }

    /// Our end's address; `None` for a Unix socket.
    pub(crate) fn local_addr(&self) -> Option<LocalAddr> {
        linux::local_addr(&self.fd).map(LocalAddr)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.orderly {
            // On a Unix socket this has no effect: there a close is all there is.
            sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO)).ok();
        }
    }
}

/// Whether an error of connect() means that the connection stood, and was reset before we looked: a
/// peer that does not take it refuses.
pub(super) fn says_established(error: Errno) -> bool {
    matches!(error, Errno::CONNRESET | Errno::PIPE)
}

fn take_error(fd: BorrowedFd<'_>) -> Option<Errno> {
    match sockopt::socket_error(fd) {
        Ok(Ok(())) => None,
        Ok(Err(error)) | Err(error) => Some(error),
    }
}

fn retrying<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
