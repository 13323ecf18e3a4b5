//! What an application dialled, read from the accepted socket.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc};

use aya::maps::{MapData, MapError, SkStorage};

use crate::bytes::{self, OriginalBytes};

/// Reads the hand-off of accepted sockets. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Originals {
    map: Arc<SkStorage<MapData, OriginalBytes>>,
}

/// Who connected, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// The address and port given to connect().
    pub destination: SocketAddr,
    /// Index of the service that was dialled, in the tables of `generation`, where that is known.
    pub service: Option<u32>,
    /// The generation whose rows were read.
    pub generation: u32,
    /// The process that called connect().
    pub pid: u32,
    /// The real user who called connect().
    pub uid: u32,
    /// The cgroup of that process.
    pub cgroup: u64,
    /// The cookie of the application's socket.
    pub cookie: u64,
    /// The network namespace of the application's socket.
    pub netns: u64,
}

impl Originals {
    pub(crate) fn new(map: SkStorage<MapData, OriginalBytes>) -> Self {
        Self { map: Arc::new(map) }
    }

    /// What the peer of `accepted` dialled; `None` if it came without a hand-off.
    pub fn get(&self, accepted: &impl AsFd) -> io::Result<Option<Socket>> {
        use std::os::fd::AsRawFd as _;
        match self.map.get(&accepted.as_fd().as_raw_fd(), 0) {
            Ok(bytes) => Ok(Some(bytes::original(bytes).into())),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(MapError::SyscallError(error)) => {
                if error.io_error.raw_os_error() == Some(libc::ENOENT) {
                    return Ok(None);
                }
                Err(error.io_error)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl From<egressd_abi::Original> for Socket {
    fn from(original: egressd_abi::Original) -> Self {
        Self {
            destination: original.destination.socket_addr(),
            service: Some(original.service).filter(|id| *id != egressd_abi::NO_SERVICE),
            generation: original.generation,
            pid: original.pid,
            uid: original.uid,
            cgroup: original.cgroup,
            cookie: original.cookie,
            netns: original.netns,
        }
    }
}
