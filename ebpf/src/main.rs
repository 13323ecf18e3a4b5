//! What runs in the kernel: entry points that call and match.
//!
//! Six programs. `egressd_conn4` and `egressd_conn6` decide what becomes of a connect() and may turn
//! it to the proxy; `egressd_peer4` and `egressd_peer6` let getpeername() show what was dialled;
//! `egressd_tcp` hands the original destination from the application's socket to the accepted one;
//! `egressd_close` takes back a hand-off whose handshake failed. The decision itself is
//! [`egressd_abi::decide`].
//!
//! A program's name differs from its section's name: bpf-linker 0.10.4 cannot link one that equals
//! it.
#![no_std]
#![no_main]

mod connect;
mod context;
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

/// Lets the system call go on.
const ALLOW: i32 = 1;
/// Fails the system call, with the errno set by `bpf_set_retval`.
const REFUSE: i32 = 0;

/// connect() of an AF_INET socket.
#[cgroup_sock_addr(connect4)]
fn egressd_conn4(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, context::destination_v4(&ctx), connect::Family::V4)
}

/// connect() of an AF_INET6 socket, to an IPv4-mapped address too.
#[cgroup_sock_addr(connect6)]
fn egressd_conn6(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, context::destination_v6(&ctx), connect::Family::V6)
}

/// getpeername() of an AF_INET socket.
#[cgroup_sock_addr(getpeername4)]
fn egressd_peer4(ctx: SockAddrContext) -> i32 {
    peer::restore_v4(&ctx);
    ALLOW
}

/// getpeername() of an AF_INET6 socket.
#[cgroup_sock_addr(getpeername6)]
fn egressd_peer6(ctx: SockAddrContext) -> i32 {
    peer::restore_v6(&ctx);
    ALLOW
}

/// Stations of a TCP connection's life, on both ends.
#[sock_ops]
fn egressd_tcp(ctx: SockOpsContext) -> u32 {
    handoff::station(&ctx);
    0
}

/// close() of the last reference to a socket.
#[cgroup_sock(sock_release)]
fn egressd_close(ctx: SockContext) -> i32 {
    handoff::release(&ctx);
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
