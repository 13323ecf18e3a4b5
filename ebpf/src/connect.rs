//! connect(): gather the facts, decide, act.

use aya_ebpf::{bindings::bpf_sock, programs::SockAddrContext};
use aya_log_ebpf::debug;
use egressd_abi::{
    Class, Config, Counter, DNS_PORT, Deny, END_NO_ENDPOINT, END_OVERFLOW, Endpoint, Errno, Facts,
    Leave, Matched, NO_SERVICE, Original, PROTOCOL_TCP, REASON_NO_PATH, REASON_PROXY_DOWN,
    REASON_UNKNOWN_DESTINATION, Row, RowVerdict, SocketState, Verdict, classify, decide,
    needs_listener,
};

use crate::{
    ALLOW, REFUSE,
    context::{self, Family},
    datagram, direct, dns, handoff, listener,
    maps::{CONFIG, DIRECT_SOCKETS, EGRESSD_REWRIT, SOCKETS},
    report,
    rows::{self, Snapshot},
    storage,
};

/// One connect() of any socket: whether it may go on, perhaps elsewhere.
///
/// Each way has a function of its own, so that the verifier counts only the deepest one's stack.
#[inline(always)]
pub(crate) fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    if context::is_udp(ctx) {
        return datagrams(ctx, family);
    }
    if !context::is_tcp(ctx) {
        return ALLOW;
    }
    stream(ctx, family)
}

/// One connect() of a TCP socket.
#[inline(never)]
fn stream(ctx: &SockAddrContext, family: Family) -> i32 {
    let sk = context::sock_addr_socket(ctx);
    let Some(config) = CONFIG.get(0) else {
        return ALLOW;
    };
    if sk.is_null() {
        return ALLOW;
    }
    direct::forget(sk);
    let mut to = Endpoint::from_v4_bytes([0; 4], [0; 2]);
    read_address(ctx, family, &mut to);
    if to.port() == DNS_PORT {
        let result = query(ctx, sk, &to, config, family);
        if result != UNDECIDED {
            return result;
        }
    }
    let snapshot = Snapshot::current();
    let (matched, row) = snapshot.row(&to);
    let mut dialled = Dialled { to: &to, config, snapshot: &snapshot, matched, row };
    if row.verdict() == Some(RowVerdict::Direct) && may_be_direct(ctx, sk, &dialled, family) {
        let result = direct(ctx, sk, &dialled, family);
        if result != UNDECIDED {
            return result;
        }
    }
    dialled.row = row.proxied();
    let mut index = listener::NOBODY;
    match judge(ctx, sk, &dialled, family, &mut index) {
        CAPTURE => capture(ctx, sk, &dialled, index, family),
        what if what <= LEAVE_REWRITTEN => leave(ctx, sk, &to, what),
        what => deny(ctx, sk, &dialled, what),
    }
}

/// Nothing was done: somebody else is to decide.
const UNDECIDED: i32 = -1;

/// What connect() was called with, and what is known of that.
struct Dialled<'a> {
    to: &'a Endpoint,
    config: &'a Config,
    snapshot: &'a Snapshot,
    matched: Matched,
    row: Row,
}

/// The address of the call. Not in line: put together byte by byte, it takes much of the stack.
#[inline(never)]
fn read_address(ctx: &SockAddrContext, family: Family, to: &mut Endpoint) {
    *to = context::address(ctx, family);
}

/// Puts an endpoint in place of the address of the call. Not in line for the stack's sake; and the family
/// comes in a register, as the verifier of 6.1 loses it in what is handed over on the stack.
#[inline(never)]
pub(crate) fn turn_to(ctx: &SockAddrContext, family: Family, to: &Endpoint) {
    context::rewrite(ctx, to, family);
}

/// One connect() of a UDP socket.
#[inline(never)]
fn datagrams(ctx: &SockAddrContext, family: Family) -> i32 {
    datagram::turn(ctx, dns::Call::Connect, family)
}

/// Turns a query over TCP to our DNS server.
#[inline(never)]
fn query(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    to: &Endpoint,
    config: &Config,
    family: Family,
) -> i32 {
    if !dns::captures(ctx, sk, to, config, dns::Transport::Tcp) {
        return UNDECIDED;
    }
    let original = who(ctx, to, &Snapshot::current(), NO_SERVICE);
    let target = dns::tcp_target(config, to);
    proxy(ctx, sk, original, &target, SocketState::NO_HANDOFF, family)
}

/// Turns a connect() to an endpoint, or refuses it.
#[inline(never)]
fn direct(ctx: &SockAddrContext, sk: *mut bpf_sock, dialled: &Dialled<'_>, family: Family) -> i32 {
    let Dialled { to, snapshot, row, .. } = dialled;
    let (slot, service) = (snapshot.cluster(row), row.service());
    let generation = snapshot.head.number;
    let call = direct::Call { ctx, sk, to, family, slot, service, generation };
    let result = direct::turn(&call);
    if result == direct::PROXY {
        return UNDECIDED;
    }
    // The proxy and other instances know nothing of this connection.
    if forget(sk) {
        storage::delete(&EGRESSD_REWRIT, sk.cast());
    }
    if result == direct::TURNED {
        report::count(Counter::Direct);
        if let Some(state) = storage::get(&DIRECT_SOCKETS, sk.cast()) {
            turn_to(ctx, family, &state.endpoint);
        }
        return ALLOW;
    }
    report::count(Counter::DirectRefused);
    let end = if result == direct::NOBODY { END_NO_ENDPOINT } else { END_OVERFLOW };
    direct::record::refused(&call, end, PROTOCOL_TCP);
    fail(Errno::Refused)
}

/// Whether the rules let a row of the direct path have its way. In another network namespace an endpoint
/// may be somebody else, or nobody; what is bound to a device is not captured; and from loopback the proxy
/// is reached, and perhaps no endpoint. There the row is the proxy's.
#[inline(never)]
fn may_be_direct(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    dialled: &Dialled<'_>,
    family: Family,
) -> bool {
    let facts = gather(ctx, sk, dialled);
    report::netns(ctx) == dialled.config.netns
        && !facts.socket.bound_device
        && !context::is_bound_to_loopback(sk, family)
        && matches!(decide(&facts), Verdict::Direct(_))
}

/// What becomes of a connect() that no endpoint is chosen for: one of the numbers below, and for
/// [`CAPTURE`] the index of the proxy's listener. A number and not a [`Verdict`], which would be handed
/// over on the stack with bytes that nobody has written.
#[inline(never)]
fn judge(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    dialled: &Dialled<'_>,
    family: Family,
    index: &mut u32,
) -> u32 {
    let Dialled { to, config, .. } = *dialled;
    let mut facts = gather(ctx, sk, dialled);
    if needs_listener(&facts) {
        *index = listener::choose(ctx, config, family == Family::V4 || to.is_v4());
        facts.listener = *index != listener::NOBODY;
    }
    match decide(&facts) {
        Verdict::Leave(Leave::Unknown) => LEAVE_UNKNOWN,
        Verdict::Leave(Leave::BoundDevice) => LEAVE_BOUND,
        Verdict::Leave(Leave::ProxyDown) => LEAVE_DOWN,
        Verdict::Leave(Leave::Rewritten) => LEAVE_REWRITTEN,
        Verdict::Leave(Leave::Ours | Leave::Local | Leave::Excluded) => LEAVE,
        Verdict::Deny(Deny::Unmarked, _) => DENY_UNMARKED,
        Verdict::Deny(Deny::DirectDial, _) => DENY_DIRECT_DIAL,
        Verdict::Deny(Deny::UnknownDestination, _) => DENY_UNKNOWN,
        Verdict::Deny(Deny::ProxyDown, _) => DENY_DOWN,
        // Rows of the direct path are the proxy's by here.
        Verdict::Deny(Deny::NoPath, _) | Verdict::Direct(_) => DENY_NO_PATH,
        Verdict::Proxy(_) => CAPTURE,
    }
}

const CAPTURE: u32 = 0;
const LEAVE: u32 = 1;
const LEAVE_UNKNOWN: u32 = 2;
const LEAVE_BOUND: u32 = 3;
const LEAVE_DOWN: u32 = 4;
const LEAVE_REWRITTEN: u32 = 5;
const DENY_UNMARKED: u32 = 6;
const DENY_DIRECT_DIAL: u32 = 7;
const DENY_UNKNOWN: u32 = 8;
const DENY_NO_PATH: u32 = 9;
const DENY_DOWN: u32 = 10;

/// Turns a connect() to the proxy's listener with this index.
#[inline(never)]
fn capture(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    dialled: &Dialled<'_>,
    index: u32,
    family: Family,
) -> i32 {
    let Dialled { to, config, snapshot, row, .. } = *dialled;
    let original = who(ctx, to, snapshot, row.service());
    let target = listener::spread(config, index, family == Family::V4 || to.is_v4());
    proxy(ctx, sk, original, &target, index, family)
}

#[inline(always)]
fn gather(ctx: &SockAddrContext, sk: *mut bpf_sock, dialled: &Dialled<'_>) -> Facts {
    let Dialled { to, config, snapshot, matched, row } = *dialled;
    let own_cgroup = report::current_cgroup() == config.own_cgroup;
    let policy_decides = matched == Matched::Nothing && snapshot.head.denies_unknown();
    let own_matters = policy_decides || matched == Matched::Port || row.is_policy();
    let class = classify(to, config);
    Facts {
        class,
        socket: context::socket_facts(sk, own_cgroup, config.mark),
        matched,
        row,
        excluded: snapshot.excludes(to),
        own_address: own_matters && rows::is_own_address(report::netns(ctx), to),
        rewritten: class == Class::Spread && storage::get(&EGRESSD_REWRIT, sk.cast()).is_some(),
        listener: false,
        denies_unknown: snapshot.head.denies_unknown(),
        rejects_on_down: config.rejects_on_down(),
    }
}

#[inline(never)]
fn leave(ctx: &SockAddrContext, sk: *mut bpf_sock, to: &Endpoint, what: u32) -> i32 {
    let stale = forget(sk);
    // The mark of a connect() that another instance has turned is that instance's own.
    if stale && what != LEAVE_REWRITTEN {
        storage::delete(&EGRESSD_REWRIT, sk.cast());
    }
    match what {
        LEAVE_UNKNOWN => report::count(Counter::Unknown),
        LEAVE_BOUND => report::count(Counter::BoundDevice),
        LEAVE_DOWN => {
            report::count(Counter::PassedProxyDown);
            announce_netns(ctx, to);
        }
        _ => {}
    }
    ALLOW
}

#[inline(never)]
fn deny(ctx: &SockAddrContext, sk: *mut bpf_sock, dialled: &Dialled<'_>, what: u32) -> i32 {
    let Dialled { to, snapshot, .. } = *dialled;
    if forget(sk) {
        storage::delete(&EGRESSD_REWRIT, sk.cast());
    }
    let errno = if what == DENY_NO_PATH { Errno::Unreachable } else { Errno::Refused };
    let (reason, counter) = match what {
        // Nobody's traffic: counted, and no record that somebody could flood the buffer with.
        DENY_UNMARKED => {
            report::count(Counter::Unmarked);
            return fail(errno);
        }
        DENY_DIRECT_DIAL => {
            report::count(Counter::DirectDial);
            return fail(errno);
        }
        DENY_UNKNOWN => (REASON_UNKNOWN_DESTINATION, Counter::Denied),
        DENY_DOWN => {
            announce_netns(ctx, to);
            (REASON_PROXY_DOWN, Counter::RejectedProxyDown)
        }
        _ => (REASON_NO_PATH, Counter::Denied),
    };
    report::count(counter);
    debug!(ctx, "connect denied, reason {}, port {}", reason, to.port());
    let original = who(ctx, to, snapshot, snapshot.service_at(to));
    report::denied(reason, errno.number(), &original);
    fail(errno)
}

#[inline(always)]
fn proxy(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    original: Original,
    target: &Endpoint,
    index: u32,
    family: Family,
) -> i32 {
    let state = storage::get_or_create(&SOCKETS, sk.cast());
    let mark = storage::get_or_create(&EGRESSD_REWRIT, sk.cast());
    let (Some(state), Some(mark)) = (state, mark) else {
        report::count(Counter::OutOfMemory);
        return fail(Errno::Unreachable);
    };
    handoff::reap(state);
    state.original = original;
    state.spread = index;
    *mark = 1;
    report::count(Counter::Captured);
    context::rewrite(ctx, target, family);
    ALLOW
}

/// Takes away what an earlier connect() of the socket left on it, so that neither getpeername() nor
/// the proxy is told of a destination that was given up. Says whether there was anything.
#[inline(never)]
fn forget(sk: *mut bpf_sock) -> bool {
    let Some(state) = storage::get(&SOCKETS, sk.cast()) else {
        return false;
    };
    handoff::reap(state);
    storage::delete(&SOCKETS, sk.cast());
    true
}

/// Tells the daemon, rarely, that somebody connects where nothing of ours listens.
#[inline(always)]
fn announce_netns(ctx: &SockAddrContext, to: &Endpoint) {
    let netns = report::netns(ctx);
    if report::netns_is_due(netns) {
        let original = identity(ctx, Original::new(*to));
        report::new_netns(&original);
    }
}

#[inline(always)]
fn who(ctx: &SockAddrContext, to: &Endpoint, snapshot: &Snapshot, service: u32) -> Original {
    let mut original = Original::new(*to);
    original.service = service;
    original.generation = snapshot.head.number;
    identity(ctx, original)
}

#[inline(always)]
fn identity(ctx: &SockAddrContext, mut original: Original) -> Original {
    (original.pid, original.uid) = report::caller();
    original.cgroup = report::current_cgroup();
    original.netns = report::netns(ctx);
    original.cookie = report::cookie(ctx);
    original
}

#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
pub(crate) fn fail(errno: Errno) -> i32 {
    // SAFETY: the helper has no preconditions; a number out of range would leave EPERM in place.
    let _always_zero = unsafe { aya_ebpf::helpers::generated::bpf_set_retval(-errno.number()) };
    REFUSE
}
