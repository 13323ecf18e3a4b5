//! Capturing DNS queries: what a socket remembers, and the decision.
//!
//! A socket may ask several servers before it reads an answer, so each server it asks gets a slot,
//! and each slot a spread address of its own: the answer comes back from that address, and the slot
//! says whom the application believes to have asked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Endpoint;

/// The port whose queries are captured.
pub const DNS_PORT: u16 = 53;
/// Servers one socket can tell apart at the same time; one more takes the oldest one's slot.
pub const DNS_SLOTS: u32 = 16;
/// Slot `n` of IPv4 servers is 127.64.53.(n + 1); of IPv6 servers, port `dns_port + n` of `::1`.
pub const DNS_SPREAD: [u8; 4] = [127, 64, 53, 0];
/// A DNS thread that has not written its heartbeat for this long hangs; in nanoseconds.
pub const DNS_HEARTBEAT_LIMIT_NS: u64 = 1_000_000_000;

/// What a UDP socket carries from its first captured query on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DnsSocket {
    /// The servers asked, by slot; all zero for a free one.
    pub servers: [Endpoint; DNS_SLOTS as usize],
    /// The slot to give away next.
    pub next: u32,
    /// 1 when connect() was captured, so that getpeername() has an answer in slot 0.
    pub connected: u32,
}

const _: () = assert!(size_of::<DnsSocket>() == 328);

/// Everything the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsFacts {
    /// The destination's port is [`DNS_PORT`].
    pub to_dns_port: bool,
    /// The current cgroup is egressd's own.
    pub own_cgroup: bool,
    /// SO_BINDTODEVICE names a device other than lo: what is turned to loopback would be lost.
    pub bound_device: bool,
    /// The server is one whose queries are captured, or all are.
    pub server_is_captured: bool,
    /// The DNS socket tagged as ours is in the network namespace.
    pub listener: bool,
    /// Nanoseconds since the DNS thread last wrote its heartbeat.
    pub heartbeat_age_ns: u64,
}

/// Whether a query is turned to our DNS server.
///
/// Whenever we are not there, or hang, everybody's DNS works as if we did not exist.
#[inline(always)]
pub const fn captures_dns(facts: &DnsFacts) -> bool {
    facts.to_dns_port
        && !facts.own_cgroup
        && !facts.bound_device
        && facts.server_is_captured
        && facts.listener
        && facts.heartbeat_age_ns < DNS_HEARTBEAT_LIMIT_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_counts() {
        let yes = DnsFacts {
            to_dns_port: true,
            own_cgroup: false,
            bound_device: false,
            server_is_captured: true,
            listener: true,
            heartbeat_age_ns: DNS_HEARTBEAT_LIMIT_NS - 1,
        };
        assert!(captures_dns(&yes));
        for no in [
            DnsFacts { to_dns_port: false, ..yes },
            DnsFacts { own_cgroup: true, ..yes },
            DnsFacts { bound_device: true, ..yes },
            DnsFacts { server_is_captured: false, ..yes },
            DnsFacts { listener: false, ..yes },
            DnsFacts { heartbeat_age_ns: DNS_HEARTBEAT_LIMIT_NS, ..yes },
        ] {
            assert!(!captures_dns(&no), "{no:?}");
        }
    }
}
