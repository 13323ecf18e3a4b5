//! DNS queries: turned to our server, and its answers shown as coming from the one that was asked.

use aya_ebpf::{bindings::bpf_sock, programs::SockAddrContext};
use egressd_abi::{
    Config, DNS_PORT, DNS_SLOTS, DNS_SPREAD, DnsFacts, DnsSocket, Endpoint, captures_dns,
};

use crate::{
    context::{self, Family},
    listener,
    maps::{CONFIG, DNS_HEARTBEAT, DNS_SERVERS, DNS_SOCKETS},
    report, storage,
};

/// Which server slot 0 of a socket's answers came for, when there is only one.
const FIRST: u32 = 0;

/// A connect() or sendmsg() of a UDP socket: perhaps to our DNS server instead.
///
/// What a connect() left is undone by the next one. Says whether it was turned.
#[inline(always)]
pub(crate) fn turn(ctx: &SockAddrContext, call: Call, family: Family) -> bool {
    let sk = context::sock_addr_socket(ctx);
    let Some(config) = CONFIG.get(0) else {
        return false;
    };
    if sk.is_null() || config.dns_port == 0 {
        return false;
    }
    let to = &context::address(ctx, family);
    if !captures(ctx, sk, to, config, Transport::Udp) {
        if call == Call::Connect {
            storage::delete(&DNS_SOCKETS, sk.cast());
        }
        return false;
    }
    let Some(state) = storage::get_or_create(&DNS_SOCKETS, sk.cast()) else {
        return false;
    };
    let slot = match call {
        Call::Connect => {
            *state = EMPTY;
            state.connected = 1;
            claim(state, to)
        }
        Call::Send => find(state, to).unwrap_or_else(|| claim(state, to)),
    };
    let target = spread(config, to, slot);
    context::rewrite(ctx, &target, family);
    true
}

/// The call a UDP socket makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// connect().
    Connect,
    /// sendto() or sendmsg() with an address.
    Send,
}

/// How a query travels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// One datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// Whether a query to `to` is turned to us; answers for TCP connections as well.
#[inline(always)]
pub(crate) fn captures(
    ctx: &SockAddrContext,
    sk: *mut bpf_sock,
    to: &Endpoint,
    config: &Config,
    transport: Transport,
) -> bool {
    let to_dns_port = to.port() == DNS_PORT;
    if config.dns_port == 0 || !to_dns_port {
        return false;
    }
    let own_cgroup = report::current_cgroup() == config.own_cgroup;
    let mut facts = DnsFacts {
        to_dns_port,
        own_cgroup,
        bound_device: context::socket_facts(sk, own_cgroup, config.mark).bound_device,
        server_is_captured: config.captures_all_dns() || is_listed(to),
        listener: true,
        heartbeat_age_ns: heartbeat_age_ns(),
    };
    // The look-up is the dear part: only where the answer hangs on it.
    if captures_dns(&facts) {
        let at = spread(config, to, FIRST);
        facts.listener = match transport {
            Transport::Udp => listener::is_ours_udp(ctx, &at),
            Transport::Tcp => listener::is_ours(ctx, &at),
        };
    }
    captures_dns(&facts)
}

/// Where our server listens for TCP queries to servers of this family.
#[inline(always)]
pub(crate) fn tcp_target(config: &Config, to: &Endpoint) -> Endpoint {
    spread(config, to, FIRST)
}

/// An answer arrives: its source becomes the server that the application asked.
#[inline(always)]
pub(crate) fn restore_source(ctx: &SockAddrContext, family: Family) -> bool {
    let sk = context::sock_addr_socket(ctx);
    let Some(config) = CONFIG.get(0) else {
        return false;
    };
    if sk.is_null() || config.dns_port == 0 {
        return false;
    }
    let Some(slot) = slot_of(config, &context::address(ctx, family)) else {
        return false;
    };
    let Some(state) = storage::get(&DNS_SOCKETS, sk.cast()) else {
        return false;
    };
    show(ctx, state, slot, family);
    true
}

/// getpeername() of a connected UDP socket, if its connect() was turned.
#[inline(always)]
pub(crate) fn restore_peer(ctx: &SockAddrContext, sk: *mut bpf_sock, family: Family) -> bool {
    if let Some(state) = storage::get(&DNS_SOCKETS, sk.cast())
        && state.connected == 1
    {
        show(ctx, state, FIRST, family);
        return true;
    }
    false
}

#[inline(always)]
fn show(ctx: &SockAddrContext, state: &DnsSocket, slot: u32, family: Family) {
    let server = &state.servers[index(slot)];
    if server.port() == 0 {
        return;
    }
    context::rewrite(ctx, server, family);
}

const EMPTY: DnsSocket = DnsSocket {
    servers: [Endpoint::from_v4_bytes([0; 4], [0; 2]); DNS_SLOTS as usize],
    next: 0,
    connected: 0,
};

#[inline(always)]
fn find(state: &DnsSocket, server: &Endpoint) -> Option<u32> {
    (0..DNS_SLOTS).find(|slot| state.servers[index(*slot)] == *server)
}

#[inline(always)]
fn claim(state: &mut DnsSocket, server: &Endpoint) -> u32 {
    let slot = state.next % DNS_SLOTS;
    state.next = state.next.wrapping_add(1);
    state.servers[index(slot)] = *server;
    slot
}

/// A slot as an index, masked where it is used. LLVM would drop the mask after a comparison that it
/// has seen and the verifier has lost: `R0 unbounded memory access`.
#[inline(always)]
fn index(slot: u32) -> usize {
    (core::hint::black_box(slot) % DNS_SLOTS) as usize
}

/// The spread address of a slot, in the family of the server.
#[inline(always)]
fn spread(config: &Config, server: &Endpoint, slot: u32) -> Endpoint {
    if server.is_v4() {
        let [a, b, c, _] = DNS_SPREAD;
        let port = (config.dns_port as u16).to_be_bytes();
        return Endpoint::from_v4_bytes([a, b, c, slot as u8 + 1], port);
    }
    let mut ip = [0; 16];
    ip[15] = 1;
    let port = (config.dns_port as u16).wrapping_add(slot as u16);
    Endpoint::from_v6_bytes(ip, port.to_be_bytes())
}

#[inline(always)]
fn slot_of(config: &Config, from: &Endpoint) -> Option<u32> {
    let b = from.addr().bytes();
    let port = u32::from(from.port());
    let slot = if from.is_v4() {
        let [x, y, z, _] = DNS_SPREAD;
        if port != config.dns_port || b[0] != x || b[1] != y || b[2] != z {
            return None;
        }
        u32::from(b[3]).wrapping_sub(1)
    } else {
        let mut loopback = [0; 16];
        loopback[15] = 1;
        if *b != loopback {
            return None;
        }
        port.wrapping_sub(config.dns_port)
    };
    (slot < DNS_SLOTS).then_some(slot)
}

#[inline(always)]
fn is_listed(server: &Endpoint) -> bool {
    DNS_SERVERS.get_ptr(server.without_port()).is_some()
}

#[inline(always)]
fn heartbeat_age_ns() -> u64 {
    let last = DNS_HEARTBEAT.get(0).copied().unwrap_or(0);
    report::now().saturating_sub(last)
}
