//! connect(): gather the facts, decide, act.

use aya_ebpf::{bindings::bpf_sock, programs::SockAddrContext};
use aya_log_ebpf::debug;
use egressd_abi::{
    Class, Config, Counter, Deny, Endpoint, Errno, Facts, Leave, Matched, NO_SERVICE, Original,
    REASON_NO_PATH, REASON_PROXY_DOWN, REASON_UNKNOWN_DESTINATION, SocketState, Verdict, classify,
    decide, needs_listener,
};

use crate::{
    ALLOW, REFUSE,
    context::{self, Family},
    dns, handoff, listener,
    maps::{CONFIG, EGRESSD_REWRIT, SOCKETS},
    report,
    rows::{self, Snapshot},
    storage,
};

/// One connect() of any socket: whether it may go on, perhaps elsewhere.
#[inline(always)]
pub(crate) fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    if context::is_udp(ctx) {
        dns::turn(ctx, dns::Call::Connect, family);
        return ALLOW;
    }
    if !context::is_tcp(ctx) {
        return ALLOW;
    }
    let to = context::address(ctx, family);
    let sk = context::sock_addr_socket(ctx);
    let Some(config) = CONFIG.get(0) else {
        return ALLOW;
    };
    if sk.is_null() {
        return ALLOW;
    }
    let snapshot = Snapshot::current();
    if dns::captures(ctx, sk, &to, config, dns::Transport::Tcp) {
        let original = who(ctx, &to, &snapshot, NO_SERVICE);
        let target = dns::tcp_target(config, &to);
        return proxy(ctx, sk, original, &target, SocketState::NO_HANDOFF, family);
    }
    let mut facts = gather(ctx, sk, &to, config, &snapshot);
    let v4 = family == Family::V4 || to.is_v4();
    let mut index = listener::NOBODY;
    if needs_listener(&facts) {
        index = listener::choose(ctx, config, v4);
        facts.listener = index != listener::NOBODY;
    }
    match decide(&facts) {
        Verdict::Leave(why) => leave(ctx, sk, &to, why),
        Verdict::Deny(why, errno) => deny(ctx, sk, &to, &snapshot, why, errno),
        Verdict::Proxy(row) => {
            let original = who(ctx, &to, &snapshot, row.service());
            let target = listener::spread(config, index, v4);
            proxy(ctx, sk, original, &target, index, family)
        }
        // No generation holds direct rows.
        Verdict::Direct(_) => deny(ctx, sk, &to, &snapshot, Deny::NoPath, Errno::Unreachable),
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
    let own_cgroup = report::current_cgroup() == config.own_cgroup;
    let (matched, row) = snapshot.row(to);
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

#[inline(always)]
fn leave(ctx: &SockAddrContext, sk: *mut bpf_sock, to: &Endpoint, why: Leave) -> i32 {
    let stale = forget(sk);
    // The mark of a connect() that another instance has turned is that instance's own.
    if stale && why != Leave::Rewritten {
        storage::delete(&EGRESSD_REWRIT, sk.cast());
    }
    match why {
        Leave::Unknown => report::count(Counter::Unknown),
        Leave::BoundDevice => report::count(Counter::BoundDevice),
        Leave::ProxyDown => {
            report::count(Counter::PassedProxyDown);
            announce_netns(ctx, to);
        }
        Leave::Ours | Leave::Rewritten | Leave::Local | Leave::Excluded => {}
    }
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
    if forget(sk) {
        storage::delete(&EGRESSD_REWRIT, sk.cast());
    }
    let (reason, counter) = match why {
        // Nobody's traffic: counted, and no record that somebody could flood the buffer with.
        Deny::Unmarked => {
            report::count(Counter::Unmarked);
            return fail(errno);
        }
        Deny::DirectDial => {
            report::count(Counter::DirectDial);
            return fail(errno);
        }
        Deny::UnknownDestination => (REASON_UNKNOWN_DESTINATION, Counter::Denied),
        Deny::NoPath => (REASON_NO_PATH, Counter::Denied),
        Deny::ProxyDown => {
            announce_netns(ctx, to);
            (REASON_PROXY_DOWN, Counter::RejectedProxyDown)
        }
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
#[inline(always)]
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
#[expect(unsafe_code, reason = "helpers are raw")]
fn identity(ctx: &SockAddrContext, mut original: Original) -> Original {
    use aya_ebpf::helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid, generated::bpf_get_socket_cookie,
    };
    original.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    original.uid = bpf_get_current_uid_gid() as u32;
    original.cgroup = report::current_cgroup();
    original.netns = report::netns(ctx);
    // SAFETY: the helper takes the context of any sock_addr program.
    original.cookie = unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) };
    original
}

#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
fn fail(errno: Errno) -> i32 {
    // SAFETY: the helper has no preconditions; a number out of range would leave EPERM in place.
    let _always_zero = unsafe { aya_ebpf::helpers::generated::bpf_set_retval(-errno.number()) };
    REFUSE
}
