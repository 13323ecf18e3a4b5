//! Reading into hyper's buffers without clearing them first; hyper offers no safe way to do so.

use std::{
    io,
    os::fd::BorrowedFd,
    task::{Poll, ready},
};

use hyper::rt::ReadBufCursor;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv as recv_from_socket},
};

/// Takes bytes from a socket and shows them to `look`; says how many, and whether that emptied the
/// socket for certain.
pub(super) fn recv(
    fd: BorrowedFd<'_>,
    buf: &mut ReadBufCursor<'_>,
    look: impl FnOnce(&mut [u8]),
) -> Result<(usize, bool), Errno> {
    #[expect(unsafe_code, reason = "the buffer is not initialised before it is filled")]
    // SAFETY: the slice is given to recv() alone, which reads nothing of it.
    let space = unsafe { buf.as_mut() };
    let capacity = space.len();
    let ((filled, _), read) = recv_from_socket(fd, space, RecvFlags::empty())?;
    look(filled);
    #[expect(unsafe_code, reason = "only we know how much was filled")]
    // SAFETY: recv() has filled so many bytes at the start of what was unfilled.
    unsafe {
        buf.advance(read);
    }
    // A short read has emptied the socket; whatever comes later is a new event.
    Ok((read, read < capacity))
}

/// Lets `read` fill some of the buffer, which is cleared before, and says how much it was.
pub(super) fn poll_read(
    mut buf: ReadBufCursor<'_>,
    read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<()>> {
    let capacity = buf.remaining().min(MOST);
    let space = buf.initialize_unfilled_to(capacity);
    let read = ready!(read(space))?.min(capacity);
    #[expect(unsafe_code, reason = "only we know how much was filled")]
    // SAFETY: all of `space` is initialised, and `read` is at most its length.
    unsafe {
        buf.advance(read);
    }
    Poll::Ready(Ok(()))
}

/// Bytes cleared and read at once: a record of TLS.
const MOST: usize = 16 * 1024;
