//! Finding a live listener of ours in the connecting socket's network namespace.
//!
//! The tag is socket storage that only the daemon can set, through its own descriptor: a stranger
//! who takes our port while we are away is not mistaken for us.
#![expect(unsafe_code, reason = "socket look-ups work on raw tuples and references")]

use aya_ebpf::{
    bindings::bpf_sock_tuple,
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release},
    programs::SockAddrContext,
};
use egressd_abi::{Config, Endpoint, MAX_SPREAD_V4, MAX_SPREAD_V6, SPREAD_NETWORK};

use crate::{
    maps::{LISTENERS, TURNS},
    storage,
};

/// BPF_F_CURRENT_NETNS: the namespace of the context's socket.
const CURRENT_NETNS: u64 = u64::MAX;
const TUPLE_V4_BYTES: u32 = 12;
const TUPLE_V6_BYTES: u32 = 36;

/// A spread address with a listener of ours behind it, and its index.
///
/// Addresses are taken in turn: each has its own range of ephemeral ports, and even use of them is
/// what lets all of them fill up before connect() runs out.
#[inline(always)]
pub(crate) fn choose_v4(ctx: &SockAddrContext, config: &Config) -> Option<(Endpoint, u32)> {
    let start = turn(0);
    for i in 0..MAX_SPREAD_V4 {
        if i >= config.spread_v4 {
            break;
        }
        let index = start.wrapping_add(i) % config.spread_v4.max(1);
        let to = spread_v4(config, index);
        if is_ours(ctx, &to) {
            return Some((to, index));
        }
    }
    None
}

/// The same on `::1`, where the ports differ instead of the addresses.
#[inline(always)]
pub(crate) fn choose_v6(ctx: &SockAddrContext, config: &Config) -> Option<(Endpoint, u32)> {
    let start = turn(1);
    for i in 0..MAX_SPREAD_V6 {
        if i >= config.spread_v6 {
            break;
        }
        let index = start.wrapping_add(i) % config.spread_v6.max(1);
        let to = spread_v6(config, index);
        if is_ours(ctx, &to) {
            return Some((to, index));
        }
    }
    None
}

#[inline(always)]
fn spread_v4(config: &Config, index: u32) -> Endpoint {
    let [a, b, c, _] = SPREAD_NETWORK;
    let last = (index as u8).wrapping_add(1);
    Endpoint::from_v4_bytes([a, b, c, last], (config.port as u16).to_be_bytes())
}

#[inline(always)]
fn spread_v6(config: &Config, index: u32) -> Endpoint {
    let port = (config.port as u16).wrapping_add(index as u16);
    let mut ip = [0; 16];
    ip[15] = 1;
    Endpoint::from_v6_bytes(ip, port.to_be_bytes())
}

#[inline(always)]
fn is_ours(ctx: &SockAddrContext, at: &Endpoint) -> bool {
    // SAFETY: an all-zero tuple is valid; only the fields of the family given by the size are read.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let port = u16::from_ne_bytes(at.port_bytes());
    let b = at.addr().bytes();
    let size = if at.is_v4() {
        tuple.__bindgen_anon_1.ipv4.daddr = u32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
        tuple.__bindgen_anon_1.ipv4.dport = port;
        TUPLE_V4_BYTES
    } else {
        tuple.__bindgen_anon_1.ipv6.daddr = [0, 0, 0, 1_u32.to_be()];
        tuple.__bindgen_anon_1.ipv6.dport = port;
        TUPLE_V6_BYTES
    };
    // SAFETY: the context is that of a sock_addr program; the tuple lives on the stack.
    let found =
        unsafe { bpf_sk_lookup_tcp(ctx.sock_addr.cast(), &raw mut tuple, size, CURRENT_NETNS, 0) };
    if found.is_null() {
        return false;
    }
    let tagged = storage::get(&LISTENERS, found.cast()).is_some();
    // SAFETY: `found` is a reference from the look-up above, released once.
    let _always_zero = unsafe { bpf_sk_release(found.cast()) };
    tagged
}

#[inline(always)]
fn turn(family: u32) -> u32 {
    let Some(slot) = TURNS.get_ptr_mut(family) else {
        return 0;
    };
    // SAFETY: the slot is this CPU's own; a lost count would only take the same turn twice.
    unsafe {
        let turn = *slot;
        *slot = turn.wrapping_add(1);
        turn
    }
}
