//! The rows a generation puts into the kernel's lookup tables.
//!
//! Five tables are asked in this order and the first hit wins: exact `{address, port}`, longest
//! prefix with the port, longest prefix with any port, port alone, and at last the policy.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Endpoint;

/// The key of the exact table and, behind a prefix length, of the prefix tables.
///
/// For a prefix table the port comes before the address, because a longest-prefix match can only
/// leave its tail open; port 0 stands for "any port".
pub type RowKey = Endpoint;

/// The significant bits of a [`RowKey`] for a network of `prefix` bits: port, family and the
/// reserved byte count in full.
pub const fn lpm_bits(prefix: u8) -> u32 {
    32 + prefix as u32
}

/// What a row says about the connections that match it.
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
pub struct Row {
    verdict: u8,
    flags: u8,
    reserved: [u8; 2],
    service: u32,
    direct: u32,
}

const _: () = assert!(size_of::<Row>() == 12);

const VERDICT_LEAVE: u8 = 1;
const VERDICT_PROXY: u8 = 2;
const VERDICT_REFUSE: u8 = 3;
/// The kernel itself chooses the endpoint.
const VERDICT_DIRECT: u8 = 4;

const FLAG_REJECT_ON_DOWN: u8 = 1;
const FLAG_PASS_ON_DOWN: u8 = 2;
const FLAG_ALLOCATED: u8 = 4;
const FLAG_NO_PATH: u8 = 8;
const FLAG_POLICY: u8 = 16;

/// What a row wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowVerdict {
    /// Leave the connection to the kernel: an excluded destination.
    Leave,
    /// Turn it towards the proxy.
    Proxy,
    /// Refuse it inside connect() with ECONNREFUSED.
    Refuse,
    /// Rewrite it to an endpoint inside connect().
    Direct,
}

/// What happens to a connection when the proxy does not listen in its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum OnDown {
    /// As `capture.onProxyDown` says for the whole daemon.
    #[default]
    Default,
    /// Leave it to the kernel.
    Passthrough,
    /// ECONNREFUSED.
    Reject,
}

impl Row {
    /// No row: its verdict is one that nobody knows.
    pub const NONE: Self = Self { verdict: 0, flags: 0, reserved: [0; 2], service: 0, direct: 0 };

    /// A row for the service with this index in the generation's tables.
    pub const fn new(verdict: RowVerdict, service: u32) -> Self {
        let verdict = match verdict {
            RowVerdict::Leave => VERDICT_LEAVE,
            RowVerdict::Proxy => VERDICT_PROXY,
            RowVerdict::Refuse => VERDICT_REFUSE,
            RowVerdict::Direct => VERDICT_DIRECT,
        };
        Self { verdict, flags: 0, reserved: [0; 2], service, direct: 0 }
    }

    /// A row of [`RowVerdict::Direct`]; `direct` is the index of its route among the generation's
    /// direct routes.
    pub const fn new_direct(service: u32, direct: u32) -> Self {
        Self { direct, ..Self::new(RowVerdict::Direct, service) }
    }

    /// The row with its connections turned to the proxy, if they would go to an endpoint.
    #[inline(always)]
    pub const fn proxied(mut self) -> Self {
        if self.verdict == VERDICT_DIRECT {
            self.verdict = VERDICT_PROXY;
        }
        self
    }

    /// The index of the row's route among the generation's direct routes.
    #[inline(always)]
    pub const fn direct(&self) -> u32 {
        self.direct
    }

    /// The row with its own answer to a proxy that is down.
    pub const fn on_down(mut self, on_down: OnDown) -> Self {
        self.flags &= !(FLAG_REJECT_ON_DOWN | FLAG_PASS_ON_DOWN);
        self.flags |= match on_down {
            OnDown::Default => 0,
            OnDown::Passthrough => FLAG_PASS_ON_DOWN,
            OnDown::Reject => FLAG_REJECT_ON_DOWN,
        };
        self
    }

    /// The row marked as an allocated VIP: an address that leads nowhere without us, so that it is
    /// never passed through.
    pub const fn allocated(mut self) -> Self {
        self.flags |= FLAG_ALLOCATED;
        self
    }

    /// The row marked as having no usable path: EHOSTUNREACH.
    pub const fn no_path(mut self) -> Self {
        self.flags |= FLAG_NO_PATH;
        self
    }

    /// The row marked as the outbound traffic policy's: it stands for everything that no service has,
    /// so that a network namespace's own addresses are left alone, as they are without such a row.
    pub const fn policy(mut self) -> Self {
        self.flags |= FLAG_POLICY;
        self
    }

    /// Whether the row is the policy's.
    #[inline(always)]
    pub const fn is_policy(&self) -> bool {
        self.flags & FLAG_POLICY != 0
    }

    /// Whether this is [`Row::NONE`].
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.verdict == 0
    }

    /// What the row wants; `None` for a byte this version does not know.
    #[inline(always)]
    pub const fn verdict(&self) -> Option<RowVerdict> {
        match self.verdict {
            VERDICT_LEAVE => Some(RowVerdict::Leave),
            VERDICT_PROXY => Some(RowVerdict::Proxy),
            VERDICT_REFUSE => Some(RowVerdict::Refuse),
            VERDICT_DIRECT => Some(RowVerdict::Direct),
            _ => None,
        }
    }

    /// The row's own answer to a proxy that is down.
    #[inline(always)]
    pub const fn when_down(&self) -> OnDown {
        if self.flags & FLAG_REJECT_ON_DOWN != 0 {
            OnDown::Reject
        } else if self.flags & FLAG_PASS_ON_DOWN != 0 {
            OnDown::Passthrough
        } else {
            OnDown::Default
        }
    }

    /// Whether the address was allocated by us.
    #[inline(always)]
    pub const fn is_allocated(&self) -> bool {
        self.flags & FLAG_ALLOCATED != 0
    }

    /// Whether no endpoint can be reached through this row.
    #[inline(always)]
    pub const fn has_no_path(&self) -> bool {
        self.flags & FLAG_NO_PATH != 0
    }

    /// The index of the service in the generation's tables.
    #[inline(always)]
    pub const fn service(&self) -> u32 {
        self.service
    }
}
