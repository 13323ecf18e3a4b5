//! Handing the original destination to the accepted socket.
//!
//! A tuple is in the map from the client's SYN to the birth of the accepted socket; both happen
//! before connect() returns. A handshake that fails never reaches the second point: close() or the
//! socket's next connect() takes the tuple back.

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TIMEOUT_INIT,
    },
    programs::{SockContext, SockOpsContext},
};
use aya_log_ebpf::debug;
use egressd_abi::{Class, Config, Counter, Original, SocketState, Tuple, classify};

use crate::{
    context, direct,
    maps::{ACCEPTED, CONFIG, HANDOFFS, SOCKETS},
    report, storage,
};

/// One station in the life of a connection, on the application's side or on ours.
#[inline(always)]
pub(crate) fn station(ctx: &SockOpsContext) {
    match context::station(ctx) {
        BPF_SOCK_OPS_TCP_CONNECT_CB => announce(ctx),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => settle(ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => receive(ctx),
        BPF_SOCK_OPS_TIMEOUT_INIT => direct::tcp::first_timeout(ctx),
        BPF_SOCK_OPS_STATE_CB => direct::tcp::passes(ctx),
        _ => {}
    }
}

/// The application's SYN is about to go out, from an address that is now chosen.
#[inline(always)]
fn announce(ctx: &SockOpsContext) {
    let sk = context::sock_ops_socket(ctx);
    if sk.is_null() {
        return;
    }
    let Some(state) = storage::get(&SOCKETS, sk.cast()) else {
        direct::tcp::connecting(ctx, sk);
        return;
    };
    if state.spread == SocketState::NO_HANDOFF {
        return;
    }
    state.tuple =
        Tuple { netns: netns(ctx), client: context::local(ctx), server: context::remote(ctx) };
    if HANDOFFS.insert(state.tuple, state.original, 0).is_ok() {
        state.pending = 1;
    } else {
        report::count(Counter::OutOfMemory);
    }
}

/// The application's handshake is over.
#[inline(always)]
fn settle(ctx: &SockOpsContext) {
    let sk = context::sock_ops_socket(ctx);
    if sk.is_null() {
        return;
    }
    match storage::get(&SOCKETS, sk.cast()) {
        Some(state) => state.pending = 0,
        None => direct::tcp::established(ctx, sk),
    }
}

/// A listener's child is born: if it is ours, it takes the original destination over.
#[inline(always)]
fn receive(ctx: &SockOpsContext) {
    let Some(config) = CONFIG.get(0) else {
        return;
    };
    let server = context::local(ctx);
    if !is_listener(&server, config) {
        return;
    }
    let sk = context::sock_ops_socket(ctx);
    if sk.is_null() {
        return;
    }
    let tuple = Tuple { netns: netns(ctx), client: context::remote(ctx), server };
    let Some(original) = take(&tuple) else {
        report::count(Counter::HandoffMiss);
        debug!(ctx, "no hand-off for a connection from port {}", tuple.client.port());
        return;
    };
    match storage::get_or_create(&ACCEPTED, sk.cast()) {
        Some(slot) => *slot = original,
        None => report::count(Counter::OutOfMemory),
    }
}

/// Whether a local end is one of our spread addresses, as far as its address and port can tell.
#[inline(always)]
fn is_listener(local: &egressd_abi::Endpoint, config: &Config) -> bool {
    matches!(classify(local, config), Class::Spread)
        && (!local.is_v4() || u32::from(local.port()) == config.port)
}

#[inline(always)]
#[expect(unsafe_code, reason = "the value is read in place and copied at once")]
fn take(tuple: &Tuple) -> Option<Original> {
    // SAFETY: nobody else knows this tuple while its handshake lasts.
    let original = unsafe { HANDOFFS.get(tuple) }.copied()?;
    // It was there; that it has gone in between would be the eviction of a full map.
    let _evicted = HANDOFFS.remove(tuple);
    Some(original)
}

/// The last reference to an application's socket goes.
#[inline(always)]
pub(crate) fn release(ctx: &SockContext) {
    if let Some(state) = storage::get(&SOCKETS, ctx.sock.cast())
        && reap(state)
    {
        debug!(ctx, "hand-off of a failed handshake reaped, port {}", state.tuple.client.port());
    }
}

/// Takes back the hand-off of a handshake that is not over. Says whether there was one.
#[inline(always)]
pub(crate) fn reap(state: &mut SocketState) -> bool {
    if state.pending == 0 {
        return false;
    }
    state.pending = 0;
    // A tuple may be another socket's by now: the port was free since this handshake failed.
    let reaped = is_own(state) && HANDOFFS.remove(state.tuple).is_ok();
    if reaped {
        report::count(Counter::Reaped);
    }
    reaped
}

#[inline(always)]
#[expect(unsafe_code, reason = "the value is read in place")]
fn is_own(state: &SocketState) -> bool {
    // SAFETY: one word is read; a value that is replaced meanwhile is another socket's.
    let waiting = unsafe { HANDOFFS.get(state.tuple) };
    waiting.is_some_and(|original| original.cookie == state.original.cookie)
}

#[inline(always)]
#[expect(unsafe_code, reason = "the helper takes a raw context")]
fn netns(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context is that of a sock_ops program.
    unsafe { aya_ebpf::helpers::generated::bpf_get_netns_cookie(ctx.ops.cast()) }
}
