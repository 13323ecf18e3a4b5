//! Stations of a direct connection's life.

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock, bpf_sock_ops},
    helpers::generated::{bpf_getsockopt, bpf_setsockopt},
    programs::{SockContext, SockOpsContext},
};
use core::ffi::c_void;
use egressd_abi::{
    DirectSocket, END_ABANDONED, END_ABORTED, END_CLOSED, END_CONNECT_FAILED, END_RESET,
    PHASE_CHOSEN, PHASE_CONNECTING, PHASE_ESTABLISHED,
};

use super::{
    give_back,
    record::{self, Traffic},
    started,
};
use crate::{
    context,
    maps::{CLUSTERS, DIRECT_SOCKETS, VIEWS},
    report, storage,
};

/// States of a connection, as include/net/tcp_states.h numbers them.
const ESTABLISHED: u32 = 1;
const FIN_WAIT1: u32 = 4;
const FIN_WAIT2: u32 = 5;
const CLOSE: u32 = 7;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const CLOSING: u32 = 11;

const SOL_SOCKET: i32 = 1;
const SO_KEEPALIVE: i32 = 9;
const IPPROTO_TCP: i32 = 6;
const TCP_KEEPIDLE: i32 = 4;
const TCP_KEEPINTVL: i32 = 5;
const TCP_KEEPCNT: i32 = 6;
const TCP_USER_TIMEOUT: i32 = 18;

/// The SYN is about to go out.
#[inline(always)]
pub(crate) fn connecting(ctx: &SockOpsContext, sk: *mut bpf_sock) {
    let Some(state) = storage::get(&DIRECT_SOCKETS, sk.cast()) else {
        return;
    };
    if state.phase != PHASE_CHOSEN {
        return;
    }
    state.phase = PHASE_CONNECTING;
    started(state);
    let flags = context::callbacks(ctx) | BPF_SOCK_OPS_STATE_CB_FLAG;
    // Without callbacks close() gives back what is counted, and nobody learns more.
    let _unknown_flags = ctx.set_cb_flags(flags as i32);
    if state.connect_timeout_ms > 0 {
        limit_handshake(ctx, state);
    }
    if state.keepalive == 1 {
        keep_alive(ctx, state.cluster);
    }
}

/// Has the handshake fail in time, unless the application's own limit is the shorter one.
#[inline(always)]
fn limit_handshake(ctx: &SockOpsContext, state: &mut DirectSocket) {
    let own = get_option(ctx, TCP_USER_TIMEOUT);
    if own != 0 && own <= state.connect_timeout_ms {
        return;
    }
    if set_option(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, state.connect_timeout_ms) {
        state.user_timeout_ms = own;
        state.restore = 1;
    }
}

/// Puts the application's own limit back.
#[inline(always)]
fn restore(ctx: &SockOpsContext, state: &mut DirectSocket) {
    if state.restore == 1 {
        state.restore = 0;
        // One that the application has set meanwhile is its own already.
        if get_option(ctx, TCP_USER_TIMEOUT) != state.connect_timeout_ms {
            return;
        }
        set_option(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, state.user_timeout_ms);
    }
}

#[inline(always)]
fn keep_alive(ctx: &SockOpsContext, cluster: u32) {
    let Some(cluster) = CLUSTERS.get(cluster) else {
        return;
    };
    let Some(view) = VIEWS.get(cluster.view.wrapping_sub(1)) else {
        return;
    };
    set_option(ctx, SOL_SOCKET, SO_KEEPALIVE, 1);
    if view.keepalive_idle > 0 {
        set_option(ctx, IPPROTO_TCP, TCP_KEEPIDLE, view.keepalive_idle);
    }
    if view.keepalive_interval > 0 {
        set_option(ctx, IPPROTO_TCP, TCP_KEEPINTVL, view.keepalive_interval);
    }
    if view.keepalive_probes > 0 {
        set_option(ctx, IPPROTO_TCP, TCP_KEEPCNT, view.keepalive_probes);
    }
}

/// The kernel asks how long to wait for the answer to a SYN: the reply, in jiffies.
#[inline(always)]
pub(crate) fn first_timeout(ctx: &SockOpsContext) {
    if !context::is_full_socket(ctx) {
        return;
    }
    let sk = context::sock_ops_socket(ctx);
    if sk.is_null() {
        return;
    }
    if let Some(state) = storage::get(&DIRECT_SOCKETS, sk.cast())
        && state.phase == PHASE_CONNECTING
        && state.connect_timeout_jiffies > 0
        && state.restore == 1
    {
        context::reply(ctx, state.connect_timeout_jiffies);
    }
}

/// The handshake is over.
#[inline(always)]
pub(crate) fn established(ctx: &SockOpsContext, sk: *mut bpf_sock) {
    let Some(state) = storage::get(&DIRECT_SOCKETS, sk.cast()) else {
        return;
    };
    if state.phase == PHASE_CONNECTING {
        state.phase = PHASE_ESTABLISHED;
        state.established_ns = report::now();
        restore(ctx, state);
    }
}

/// The connection passes from one state to another.
#[inline(always)]
pub(crate) fn passes(ctx: &SockOpsContext) {
    let sk = context::sock_ops_socket(ctx);
    if sk.is_null() {
        return;
    }
    let Some(state) = storage::get(&DIRECT_SOCKETS, sk.cast()) else {
        return;
    };
    let (from, to) = context::states(ctx);
    match to {
        FIN_WAIT1 | LAST_ACK => state.fin_sent = 1,
        FIN_WAIT2 => state.received_at_fin = context::bytes_received(ctx),
        CLOSE_WAIT | CLOSING => state.fin_received = 1,
        CLOSE => ends(ctx, state, from),
        _ => {}
    }
}

#[inline(always)]
fn ends(ctx: &SockOpsContext, state: &mut DirectSocket, from: u32) {
    give_back(state);
    restore(ctx, state);
    let phase = state.phase;
    let received = context::bytes_received(ctx);
    // In this state a FIN, and nothing but data before it, makes the number grow.
    if from == FIN_WAIT2 && received > state.received_at_fin {
        state.fin_received = 1;
    }
    if !record::claim(state) {
        return;
    }
    let end = if phase == PHASE_ESTABLISHED { how(state, from) } else { failed(ctx, state) };
    let mut traffic = Traffic {
        local: context::local(ctx),
        sent: 0,
        received: 0,
        rtt_us: context::rtt_us(ctx),
        retransmits: context::retransmits(ctx),
    };
    if phase == PHASE_ESTABLISHED {
        // The SYN, and our FIN once nothing is left to be acknowledged.
        let fin = u64::from(state.fin_sent == 1 && context::is_all_acknowledged(ctx));
        traffic.sent = context::bytes_acked(ctx).saturating_sub(1 + fin);
        traffic.received = received.saturating_sub(u64::from(state.fin_received));
    }
    record::send(state, end, &traffic);
}

/// How a handshake failed: the far end has answered, or it has not and the time is over. Everything else is
/// the application's doing, who may take a connect() back, or have a shorter limit of its own.
#[inline(always)]
fn failed(ctx: &SockOpsContext, state: &DirectSocket) -> u32 {
    if state.released == 1 {
        return END_ABANDONED;
    }
    let took_ms = report::now().wrapping_sub(state.started_ns) / 1_000_000;
    let over = state.connect_timeout_ms == 0 && context::retransmits(ctx) > 0
        || state.connect_timeout_ms > 0 && took_ms >= u64::from(state.connect_timeout_ms);
    if over || context::segments_in(ctx) > 0 { END_CONNECT_FAILED } else { END_ABANDONED }
}

/// How a connection ended that had been one.
#[inline(always)]
fn how(state: &DirectSocket, from: u32) -> u32 {
    match from {
        LAST_ACK | CLOSING => END_CLOSED,
        // The application has ended it, and the far end knows. Of sockets inside the kernel, MPTCP's among
        // them, nobody says that they are closed.
        FIN_WAIT2 => END_CLOSED,
        ESTABLISHED | CLOSE_WAIT if state.released == 1 => END_ABORTED,
        _ => END_RESET,
    }
}

/// The last reference to an application's socket goes.
#[inline(always)]
pub(crate) fn release(ctx: &SockContext) {
    let Some(state) = storage::get(&DIRECT_SOCKETS, ctx.sock.cast()) else {
        return;
    };
    state.released = 1;
    give_back(state);
    record::unstarted(state);
}

#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
fn get_option(ctx: &SockOpsContext, name: i32) -> u32 {
    let mut value = 0_u32;
    let place: *mut c_void = (&raw mut value).cast();
    let context: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: the helper writes four bytes to the place.
    let failed = unsafe { bpf_getsockopt(context.cast(), IPPROTO_TCP, name, place, 4) };
    if failed == 0 { value } else { 0 }
}

#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
fn set_option(ctx: &SockOpsContext, level: i32, name: i32, value: u32) -> bool {
    let mut value = value;
    let place: *mut c_void = (&raw mut value).cast();
    let context: *mut bpf_sock_ops = ctx.ops;
    // SAFETY: the helper reads four bytes from the place.
    unsafe { bpf_setsockopt(context.cast(), level, name, place, 4) == 0 }
}
