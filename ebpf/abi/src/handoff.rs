//! How the original destination travels from the application's socket to ours.
//!
//! connect() leaves an [`Original`] on the application's socket; before the SYN it is put under the
//! connection's [`Tuple`]; when the accepted socket is born it moves there and the tuple goes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{addr::Endpoint, host::NO_SERVICE};

/// What the application dialled, and who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Original {
    /// The address and port given to connect().
    pub destination: Endpoint,
    /// Index of the service that was dialled, in the tables of [`Original::generation`]: that of the
    /// row that matched, or where connect() was denied, of the address; else [`NO_SERVICE`].
    pub service: u32,
    /// The generation whose rows were read.
    pub generation: u32,
    /// The process (thread group) that called connect().
    pub pid: u32,
    /// The identifier of that process's cgroup.
    pub cgroup: u64,
    /// The cookie of the application's socket.
    pub cookie: u64,
    /// The network namespace of the application's socket.
    pub netns: u64,
    /// The real user who called connect().
    pub uid: u32,
    /// Nothing.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Original>() == 64);

impl Original {
    /// An original destination with everything else unknown.
    #[inline(always)]
    pub const fn new(destination: Endpoint) -> Self {
        Self {
            destination,
            service: NO_SERVICE,
            generation: 0,
            pid: 0,
            cgroup: 0,
            cookie: 0,
            netns: 0,
            uid: 0,
            reserved: 0,
        }
    }
}

/// A connection on its way to us: both ends and the listener's network namespace.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Tuple {
    /// The cookie of the network namespace of both ends.
    pub netns: u64,
    /// The application's end.
    pub client: Endpoint,
    /// Our end: a spread address.
    pub server: Endpoint,
}

const _: () = assert!(size_of::<Tuple>() == 48);

/// What the application's socket carries from connect() to close().
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketState {
    /// What was dialled.
    pub original: Original,
    /// The key under which the hand-off waits; meaningful while `pending` is 1.
    pub tuple: Tuple,
    /// 1 from the SYN until the handshake is over, for better or worse; else 0.
    pub pending: u32,
    /// Index of the spread address the connection was turned to; [`SocketState::NO_HANDOFF`] for a
    /// connection that needs none.
    pub spread: u32,
}

impl SocketState {
    /// A DNS query over TCP: the server answers without knowing who was asked.
    pub const NO_HANDOFF: u32 = u32::MAX;
}

const _: () = assert!(size_of::<SocketState>() == 120);
