//! Datagrams on the direct path: what a UDP socket remembers of the services it speaks to.
//!
//! A socket may speak to several services at a time, and an answer says only which endpoint it comes
//! from; each service has a conversation with one endpoint, which stays as long as it may be sent to.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{addr::Endpoint, handoff::Original};

/// Services that one socket can speak to at the same time; one more takes the place of the oldest.
pub const CONVERSATIONS: u32 = 8;

/// A service that a socket speaks to. Written by one thread at a time; others read it meanwhile: what they
/// read is good if `started_ns` is the same before and after, and not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Conversation {
    /// What the application dials.
    pub dialled: Endpoint,
    /// Who answers.
    pub endpoint: Endpoint,
    /// The cluster's slot.
    pub cluster: u32,
    /// The endpoint's slot, or [`crate::NO_ENDPOINT`].
    pub slot: u32,
    /// The row's service.
    pub service: u32,
    /// The rows' generation.
    pub generation: u32,
    /// When it began, in nanoseconds of CLOCK_MONOTONIC; 0 where there is none.
    pub started_ns: u64,
}

const _: () = assert!(size_of::<Conversation>() == 64);

/// What a UDP socket carries from its first datagram to a service on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatagramSocket {
    /// Who the application is; the destination is that of the first conversation.
    pub original: Original,
    /// 1 while a thread writes.
    pub writing: u64,
    /// By place.
    pub conversations: [Conversation; CONVERSATIONS as usize],
    /// The place to give away next.
    pub next: u32,
    /// The place that was used last: where two services have the same endpoint, its answer is taken for
    /// this one's.
    pub latest: u32,
    /// The place of the service that connect() named, plus one; 0 for none.
    pub connected: u32,
    /// Nothing.
    pub reserved: u32,
}

const _: () = assert!(size_of::<DatagramSocket>() == 600);
