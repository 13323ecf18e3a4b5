//! Layouts and decisions shared by the eBPF programs and the daemon.
//!
//! Everything here is `no_std`, safe, and free of aya, so that the kernel side, the daemon and the
//! host-run tests see the same bytes and the same answers.
//!
//! **Byte order.** Addresses and ports are kept as bytes in network order and nowhere else;
//! constructors take [`core::net`] types and `u16`, accessors give them back. Counters, indices and
//! identifiers are native-endian integers: both sides run on one machine.
//!
//! **Layout.** Every struct that crosses the line is `repr(C)`, has no padding (proved by
//! zerocopy's `IntoBytes`), and asserts its size. Kinds are `u8` constants, read through a fallible
//! function: never a Rust enum inside a map, where a stray byte would be undefined behaviour.
#![no_std]

mod addr;
mod balance;
mod config;
mod counter;
mod datagram;
mod decide;
mod direct;
mod dns;
mod event;
mod handoff;
mod host;
mod row;

pub use addr::{Addr, Endpoint, FAMILY_V4, FAMILY_V6};
pub use balance::{
    first_is_less_busy, first_wins, hash_ip, hash_words, mix, ticket, turn_point, turn_step,
};
pub use config::{Config, Generation, MAX_SPREAD_V4, MAX_SPREAD_V6, SPREAD_NETWORK, SPREAD_PREFIX};
pub use counter::{COUNTERS, Counter};
pub use datagram::{CONVERSATIONS, Conversation, DatagramSocket};
pub use decide::{
    Class, Deny, Errno, Facts, Leave, Matched, Socket, Verdict, classify, decide, needs_listener,
};
pub use direct::*;
pub use dns::{
    DNS_HEARTBEAT_LIMIT_NS, DNS_PORT, DNS_SLOTS, DNS_SPREAD, DnsFacts, DnsSocket, captures_dns,
};
pub use event::{
    EVENT_DENIED, EVENT_NEW_NETNS, Event, EventKind, REASON_NO_PATH, REASON_PROXY_DOWN,
    REASON_UNKNOWN_DESTINATION,
};
pub use handoff::{Original, SocketState, Tuple};
pub use host::{Host, HostAddress, LONG_NAME, NO_SERVICE, SHORT_NAME, name_key, name_of};
pub use row::{OnDown, Row, RowKey, RowVerdict, lpm_bits};
