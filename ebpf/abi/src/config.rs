//! What the daemon tells the programs beside the rows.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The network the spread addresses come from: dialling it directly is denied.
pub const SPREAD_NETWORK: [u8; 4] = [127, 64, 0, 0];
/// Prefix length of [`SPREAD_NETWORK`].
pub const SPREAD_PREFIX: u8 = 10;
/// At most this many IPv4 spread addresses, counted from 127.64.0.1.
pub const MAX_SPREAD_V4: u32 = 16;
/// At most this many consecutive ports on `::1`.
pub const MAX_SPREAD_V6: u32 = 16;

const FLAG_REJECT_ON_DOWN: u32 = 1;
const FLAG_DNS_ALL: u32 = 2;

/// Set once before anything is attached, and unchanged while it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// The cgroup egressd itself runs in; 0 for none.
    pub own_cgroup: u64,
    /// The mark of our own upstream sockets (SO_MARK).
    pub mark: u32,
    /// The proxy's port on the spread addresses, and the first of those on `::1`; host order.
    pub port: u32,
    /// Number of IPv4 spread addresses in use, 1 to [`MAX_SPREAD_V4`].
    pub spread_v4: u32,
    /// Number of ports on `::1` in use, 0 (no IPv6) to [`MAX_SPREAD_V6`].
    pub spread_v6: u32,
    flags: u32,
    /// The DNS server's port on its spread addresses, and the first of those on `::1`, in host
    /// order; 0 when DNS is not captured.
    pub dns_port: u32,
    /// The cookie of the daemon's network namespace; 0 for unknown.
    pub netns: u64,
}

const _: () = assert!(size_of::<Config>() == 40);

impl Config {
    /// A configuration with `capture.onProxyDown: passthrough`.
    pub const fn new(own_cgroup: u64, mark: u32, port: u16, v4: u32, v6: u32) -> Self {
        Self {
            own_cgroup,
            mark,
            port: port as u32,
            spread_v4: v4,
            spread_v6: v6,
            flags: 0,
            dns_port: 0,
            netns: 0,
        }
    }

    /// The same with the cookie of the daemon's network namespace.
    pub const fn in_netns(mut self, netns: u64) -> Self {
        self.netns = netns;
        self
    }

    /// The same with DNS captured: all servers' queries, or those of listed servers.
    pub const fn capture_dns(mut self, port: u16, all: bool) -> Self {
        self.dns_port = port as u32;
        self.flags |= if all { FLAG_DNS_ALL } else { 0 };
        self
    }

    /// Whether queries to every server are captured.
    #[inline(always)]
    pub const fn captures_all_dns(&self) -> bool {
        self.flags & FLAG_DNS_ALL != 0
    }

    /// The same with `capture.onProxyDown: reject`.
    pub const fn reject_on_down(mut self) -> Self {
        self.flags |= FLAG_REJECT_ON_DOWN;
        self
    }

    /// Whether a connection is refused when no proxy listens and its row does not say otherwise.
    #[inline(always)]
    pub const fn rejects_on_down(&self) -> bool {
        self.flags & FLAG_REJECT_ON_DOWN != 0
    }
}

const GENERATION_DENY_UNKNOWN: u32 = 1;
const GENERATION_PREFIXES: u32 = 2;
const GENERATION_PORTS: u32 = 4;
const GENERATION_EXCLUDES: u32 = 8;
const GENERATION_DATAGRAMS: u32 = 16;

/// The head of one generation of rows.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Generation {
    /// The number of the generation, as the daemon counts them.
    pub number: u32,
    flags: u32,
}

const _: () = assert!(size_of::<Generation>() == 8);

impl Generation {
    /// A generation without rows that leaves everything alone.
    pub const fn new(number: u32) -> Self {
        Self { number, flags: 0 }
    }

    /// Says that the policy is REGISTRY_ONLY: a destination without a row is denied.
    pub const fn deny_unknown(mut self, on: bool) -> Self {
        self.flags |= if on { GENERATION_DENY_UNKNOWN } else { 0 };
        self
    }

    /// Says which optional tables hold anything, so that empty ones are not asked.
    pub const fn tables(mut self, prefixes: bool, ports: bool, excludes: bool) -> Self {
        self.flags |= if prefixes { GENERATION_PREFIXES } else { 0 };
        self.flags |= if ports { GENERATION_PORTS } else { 0 };
        self.flags |= if excludes { GENERATION_EXCLUDES } else { 0 };
        self
    }

    /// Says whether there are rows for UDP.
    pub const fn datagrams(mut self, on: bool) -> Self {
        self.flags |= if on { GENERATION_DATAGRAMS } else { 0 };
        self
    }

    /// Whether there are rows for UDP.
    #[inline(always)]
    pub const fn has_datagrams(&self) -> bool {
        self.flags & GENERATION_DATAGRAMS != 0
    }

    /// Whether a destination without a row is denied.
    #[inline(always)]
    pub const fn denies_unknown(&self) -> bool {
        self.flags & GENERATION_DENY_UNKNOWN != 0
    }

    /// Whether there are prefix rows.
    #[inline(always)]
    pub const fn has_prefixes(&self) -> bool {
        self.flags & GENERATION_PREFIXES != 0
    }

    /// Whether there are port-only rows.
    #[inline(always)]
    pub const fn has_ports(&self) -> bool {
        self.flags & GENERATION_PORTS != 0
    }

    /// Whether there are excluded networks or ports.
    #[inline(always)]
    pub const fn has_excludes(&self) -> bool {
        self.flags & GENERATION_EXCLUDES != 0
    }
}
