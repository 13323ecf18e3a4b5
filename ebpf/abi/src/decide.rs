//! The one place that decides what the kernel does with a connect().
//!
//! Pure: the programs gather [`Facts`] and act on the [`Verdict`]; the tests run the same function
//! on the host. The rules and their order are those of design.md, "The kernel side".

use crate::{
    addr::Endpoint,
    config::{Config, SPREAD_NETWORK},
    row::{OnDown, Row, RowVerdict},
};

/// What kind of place a destination is, before any table is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Loopback, unspecified or link-local: left alone unless an exact row names it.
    Local,
    /// Where the proxy listens: nobody dials it by himself.
    Spread,
    /// Everywhere else.
    Remote,
}

/// Which table the row came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// `{address, port}`.
    Exact,
    /// A network, with or without a port.
    Prefix,
    /// The port alone.
    Port,
    /// None of them.
    Nothing,
}

/// What is known of the connecting socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The current cgroup is egressd's own leaf.
    pub own_cgroup: bool,
    /// SO_MARK is ours.
    pub marked: bool,
    /// SO_BINDTODEVICE names a device other than lo.
    pub bound_device: bool,
}

/// Everything a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The kind of destination.
    pub class: Class,
    /// The connecting socket.
    pub socket: Socket,
    /// The table that had a row.
    pub matched: Matched,
    /// That row, or [`Row::NONE`]. Beside `matched` and not inside an `Option`, whose payload LLVM
    /// reads before it knows that there is one: the verifier then refuses the program (`!read_ok`).
    pub row: Row,
    /// The destination is in `capture.excludeCidrs` or `capture.excludePorts`.
    pub excluded: bool,
    /// The destination is an address of the socket's own network namespace.
    pub own_address: bool,
    /// A capture program (of any instance) has rewritten this very connect().
    pub rewritten: bool,
    /// A listener tagged as ours is in the socket's network namespace.
    pub listener: bool,
    /// The policy is REGISTRY_ONLY.
    pub denies_unknown: bool,
    /// `capture.onProxyDown` is `reject`.
    pub rejects_on_down: bool,
}

/// Why a connection is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It is egressd's own.
    Ours,
    /// It is turned to a proxy already.
    Rewritten,
    /// Its destination is local to the host or the namespace.
    Local,
    /// The configuration excludes its destination.
    Excluded,
    /// Nothing is known of its destination, and the policy is ALLOW_ANY.
    Unknown,
    /// Its socket is bound to a device.
    BoundDevice,
    /// The proxy is not there.
    ProxyDown,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deny {
    /// A socket of our own cgroup without our mark.
    Unmarked,
    /// A dial to the spread range.
    DirectDial,
    /// No service has the destination and the policy is REGISTRY_ONLY, or its row says so.
    UnknownDestination,
    /// There is no usable path to the destination.
    NoPath,
    /// The proxy is not there.
    ProxyDown,
}

/// The error connect() returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// ECONNREFUSED.
    Refused,
    /// EHOSTUNREACH.
    Unreachable,
}

impl Errno {
    /// The number, as in Linux's uapi/asm-generic/errno.h.
    #[inline(always)]
    pub const fn number(self) -> i32 {
        match self {
            Self::Refused => 111,
            Self::Unreachable => 113,
        }
    }
}

/// What becomes of a connect().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel goes on as if we were not there.
    Leave(Leave),
    /// connect() fails.
    Deny(Deny, Errno),
    /// connect() is rewritten to the proxy's listener.
    Proxy(Row),
    /// connect() is rewritten to an endpoint.
    Direct(Row),
}

/// The kind of place `destination` is; `config` says which ports of `::1` are the proxy's.
#[inline(always)]
pub fn classify(destination: &Endpoint, config: &Config) -> Class {
    let b = destination.addr().bytes();
    if destination.is_v4() {
        if b[0] == SPREAD_NETWORK[0] {
            let spread = b[1] & 0xc0 == SPREAD_NETWORK[1];
            return if spread { Class::Spread } else { Class::Local };
        }
        let unspecified = b[0] | b[1] | b[2] | b[3] == 0;
        let link_local = b[0] == 169 && b[1] == 254;
        return if unspecified || link_local { Class::Local } else { Class::Remote };
    }
    if b[0] == 0xfe && b[1] & 0xc0 == 0x80 {
        return Class::Local;
    }
    let head = b[0] | b[1] | b[2] | b[3] | b[4] | b[5] | b[6] | b[7];
    let middle = b[8] | b[9] | b[10] | b[11] | b[12] | b[13] | b[14];
    if head | middle != 0 || b[15] > 1 {
        return Class::Remote;
    }
    let offset = (destination.port() as u32).wrapping_sub(config.port);
    // The kernel takes `::` for `::1`.
    if offset < config.spread_v6 { Class::Spread } else { Class::Local }
}

/// Whether the decision hangs on [`Facts::listener`], so that it must be looked up.
///
/// True exactly when [`decide`] would answer [`Verdict::Proxy`] with a listener.
#[inline(always)]
pub fn needs_listener(facts: &Facts) -> bool {
    matches!(decide(&Facts { listener: true, ..*facts }), Verdict::Proxy(_))
}

/// Decides.
#[inline(always)]
pub fn decide(facts: &Facts) -> Verdict {
    if facts.socket.own_cgroup {
        return if facts.socket.marked {
            Verdict::Leave(Leave::Ours)
        } else {
            Verdict::Deny(Deny::Unmarked, Errno::Refused)
        };
    }
    if matches!(facts.class, Class::Spread) {
        return if facts.rewritten {
            Verdict::Leave(Leave::Rewritten)
        } else {
            Verdict::Deny(Deny::DirectDial, Errno::Refused)
        };
    }
    let exact = matches!(facts.matched, Matched::Exact);
    if matches!(facts.class, Class::Local) && !exact {
        return Verdict::Leave(Leave::Local);
    }
    if facts.excluded && !exact {
        return Verdict::Leave(Leave::Excluded);
    }
    let unnamed =
        matches!(facts.matched, Matched::Port | Matched::Nothing) || facts.row.is_policy();
    if facts.own_address && unnamed {
        return Verdict::Leave(Leave::Local);
    }
    if matches!(facts.matched, Matched::Nothing) {
        return if facts.denies_unknown {
            Verdict::Deny(Deny::UnknownDestination, Errno::Refused)
        } else {
            Verdict::Leave(Leave::Unknown)
        };
    }
    let row = facts.row;
    if row.has_no_path() {
        return Verdict::Deny(Deny::NoPath, Errno::Unreachable);
    }
    match row.verdict() {
        Some(RowVerdict::Leave) => Verdict::Leave(Leave::Excluded),
        Some(RowVerdict::Refuse) => Verdict::Deny(Deny::UnknownDestination, Errno::Refused),
        Some(RowVerdict::Proxy) => proxy(facts, row),
        Some(RowVerdict::Direct) => Verdict::Direct(row),
        None => Verdict::Deny(Deny::NoPath, Errno::Unreachable),
    }
}

#[inline(always)]
fn proxy(facts: &Facts, row: Row) -> Verdict {
    if facts.socket.bound_device {
        // A row for a port or a network says nothing of this very address: under REGISTRY_ONLY
        // anybody who binds a device would pass where the proxy might have refused.
        let only_perhaps = facts.denies_unknown && !matches!(facts.matched, Matched::Exact);
        return if row.is_allocated() || only_perhaps {
            Verdict::Deny(Deny::NoPath, Errno::Unreachable)
        } else {
            Verdict::Leave(Leave::BoundDevice)
        };
    }
    if facts.listener {
        return Verdict::Proxy(row);
    }
    let reject = match row.when_down() {
        OnDown::Reject => true,
        OnDown::Passthrough => false,
        OnDown::Default => facts.rejects_on_down,
    };
    if reject || row.is_allocated() {
        Verdict::Deny(Deny::ProxyDown, Errno::Refused)
    } else {
        Verdict::Leave(Leave::ProxyDown)
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use super::*;

    const CONFIG: Config = Config::new(7, 1, 15001, 16, 16);
    const PLAIN: Facts = Facts {
        class: Class::Remote,
        socket: Socket { own_cgroup: false, marked: false, bound_device: false },
        matched: Matched::Nothing,
        row: Row::NONE,
        excluded: false,
        own_address: false,
        rewritten: false,
        listener: true,
        denies_unknown: false,
        rejects_on_down: false,
    };
    const ROW: Row = Row::new(RowVerdict::Proxy, 3);

    fn with_row(matched: Matched, row: Row) -> Facts {
        Facts { matched, row, ..PLAIN }
    }

    #[test]
    fn classes() {
        for (text, class) in [
            ("127.0.0.1:80", Class::Local),
            ("127.63.255.255:80", Class::Local),
            ("127.64.0.0:80", Class::Spread),
            ("127.127.255.255:1", Class::Spread),
            ("127.128.0.0:1", Class::Local),
            ("0.0.0.0:80", Class::Local),
            ("0.0.0.1:80", Class::Remote),
            ("169.254.169.254:80", Class::Local),
            ("169.255.0.1:80", Class::Remote),
            ("128.64.0.1:80", Class::Remote),
            ("[::]:15001", Class::Spread),
            ("[::]:80", Class::Local),
            ("[::1]:15000", Class::Local),
            ("[::1]:15001", Class::Spread),
            ("[::1]:15016", Class::Spread),
            ("[::1]:15017", Class::Local),
            ("[::2]:15001", Class::Remote),
            ("[1::1]:15001", Class::Remote),
            ("[fe80::1]:80", Class::Local),
            ("[febf::1]:80", Class::Local),
            ("[fec0::1]:80", Class::Remote),
            ("[::ffff:127.64.0.1]:80", Class::Spread),
        ] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(classify(&addr.into(), &CONFIG), class, "{text}");
        }
    }

    #[test]
    fn exempt_needs_mark_and_cgroup() {
        let socket = |own_cgroup, marked| Facts {
            socket: Socket { own_cgroup, marked, bound_device: false },
            ..with_row(Matched::Exact, ROW)
        };
        assert_eq!(decide(&socket(true, true)), Verdict::Leave(Leave::Ours));
        assert_eq!(decide(&socket(true, false)), Verdict::Deny(Deny::Unmarked, Errno::Refused));
        assert_eq!(decide(&socket(false, true)), Verdict::Proxy(ROW));
    }

    #[test]
    fn local_destinations_need_an_exact_row() {
        for matched in [Matched::Prefix, Matched::Port] {
            let facts = Facts { class: Class::Local, ..with_row(matched, ROW) };
            assert_eq!(decide(&facts), Verdict::Leave(Leave::Local));
        }
        let facts = Facts { class: Class::Local, ..with_row(Matched::Exact, ROW) };
        assert_eq!(decide(&facts), Verdict::Proxy(ROW));
        let facts = Facts { class: Class::Local, denies_unknown: true, ..PLAIN };
        assert_eq!(decide(&facts), Verdict::Leave(Leave::Local));
    }

    #[test]
    fn own_addresses_are_left_by_ports_and_policy_only() {
        let own = |facts| Facts { own_address: true, denies_unknown: true, ..facts };
        let everything = with_row(Matched::Prefix, ROW.policy());
        assert_eq!(decide(&own(everything)), Verdict::Leave(Leave::Local));
        assert_eq!(decide(&everything), Verdict::Proxy(ROW.policy()));
        assert_eq!(decide(&own(with_row(Matched::Port, ROW))), Verdict::Leave(Leave::Local));
        assert_eq!(decide(&own(PLAIN)), Verdict::Leave(Leave::Local));
        assert_eq!(decide(&own(with_row(Matched::Prefix, ROW))), Verdict::Proxy(ROW));
        assert_eq!(decide(&own(with_row(Matched::Exact, ROW))), Verdict::Proxy(ROW));
    }

    #[test]
    fn unknown_follows_the_policy() {
        assert_eq!(decide(&PLAIN), Verdict::Leave(Leave::Unknown));
        let facts = Facts { denies_unknown: true, ..PLAIN };
        assert_eq!(decide(&facts), Verdict::Deny(Deny::UnknownDestination, Errno::Refused));
    }

    #[test]
    fn spread_range_is_for_rewritten_connects_only() {
        let facts = Facts { class: Class::Spread, ..PLAIN };
        assert_eq!(decide(&facts), Verdict::Deny(Deny::DirectDial, Errno::Refused));
        let facts = Facts { rewritten: true, ..facts };
        assert_eq!(decide(&facts), Verdict::Leave(Leave::Rewritten));
    }

    #[test]
    fn proxy_down() {
        let down = |row, rejects_on_down| {
            let facts = with_row(Matched::Exact, row);
            decide(&Facts { listener: false, rejects_on_down, ..facts })
        };
        let leave = Verdict::Leave(Leave::ProxyDown);
        let deny = Verdict::Deny(Deny::ProxyDown, Errno::Refused);
        assert_eq!(down(ROW, false), leave);
        assert_eq!(down(ROW, true), deny);
        assert_eq!(down(ROW.on_down(OnDown::Reject), false), deny);
        assert_eq!(down(ROW.on_down(OnDown::Passthrough), true), leave);
        assert_eq!(down(ROW.on_down(OnDown::Passthrough).allocated(), false), deny);
    }

    #[test]
    fn bound_devices_are_not_captured() {
        let bound = |row| {
            let socket = Socket { bound_device: true, ..PLAIN.socket };
            decide(&Facts { socket, ..with_row(Matched::Exact, row) })
        };
        assert_eq!(bound(ROW), Verdict::Leave(Leave::BoundDevice));
        let unreachable = Verdict::Deny(Deny::NoPath, Errno::Unreachable);
        assert_eq!(bound(ROW.allocated()), unreachable);
        let socket = Socket { bound_device: true, ..PLAIN.socket };
        let strict =
            |matched| decide(&Facts { socket, denies_unknown: true, ..with_row(matched, ROW) });
        assert_eq!(strict(Matched::Exact), Verdict::Leave(Leave::BoundDevice));
        assert_eq!(strict(Matched::Port), unreachable);
        assert_eq!(strict(Matched::Prefix), unreachable);
    }

    #[test]
    fn rows() {
        let exact = |row| decide(&with_row(Matched::Exact, row));
        assert_eq!(exact(ROW.no_path()), Verdict::Deny(Deny::NoPath, Errno::Unreachable));
        let refuse = Row::new(RowVerdict::Refuse, 0);
        assert_eq!(exact(refuse), Verdict::Deny(Deny::UnknownDestination, Errno::Refused));
        let leave = Row::new(RowVerdict::Leave, 0);
        assert_eq!(exact(leave), Verdict::Leave(Leave::Excluded));
        let excluded = Facts { excluded: true, ..with_row(Matched::Prefix, ROW) };
        assert_eq!(decide(&excluded), Verdict::Leave(Leave::Excluded));
        let named = Facts { excluded: true, ..with_row(Matched::Exact, ROW) };
        assert_eq!(decide(&named), Verdict::Proxy(ROW));
    }
}
