//! getpeername() shows the address the application dialled.

use aya_ebpf::programs::SockAddrContext;

use crate::{
    context::{self, Family},
    datagram,
    maps::{DIRECT_SOCKETS, SOCKETS},
    storage,
};

/// Restores it where we turned the connection.
#[inline(always)]
pub(crate) fn restore(ctx: &SockAddrContext, family: Family) {
    let sk = context::sock_addr_socket(ctx);
    if sk.is_null() {
        return;
    }
    if context::is_udp(ctx) {
        datagram::restore_peer(ctx, sk, family);
        return;
    }
    if let Some(state) = storage::get(&SOCKETS, sk.cast()) {
        let dialled = state.original.destination;
        context::rewrite(ctx, &dialled, family);
    } else if let Some(state) = storage::get(&DIRECT_SOCKETS, sk.cast()) {
        let dialled = state.original.destination;
        context::rewrite(ctx, &dialled, family);
    }
}
