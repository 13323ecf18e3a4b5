//! connect(): gather the facts, decide, act.

use aya_ebpf::{bindings::bpf_sock, programs::SockAddrContext};
use aya_log_ebpf::debug;
use egressd_abi::{
    Config, Counter, Deny, EVENT_DENIED, EVENT_NEW_NETNS, Endpoint, Errno, Facts, Leave, Matched,
    Original, REASON_DIRECT_DIAL, REASON_NO_PATH, REASON_PROXY_DOWN, REASON_UNKNOWN_DESTINATION,
    REASON_UNMARKED, Row, Verdict, classify, decide, needs_listener,
};

use crate::{
    ALLOW, REFUSE, context, handoff, listener,
    maps::{CONFIG, EGRESSD_REWRIT, SOCKETS},
    report,
    rows::{self, Snapshot},
    storage,
};

/// The family of the connecting socket, which decides how its address is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6; the destination may still be IPv4-mapped.
    V6,
}

/// One connect() of any socket: whether it may go on, perhaps elsewhere.
#[inline(always)]
pub(crate) fn connect(ctx: &SockAddrContext, to: Endpoint, family: Family) -> i32 {
    if !context::is_tcp(ctx) {
        return ALLOW;
    }
    let sk = context::sock_addr_socket(ctx);
    let Some(config) = CONFIG.get(0) else {
        return ALLOW;
    };
    if sk.is_null() {
        return ALLOW;
    }
    let snapshot = Snapshot::current();
    let mut facts = gather(ctx, sk, &to, config, &snapshot);
    let mut spread = None;
    if needs_listener(&facts) {
        spread = if to.is_v4() {
            listener::choose_v4(ctx, config)
        } else {
            listener::choose_v6(ctx, config)
        };
        facts.listener = spread.is_some();
    }
    match (decide(&facts), spread) {
        (Verdict::Leave(why), _) => leave(ctx, sk, &to, why),
        (Verdict::Deny(why, errno), _) => deny(ctx, sk, &to, &snapshot, why, errno),
        (Verdict::Proxy(row), Some((target, index))) => {
            let original = who(ctx, &to, &snapshot, row.service());
            proxy(ctx, sk, original, &target, index, family)
        }
        // No generation holds direct rows, and Proxy is only decided with a listener.
        (Verdict::Proxy(_) | Verdict::Direct(_), _) => {
            deny(ctx, sk, &to, &snapshot, Deny::NoPath, Errno::Unreachable)
        }
    }
}

#[inline(always)]
fn gather(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    to: &Endpoint,
    config: &Config,
    snapshot: &Snapshot,
) -> Facts {
    let own_cgroup = current_cgroup() == config.own_cgroup;
    let row: Option<(Matched, Row)> = snapshot.row(to);
    let policy_decides = row.is_none() && snapshot.head.denies_unknown();
    let own_matters = policy_decides || matches!(row, Some((Matched::Port, _)));
    Facts {
        class: classify(to, config),
        socket: context::socket_facts(sk, own_cgroup, config.mark),
        row,
        excluded: snapshot.excludes(to),
        own_address: own_matters && rows::is_own_address(report::netns(ctx), to),
        rewritten: storage::get(&EGRESSD_REWRIT, sk.cast()).is_some(),
        listener: false,
        denies_unknown: snapshot.head.denies_unknown(),
        rejects_on_down: config.rejects_on_down(),
    }
}

#[inline(always)]
fn leave(ctx: &SockAddrContext, sk: *mut bpf_sock, to: &Endpoint, why: Leave) -> i32 {
    forget(sk);
    match why {
        // Another instance has turned this connect() to its proxy; the mark is its own.
        Leave::Rewritten => return ALLOW,
        Leave::Unknown => report::count(Counter::Unknown),
        Leave::BoundDevice => report::count(Counter::BoundDevice),
        Leave::ProxyDown => {
            report::count(Counter::PassedProxyDown);
            announce_netns(ctx, to);
        }
        Leave::Ours | Leave::Local | Leave::Excluded => {}
    }
    storage::delete(&EGRESSD_REWRIT, sk.cast());
    ALLOW
}

#[inline(always)]
fn deny(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    to: &Endpoint,
    snapshot: &Snapshot,
    why: Deny,
    errno: Errno,
) -> i32 {
    forget(sk);
    storage::delete(&EGRESSD_REWRIT, sk.cast());
    let (reason, counter) = match why {
        Deny::Unmarked => (REASON_UNMARKED, Counter::Unmarked),
        Deny::DirectDial => (REASON_DIRECT_DIAL, Counter::DirectDial),
        Deny::UnknownDestination => (REASON_UNKNOWN_DESTINATION, Counter::Denied),
        Deny::NoPath => (REASON_NO_PATH, Counter::Denied),
        Deny::ProxyDown => {
            announce_netns(ctx, to);
            (REASON_PROXY_DOWN, Counter::RejectedProxyDown)
        }
    };
    report::count(counter);
    debug!(ctx, "connect denied, reason {}, port {}", reason, to.port());
    let original = who(ctx, to, snapshot, 0);
    report::send(EVENT_DENIED, reason, errno.number(), &original);
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
    if family == Family::V4 {
        context::rewrite_v4(ctx, target);
    } else {
        context::rewrite_v6(ctx, target);
    }
    ALLOW
}

/// Takes away what an earlier connect() of the socket left on it, so that neither getpeername() nor
/// the proxy is told of a destination that was given up.
#[inline(always)]
fn forget(sk: *mut bpf_sock) {
    if let Some(state) = storage::get(&SOCKETS, sk.cast()) {
        handoff::reap(state);
        storage::delete(&SOCKETS, sk.cast());
    }
}

/// Tells the daemon, rarely, that somebody connects where nothing of ours listens.
#[inline(always)]
fn announce_netns(ctx: &SockAddrContext, to: &Endpoint) {
    let netns = report::netns(ctx);
    if report::netns_is_due(netns) {
        let original = identity(ctx, Original::new(*to));
        report::send(EVENT_NEW_NETNS, 0, 0, &original);
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
#[expect(unsafe_code, reason = "helpers are raw")]
fn identity(ctx: &SockAddrContext, mut original: Original) -> Original {
    use aya_ebpf::helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated::bpf_get_socket_cookie,
    };
    original.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    original.uid = bpf_get_current_uid_gid() as u32;
    original.cgroup = current_cgroup();
    original.netns = report::netns(ctx);
    // SAFETY: the helper takes the context of any sock_addr program.
    original.cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    original
}

#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
fn current_cgroup() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { aya_ebpf::helpers::generated::bpf_get_current_cgroup_id() }
}

#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
fn fail(errno: Errno) -> i32 {
    // SAFETY: the helper has no preconditions; a number out of range would leave EPERM in place.
    let _always_zero = unsafe { aya_ebpf::helpers::generated::bpf_set_retval(-errno.number()) };
    REFUSE
}
