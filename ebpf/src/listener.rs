//! Finding a live listener of ours in the connecting socket's network namespace.
//!
//! The tag is socket storage that only the daemon can set, through its own descriptor: a stranger
//! who takes our port while we are away is not mistaken for us.
#![expect(unsafe_code, reason = "socket look-ups work on raw tuples and references")]

use aya_ebpf::{
    bindings::{
        bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1 as TupleUnion,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
    },
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
    programs::SockAddrContext,
};
use egressd_abi::{Config, Endpoint, SPREAD_NETWORK};

use crate::{
    maps::{LISTENERS, TURNS},
    storage,
};

/// BPF_F_CURRENT_NETNS: the namespace of the context's socket.
const CURRENT_NETNS: u64 = u64::MAX;
/// Spread addresses asked before the proxy counts as down. The daemon opens and tags all of them or
/// none, so that one would do; a few more cover the moment in which it does. Every one costs the
/// verifier some 20,000 instructions.
const TRIES: u32 = 3;
const TUPLE_V4_BYTES: u32 = 12;
const TUPLE_V6_BYTES: u32 = 36;

/// No listener of ours is there.
///
/// A number beside the indices and not an `Option`: LLVM reads the payload of a `None` early, and the
/// verifier of 6.18 then says `R4 !read_ok`.
pub(crate) const NOBODY: u32 = u32::MAX;

/// The index of a spread address with a listener of ours behind it, or [`NOBODY`].
///
/// Addresses are taken in turn: each has its own range of ephemeral ports, and even use of them is
/// what lets all of them fill up before connect() runs out.
#[inline(always)]
pub(crate) fn choose(ctx: &SockAddrContext, config: &Config, v4: bool) -> u32 {
    let (start, count) = if v4 { (turn(0), config.spread_v4) } else { (turn(1), config.spread_v6) };
    if count == 0 {
        return NOBODY;
    }
    for i in 0..TRIES {
        let index = start.wrapping_add(i) % count;
        if is_ours(ctx, &spread(config, index, v4)) {
            return index;
        }
    }
    NOBODY
}

/// The spread address with an index: addresses differ for IPv4, ports for IPv6.
#[inline(always)]
pub(crate) fn spread(config: &Config, index: u32, v4: bool) -> Endpoint {
    if v4 {
        let [a, b, c, _] = SPREAD_NETWORK;
        let last = (index as u8).wrapping_add(1);
        return Endpoint::from_v4_bytes([a, b, c, last], (config.port as u16).to_be_bytes());
    }
    let port = (config.port as u16).wrapping_add(index as u16);
    let mut ip = [0; 16];
    ip[15] = 1;
    Endpoint::from_v6_bytes(ip, port.to_be_bytes())
}

/// Whether a listening TCP socket of ours is at an address.
#[inline(always)]
pub(crate) fn is_ours(ctx: &SockAddrContext, at: &Endpoint) -> bool {
    let (mut tuple, size) = tuple(at);
    // SAFETY: the context is that of a sock_addr program; the tuple lives on the stack.
    let found =
        unsafe { bpf_sk_lookup_tcp(ctx.sock_addr.cast(), &raw mut tuple, size, CURRENT_NETNS, 0) };
    is_tagged(found)
}

/// Whether a UDP socket of ours is at an address.
#[inline(always)]
pub(crate) fn is_ours_udp(ctx: &SockAddrContext, at: &Endpoint) -> bool {
    let (mut tuple, size) = tuple(at);
    // SAFETY: as above.
    let found =
        unsafe { bpf_sk_lookup_udp(ctx.sock_addr.cast(), &raw mut tuple, size, CURRENT_NETNS, 0) };
    is_tagged(found)
}

/// The look-up key of a socket that listens at an address, whoever calls.
///
/// Only the fields of the family are set, which are all that the size given with it covers.
#[inline(always)]
fn tuple(at: &Endpoint) -> (bpf_sock_tuple, u32) {
    let port = u16::from_ne_bytes(at.port_bytes());
    let b = at.addr().bytes();
    if at.is_v4() {
        let daddr = u32::from_ne_bytes([b[0], b[1], b[2], b[3]]);
        let ipv4 = TupleV4 { saddr: 0, daddr, sport: 0, dport: port };
        return (bpf_sock_tuple { __bindgen_anon_1: TupleUnion { ipv4 } }, TUPLE_V4_BYTES);
    }
    // Only `::1` is ever looked up.
    let daddr = [0, 0, 0, 1_u32.to_be()];
    let ipv6 = TupleV6 { saddr: [0; 4], daddr, sport: 0, dport: port };
    (bpf_sock_tuple { __bindgen_anon_1: TupleUnion { ipv6 } }, TUPLE_V6_BYTES)
}

/// Whether a socket found by a look-up carries our tag. Gives the reference back.
#[inline(always)]
fn is_tagged(found: *mut bpf_sock) -> bool {
    if found.is_null() {
        return false;
    }
    let tagged = storage::get(&LISTENERS, found.cast()).is_some();
    // SAFETY: `found` is a reference from a look-up, released once.
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
