//! Network namespaces: their cookies, and visiting them.
//!
//! A visit is made by a thread of its own, which enters with setns() and ends there: no other thread
//! ever runs in a foreign namespace, and sockets it made stay where they were made.
use std::{
    fs::File,
    io,
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd as _},
};

use nix::sched::{CloneFlags, setns};

/// What the kernel calls a network namespace, for as long as the machine runs: never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsCookie(u64);

impl NetnsCookie {
    /// A cookie as an eBPF program reported it.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The number itself.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The cookie of the calling thread's network namespace.
    pub fn current() -> io::Result<Self> {
        // An unbound socket tells without sending anything; a host may lack one of the families.
        let socket =
            UdpSocket::bind("127.0.0.1:0").or_else(|_down| UdpSocket::bind("0.0.0.0:0"))?;
        Self::of(&socket)
    }

    /// The cookie of a socket's network namespace (SO_NETNS_COOKIE, Linux 5.14).
    #[expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe wrapper")]
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let mut cookie = 0_u64;
        let mut size = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `size` bytes into `cookie`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut size,
            )
        };
        if result == 0 { Ok(Self(cookie)) } else { Err(io::Error::last_os_error()) }
    }
}

const SO_NETNS_COOKIE: libc::c_int = 71;

/// Runs `work` on a new thread inside the network namespace of process `pid`.
///
/// # Errors
/// The process is gone, or CAP_SYS_ADMIN (to enter) or CAP_SYS_PTRACE (to look) is missing.
pub fn in_netns_of<T: Send + 'static>(
    pid: u32,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let netns = File::open(format!("/proc/{pid}/ns/net"))?;
    let visit = move || -> io::Result<T> {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    let thread = std::thread::Builder::new().name("egressd-netns".to_owned()).spawn(visit)?;
    thread.join().map_err(|_panic| io::Error::other("the visiting thread panicked"))?
}
