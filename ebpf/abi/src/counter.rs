//! What the programs count, per CPU.

/// Number of counters.
pub const COUNTERS: u32 = 16;

/// Index of a counter in the per-CPU array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Counter {
    /// connect() calls turned towards the proxy.
    Captured = 0,
    /// connect() calls left alone because no row and no policy spoke of them.
    Unknown = 1,
    /// connect() calls refused by policy or by their row.
    Denied = 2,
    /// connect() calls that passed because the proxy was not there.
    PassedProxyDown = 3,
    /// connect() calls refused because the proxy was not there.
    RejectedProxyDown = 4,
    /// Sockets of our own cgroup without our mark.
    Unmarked = 5,
    /// Connections that reached a spread address without a hand-off.
    HandoffMiss = 6,
    /// Hand-offs taken back after a failed handshake.
    Reaped = 7,
    /// Records lost because the ring buffer was full.
    EventsLost = 8,
    /// Sockets bound to a device other than lo.
    BoundDevice = 9,
    /// Connections whose state or hand-off could not be stored.
    OutOfMemory = 10,
    /// Dials to the spread range by somebody else.
    DirectDial = 11,
    /// Records of denials that were not sent, because there were too many on one CPU within a second.
    EventsLimited = 12,
    /// connect() calls turned to an endpoint.
    Direct = 13,
    /// connect() calls refused because no endpoint may be sent to, or there were too many connections.
    DirectRefused = 14,
    /// Records of direct connections lost because the ring buffer was full.
    RecordsLost = 15,
}

impl Counter {
    /// Every counter, in index order.
    pub const ALL: [Self; COUNTERS as usize] = [
        Self::Captured,
        Self::Unknown,
        Self::Denied,
        Self::PassedProxyDown,
        Self::RejectedProxyDown,
        Self::Unmarked,
        Self::HandoffMiss,
        Self::Reaped,
        Self::EventsLost,
        Self::BoundDevice,
        Self::OutOfMemory,
        Self::DirectDial,
        Self::EventsLimited,
        Self::Direct,
        Self::DirectRefused,
        Self::RecordsLost,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Unknown => "unknown",
            Self::Denied => "denied",
            Self::PassedProxyDown => "passed_proxy_down",
            Self::RejectedProxyDown => "rejected_proxy_down",
            Self::Unmarked => "unmarked",
            Self::HandoffMiss => "handoff_miss",
            Self::Reaped => "reaped",
            Self::EventsLost => "events_lost",
            Self::BoundDevice => "bound_device",
            Self::OutOfMemory => "out_of_memory",
            Self::DirectDial => "direct_dial",
            Self::EventsLimited => "events_limited",
            Self::Direct => "direct",
            Self::DirectRefused => "direct_refused",
            Self::RecordsLost => "records_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_index_order() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }
}
