//! A descriptor that this thread's reactor watches once somebody has to wait for it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use tokio::io::unix::AsyncFd;

/// A non-blocking descriptor. The reactor learns of it when it is first waited for: until then a
/// connection costs no watch, and its first bytes no delay.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Before `fd`, so that it is dropped before the descriptor is closed.
    watch: Option<AsyncFd<RawFd>>,
    fd: OwnedFd,
}

impl Watched {
    /// Takes over a descriptor, which must not block.
    pub(crate) fn new(fd: impl Into<OwnedFd>) -> Self {
        Self { watch: None, fd: fd.into() }
    }

    /// The descriptor and its watch.
    ///
    /// # Errors
    /// The reactor could not take it: it is out of memory or watches.
    pub(crate) fn watch(&mut self) -> io::Result<(BorrowedFd<'_>, &AsyncFd<RawFd>)> {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => register(&self.fd)?,
        };
        Ok((self.fd.as_fd(), self.watch.insert(watch)))
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn register(fd: &OwnedFd) -> io::Result<AsyncFd<RawFd>> {
    #[expect(unsafe_code, reason = "the reactor cannot know that the descriptor stays open")]
    // SAFETY: `Watched`, the only caller, owns the descriptor, never changes it, and drops the watch
    // before it.
    let watch = unsafe { AsyncFd::register(fd.as_raw_fd()) };
    Ok(watch?)
}
