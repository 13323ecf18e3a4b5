//! getpeername() shows the address the application dialled.

use aya_ebpf::programs::SockAddrContext;

use crate::{context, maps::SOCKETS, storage};

/// For an AF_INET socket.
#[inline(always)]
pub(crate) fn restore_v4(ctx: &SockAddrContext) {
    let sk = context::sock_addr_socket(ctx);
    if sk.is_null() {
        return;
    }
    if let Some(state) = storage::get(&SOCKETS, sk.cast()) {
        let dialled = state.original.destination;
        context::rewrite_v4(ctx, &dialled);
    }
}

/// For an AF_INET6 socket, which may have dialled an IPv4-mapped address.
#[inline(always)]
pub(crate) fn restore_v6(ctx: &SockAddrContext) {
    let sk = context::sock_addr_socket(ctx);
    if sk.is_null() {
        return;
    }
    if let Some(state) = storage::get(&SOCKETS, sk.cast()) {
        let dialled = state.original.destination;
        context::rewrite_v6(ctx, &dialled);
    }
}
