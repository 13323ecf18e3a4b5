//! What the programs report through the ring buffer: rare things only.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::handoff::Original;

/// A connect() was denied.
pub const EVENT_DENIED: u32 = 1;
/// A process connects in a network namespace where nothing of ours listens.
pub const EVENT_NEW_NETNS: u32 = 2;

/// No service has the destination and the policy is REGISTRY_ONLY.
pub const REASON_UNKNOWN_DESTINATION: u32 = 1;
/// The proxy does not listen in the network namespace.
pub const REASON_PROXY_DOWN: u32 = 2;
/// The row has no usable path.
pub const REASON_NO_PATH: u32 = 3;

/// One report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    kind: u32,
    /// Why; one of the `REASON_` constants for [`EVENT_DENIED`], else 0.
    pub reason: u32,
    /// What was dialled and by whom.
    pub original: Original,
    /// The errno the application got, or 0.
    pub errno: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Event>() == 88);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// See [`EVENT_DENIED`].
    Denied,
    /// See [`EVENT_NEW_NETNS`].
    NewNetns,
}

impl Event {
    /// A report of one kind; `kind` is one of the `EVENT_` constants.
    #[inline(always)]
    pub const fn new(kind: u32, reason: u32, time_ns: u64, original: Original) -> Self {
        Self { time_ns, kind, reason, original, errno: 0, reserved: 0 }
    }

    /// What happened; `None` for a kind this version does not know.
    pub const fn kind(&self) -> Option<EventKind> {
        match self.kind {
            EVENT_DENIED => Some(EventKind::Denied),
            EVENT_NEW_NETNS => Some(EventKind::NewNetns),
            _ => None,
        }
    }
}
