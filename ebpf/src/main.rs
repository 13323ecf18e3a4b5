//! What runs in the kernel: entry points that call and match.
//!
//! Ten programs. `egressd_conn4` and `egressd_conn6` decide what becomes of a connect() and may turn
//! it to the proxy or to an endpoint; `egressd_peer4` and `egressd_peer6` let getpeername() show what was dialled;
//! `egressd_tcp` hands the original destination from the application's socket to the accepted one and follows
//! direct connections;
//! `egressd_close` takes back a hand-off whose handshake failed, and what a direct connection is counted
//! for; `egressd_send4`, `egressd_send6`, `egressd_recv4` and `egressd_recv6` turn DNS queries and datagrams
//! to services and show their answers. The decisions
//! themselves are [`egressd_abi::decide`] and [`egressd_abi::captures_dns`].
//!
//! A program's name differs from its section's name: bpf-linker 0.10.4 cannot link one that equals
//! it.
#![no_std]
#![no_main]
#![expect(internal_features, reason = "the only way to atomic operations on this target")]
#![feature(core_intrinsics)]

mod atomic;
mod connect;
mod context;
mod datagram;
mod direct;
mod dns;
mod handoff;
mod listener;
mod maps;
mod peer;
mod report;
mod rows;
mod storage;

use aya_ebpf::{
    macros::{cgroup_sock, cgroup_sock_addr, sock_ops},
    programs::{SockAddrContext, SockContext, SockOpsContext},
};

use crate::context::Family;

/// Lets the system call go on.
const ALLOW: i32 = 1;
/// Fails the system call, with the errno set by `bpf_set_retval`.
const REFUSE: i32 = 0;

/// connect() of an AF_INET socket.
#[cgroup_sock_addr(connect4)]
fn egressd_conn4(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, Family::V4)
}

/// connect() of an AF_INET6 socket, to an IPv4-mapped address too.
#[cgroup_sock_addr(connect6)]
fn egressd_conn6(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, Family::V6)
}

/// getpeername() of an AF_INET socket.
#[cgroup_sock_addr(getpeername4)]
fn egressd_peer4(ctx: SockAddrContext) -> i32 {
    peer::restore(&ctx, Family::V4);
    ALLOW
}

/// getpeername() of an AF_INET6 socket.
#[cgroup_sock_addr(getpeername6)]
fn egressd_peer6(ctx: SockAddrContext) -> i32 {
    peer::restore(&ctx, Family::V6);
    ALLOW
}

/// sendto() and sendmsg() of an unconnected UDP socket, AF_INET or to an IPv4-mapped address.
#[cgroup_sock_addr(sendmsg4)]
fn egressd_send4(ctx: SockAddrContext) -> i32 {
    datagram::turn(&ctx, dns::Call::Send, Family::V4)
}

/// The same for AF_INET6.
#[cgroup_sock_addr(sendmsg6)]
fn egressd_send6(ctx: SockAddrContext) -> i32 {
    datagram::turn(&ctx, dns::Call::Send, Family::V6)
}

/// recvfrom() and recvmsg() of an AF_INET UDP socket: the address shown is the source's.
#[cgroup_sock_addr(recvmsg4)]
fn egressd_recv4(ctx: SockAddrContext) -> i32 {
    datagram::restore_source(&ctx, Family::V4);
    ALLOW
}

/// The same for AF_INET6, whose source may be IPv4-mapped.
#[cgroup_sock_addr(recvmsg6)]
fn egressd_recv6(ctx: SockAddrContext) -> i32 {
    datagram::restore_source(&ctx, Family::V6);
    ALLOW
}

/// Stations of a TCP connection's life, on both ends.
#[sock_ops]
fn egressd_tcp(ctx: SockOpsContext) -> u32 {
    handoff::station(&ctx);
    // Anything else counts as a refusal and throws away what other programs have replied
    // (tcp_call_bpf in include/net/tcp.h).
    1
}

/// close() of the last reference to a socket.
#[cgroup_sock(sock_release)]
fn egressd_close(ctx: SockContext) -> i32 {
    handoff::release(&ctx);
    direct::tcp::release(&ctx);
    datagram::release(&ctx);
    ALLOW
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier would refuse the loop if any path led here.
    loop {}
}

/// The licence the kernel asks for before it lends its GPL-only helpers.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
#[expect(unsafe_code, reason = "the section is how the kernel finds the licence")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
