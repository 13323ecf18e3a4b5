//! Reading and writing the contexts the kernel passes.
//!
//! Every field is read and written as one whole volatile word. LLVM otherwise narrows or merges
//! neighbouring accesses, which the verifier of every kernel refuses: `invalid bpf_context access
//! off=4 size=2` for a masked store to `user_ip4`, `off=24 size=8` for `remote_ip4` and `local_ip4`
//! loaded together.
#![expect(unsafe_code, reason = "contexts are raw pointers from the kernel")]

use aya_ebpf::{
    bindings::bpf_sock,
    programs::{SockAddrContext, SockOpsContext},
};
use core::ptr::{addr_of, addr_of_mut};
use egressd_abi::{Endpoint, Socket};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
/// The interface index of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;

/// The family of a program's calls: a program of one family may not touch the other's fields, so
/// this is a constant wherever it is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6; the address may still be IPv4-mapped.
    V6,
}

/// Reads one field of a context as a whole word.
macro_rules! load {
    ($place:expr) => {{
        // SAFETY: the kernel passed the context, and the place is one of its fields.
        unsafe { addr_of!($place).read_volatile() }
    }};
}

/// Writes one field of a context as a whole word.
macro_rules! store {
    ($place:expr, $value:expr) => {{
        // SAFETY: the kernel passed the context, and the place is a field it lets us write.
        unsafe { addr_of_mut!($place).write_volatile($value) }
    }};
}

/// Whether the socket is a TCP one; an MPTCP socket's subflows are.
#[inline(always)]
pub(crate) fn is_tcp(ctx: &SockAddrContext) -> bool {
    load!((*ctx.sock_addr).type_) == SOCK_STREAM && load!((*ctx.sock_addr).protocol) == IPPROTO_TCP
}

/// Whether the socket is a UDP one.
#[inline(always)]
pub(crate) fn is_udp(ctx: &SockAddrContext) -> bool {
    load!((*ctx.sock_addr).type_) == SOCK_DGRAM && load!((*ctx.sock_addr).protocol) == IPPROTO_UDP
}

#[inline(always)]
fn address_v4(ctx: &SockAddrContext) -> Endpoint {
    let ip = load!((*ctx.sock_addr).user_ip4);
    Endpoint::from_v4_bytes(ip.to_ne_bytes(), port(ctx))
}

#[inline(always)]
fn address_v6(ctx: &SockAddrContext) -> Endpoint {
    let ip = [
        load!((*ctx.sock_addr).user_ip6[0]),
        load!((*ctx.sock_addr).user_ip6[1]),
        load!((*ctx.sock_addr).user_ip6[2]),
        load!((*ctx.sock_addr).user_ip6[3]),
    ];
    Endpoint::from_v6_bytes(words_to_bytes(ip), port(ctx))
}

#[inline(always)]
fn port(ctx: &SockAddrContext) -> [u8; 2] {
    // The port is in network order in the low half of the word, whichever way memory runs.
    (load!((*ctx.sock_addr).user_port) as u16).to_ne_bytes()
}

/// The address of the call.
#[inline(always)]
pub(crate) fn address(ctx: &SockAddrContext, family: Family) -> Endpoint {
    match family {
        Family::V4 => address_v4(ctx),
        Family::V6 => address_v6(ctx),
    }
}

/// Puts another address and port in place of those of the call.
#[inline(always)]
pub(crate) fn rewrite(ctx: &SockAddrContext, to: &Endpoint, family: Family) {
    match family {
        Family::V4 => rewrite_v4(ctx, to),
        Family::V6 => rewrite_v6(ctx, to),
    }
}

#[inline(always)]
fn rewrite_v4(ctx: &SockAddrContext, to: &Endpoint) {
    let b = to.addr().bytes();
    store!((*ctx.sock_addr).user_ip4, u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    rewrite_port(ctx, to);
}

/// IPv4 becomes IPv4-mapped.
#[inline(always)]
fn rewrite_v6(ctx: &SockAddrContext, to: &Endpoint) {
    let b = to.addr().bytes();
    let words = if to.is_v4() {
        [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([b[0], b[1], b[2], b[3]])]
    } else {
        bytes_to_words(b)
    };
    store!((*ctx.sock_addr).user_ip6[0], words[0]);
    store!((*ctx.sock_addr).user_ip6[1], words[1]);
    store!((*ctx.sock_addr).user_ip6[2], words[2]);
    store!((*ctx.sock_addr).user_ip6[3], words[3]);
    rewrite_port(ctx, to);
}

#[inline(always)]
fn rewrite_port(ctx: &SockAddrContext, to: &Endpoint) {
    store!((*ctx.sock_addr).user_port, u32::from(u16::from_ne_bytes(to.port_bytes())));
}

/// The socket of the call; null where there is none.
#[inline(always)]
pub(crate) fn sock_addr_socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    load!((*ctx.sock_addr).__bindgen_anon_1.sk)
}

/// What the decision needs to know of the socket.
#[inline(always)]
pub(crate) fn socket_facts(sk: *mut bpf_sock, own_cgroup: bool, mark: u32) -> Socket {
    let bound = load!((*sk).bound_dev_if);
    Socket {
        own_cgroup,
        marked: load!((*sk).mark) == mark,
        bound_device: bound != 0 && bound != LOOPBACK,
    }
}

/// The IPv4 address an AF_INET socket is bound to, as a number; 0 for none.
#[inline(always)]
pub(crate) fn bound_v4(sk: *mut bpf_sock) -> u64 {
    u64::from(u32::from_be(load!((*sk).src_ip4)))
}

/// The halves of the address an AF_INET6 socket is bound to, as numbers; 0 for none.
#[inline(always)]
pub(crate) fn bound_v6(sk: *mut bpf_sock) -> (u64, u64) {
    let word = |word: u32| u64::from(u32::from_be(word));
    let high = word(load!((*sk).src_ip6[0])) << 32 | word(load!((*sk).src_ip6[1]));
    let low = word(load!((*sk).src_ip6[2])) << 32 | word(load!((*sk).src_ip6[3]));
    (high, low)
}

/// Whether a socket is bound to an address of loopback, from which nothing leaves the host.
#[inline(always)]
pub(crate) fn is_bound_to_loopback(sk: *mut bpf_sock, family: Family) -> bool {
    const LOOPBACK_NET: u64 = 127;
    if family == Family::V4 {
        return bound_v4(sk) >> 24 == LOOPBACK_NET;
    }
    let (high, low) = bound_v6(sk);
    high == 0 && (low == 1 || low >> 24 == 0xffff << 8 | LOOPBACK_NET)
}

/// Whether an AF_INET6 socket is bound to an address, be it IPv4-mapped.
#[inline(always)]
pub(crate) fn is_bound_v6(sk: *mut bpf_sock) -> bool {
    bound_v6(sk) != (0, 0)
}

/// Whether an AF_INET6 socket may reach IPv6 only, as far as can be told.
#[inline(always)]
pub(crate) fn is_v6_only(_sk: *mut bpf_sock) -> bool {
    true
}

/// The socket of a sock_ops callback; null where there is none.
#[inline(always)]
pub(crate) fn sock_ops_socket(ctx: &SockOpsContext) -> *mut bpf_sock {
    load!((*ctx.ops).__bindgen_anon_2.sk)
}

/// Which station of its life the connection has reached.
#[inline(always)]
pub(crate) fn station(ctx: &SockOpsContext) -> u32 {
    load!((*ctx.ops).op)
}

/// Whether the callback is about a socket, and not about a request for one.
#[inline(always)]
pub(crate) fn is_full_socket(ctx: &SockOpsContext) -> bool {
    load!((*ctx.ops).is_fullsock) == 1
}

/// The callbacks that the connection has asked for.
#[inline(always)]
pub(crate) fn callbacks(ctx: &SockOpsContext) -> u32 {
    load!((*ctx.ops).bpf_sock_ops_cb_flags)
}

/// Answers the kernel's question.
#[inline(always)]
pub(crate) fn reply(ctx: &SockOpsContext, answer: u32) {
    store!((*ctx.ops).__bindgen_anon_1.reply, answer);
}

/// The state a connection leaves, and the one it enters.
#[inline(always)]
pub(crate) fn states(ctx: &SockOpsContext) -> (u32, u32) {
    let from = load!((*ctx.ops).__bindgen_anon_1.args[0]);
    (from, load!((*ctx.ops).__bindgen_anon_1.args[1]))
}

/// Bytes that arrived in order, a FIN counted as one.
#[inline(always)]
pub(crate) fn bytes_received(ctx: &SockOpsContext) -> u64 {
    load!((*ctx.ops).bytes_received)
}

/// Bytes that the far end has acknowledged, SYN and FIN counted as one each.
#[inline(always)]
pub(crate) fn bytes_acked(ctx: &SockOpsContext) -> u64 {
    load!((*ctx.ops).bytes_acked)
}

/// Whether all that was sent was acknowledged.
#[inline(always)]
pub(crate) fn is_all_acknowledged(ctx: &SockOpsContext) -> bool {
    load!((*ctx.ops).snd_una) == load!((*ctx.ops).snd_nxt)
}

/// The smoothed round-trip time in microseconds; the kernel keeps eight times as much.
#[inline(always)]
pub(crate) fn rtt_us(ctx: &SockOpsContext) -> u32 {
    load!((*ctx.ops).srtt_us) >> 3
}

/// Segments that have arrived.
#[inline(always)]
pub(crate) fn segments_in(ctx: &SockOpsContext) -> u32 {
    load!((*ctx.ops).segs_in)
}

/// Segments that were sent again.
#[inline(always)]
pub(crate) fn retransmits(ctx: &SockOpsContext) -> u32 {
    load!((*ctx.ops).total_retrans)
}

/// The near end of a sock_ops callback's connection.
#[inline(always)]
pub(crate) fn local(ctx: &SockOpsContext) -> Endpoint {
    // local_port alone is in host order.
    let port = (load!((*ctx.ops).local_port) as u16).to_be_bytes();
    if load!((*ctx.ops).family) == AF_INET {
        return Endpoint::from_v4_bytes(load!((*ctx.ops).local_ip4).to_ne_bytes(), port);
    }
    let ip = [
        load!((*ctx.ops).local_ip6[0]),
        load!((*ctx.ops).local_ip6[1]),
        load!((*ctx.ops).local_ip6[2]),
        load!((*ctx.ops).local_ip6[3]),
    ];
    Endpoint::from_v6_bytes(words_to_bytes(ip), port)
}

/// The far end of a sock_ops callback's connection.
#[inline(always)]
pub(crate) fn remote(ctx: &SockOpsContext) -> Endpoint {
    // The port is in network order in the last two bytes of the word, as memory runs.
    let word = load!((*ctx.ops).remote_port).to_ne_bytes();
    let port = [word[2], word[3]];
    if load!((*ctx.ops).family) == AF_INET {
        return Endpoint::from_v4_bytes(load!((*ctx.ops).remote_ip4).to_ne_bytes(), port);
    }
    let ip = [
        load!((*ctx.ops).remote_ip6[0]),
        load!((*ctx.ops).remote_ip6[1]),
        load!((*ctx.ops).remote_ip6[2]),
        load!((*ctx.ops).remote_ip6[3]),
    ];
    Endpoint::from_v6_bytes(words_to_bytes(ip), port)
}

const AF_INET: u32 = 2;

#[inline(always)]
fn words_to_bytes(w: [u32; 4]) -> [u8; 16] {
    let (a, b) = (w[0].to_ne_bytes(), w[1].to_ne_bytes());
    let (c, d) = (w[2].to_ne_bytes(), w[3].to_ne_bytes());
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

#[inline(always)]
fn bytes_to_words(b: &[u8; 16]) -> [u32; 4] {
    [
        u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
        u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
        u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
    ]
}
