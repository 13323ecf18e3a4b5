//! What the kernel side knows about an accepted connection.

use std::{io, os::fd::BorrowedFd};

use crate::addrs::OriginalDst;

/// What the application dialled, and who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// The address and port given to connect(); an IPv4-mapped address is given as IPv4.
    pub destination: OriginalDst,
    /// The process (thread group) that called connect().
    pub pid: u32,
    /// The real user who called connect().
    pub uid: u32,
    /// The identifier of that process's cgroup.
    pub cgroup: u64,
    /// The cookie of the application's socket.
    pub cookie: u64,
    /// The cookie of the application's network namespace.
    pub netns: u64,
    /// The generation whose kernel rows turned the connection to us.
    pub generation: u32,
}

impl Original {
    /// An original destination with everything else unknown (zero).
    pub const fn new(destination: OriginalDst) -> Self {
        Self { destination, pid: 0, uid: 0, cgroup: 0, cookie: 0, netns: 0, generation: 0 }
    }
}

/// Tells what the application dialled, given our accepted socket.
///
/// Called once per accepted connection, on the worker's thread: it must not block. `Ok(None)` means
/// that the connection reached us without a hand-off; it is reset and counted.
pub trait Originals: Send + Sync + 'static {
    /// Looks `socket` up.
    ///
    /// # Errors
    /// The lookup itself failed; the connection is treated as one without a hand-off.
    fn original(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Original>>;
}

impl<F> Originals for F
where
    F: Fn(BorrowedFd<'_>) -> io::Result<Option<Original>> + Send + Sync + 'static,
{
    fn original(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Original>> {
        self(socket)
    }
}
