//! Datagrams to services: they go to an endpoint that is chosen here, and its answers are shown as coming
//! from the service.

use aya_ebpf::{
    bindings::bpf_sock,
    programs::{SockAddrContext, SockContext},
};
use egressd_abi::{
    CONVERSATIONS, Class, Config, Conversation, Counter, DatagramSocket, END_CLOSED,
    END_NO_ENDPOINT, Endpoint, Errno, Flow, FlowKey, LEVELS_V4, LEVELS_V6, Matched, NO_ENDPOINT,
    PROTOCOL_UDP, Row, RowVerdict, VIEW_EMPTY, VIEW_ORIGINAL, View, classify,
};

use crate::{
    ALLOW, atomic,
    connect::{fail, turn_to},
    context::{self, Family},
    direct::{self, choose, record},
    dns::{self, Call},
    maps::{CLUSTERS, CONFIG, DATAGRAMS, ENDPOINTS, FLOWS},
    report,
    rows::Snapshot,
    storage,
};

/// No conversation.
const NONE: u32 = u32::MAX;

/// A connect() or sendmsg() of a UDP socket: DNS rules go first.
#[inline(always)]
pub(crate) fn turn(ctx: &SockAddrContext, call: Call, family: Family) -> i32 {
    if query(ctx, call, family) {
        return ALLOW;
    }
    let snapshot = Snapshot::current();
    let sk = context::sock_addr_socket(ctx);
    if sk.is_null() || !snapshot.head.has_datagrams() {
        return ALLOW;
    }
    if call == Call::Connect {
        disconnect(sk);
    }
    let Some(config) = CONFIG.get(0) else {
        return ALLOW;
    };
    if report::current_cgroup() == config.own_cgroup {
        return ALLOW;
    }
    let mut to = Endpoint::from_v4_bytes([0; 4], [0; 2]);
    read_address(ctx, family, &mut to);
    let mut row = Row::NONE;
    find_row(&snapshot, &to, config, &mut row);
    if row.verdict() != Some(RowVerdict::Direct) {
        return ALLOW;
    }
    let call = Speaking { ctx, sk, to: &to, family, connects: call == Call::Connect };
    let mut endpoint = to;
    let result = speak(&call, &snapshot, &row, &mut endpoint);
    if result == ALLOW {
        turn_to(ctx, family, &endpoint);
    }
    result
}

/// What a datagram or a connect() is about.
struct Speaking<'a> {
    ctx: &'a SockAddrContext,
    sk: *mut bpf_sock,
    to: &'a Endpoint,
    family: Family,
    connects: bool,
}

#[inline(never)]
fn query(ctx: &SockAddrContext, call: Call, family: Family) -> bool {
    dns::turn(ctx, call, family)
}

#[inline(never)]
fn read_address(ctx: &SockAddrContext, family: Family, to: &mut Endpoint) {
    *to = context::address(ctx, family);
}

/// The row for a destination of datagrams, unless the rules for places that are left alone say otherwise:
/// as `egressd_abi::decide` has them.
#[inline(never)]
fn find_row(snapshot: &Snapshot, to: &Endpoint, config: &Config, found: &mut Row) {
    let (matched, row) = snapshot.row(&to.udp());
    let left_alone = !matches!(classify(to, config), Class::Remote) || snapshot.excludes(to);
    if matched == Matched::Exact || !row.is_none() && !left_alone {
        *found = row;
    }
}

/// Finds the socket's conversation with the service, or begins one, and says where it goes.
#[inline(never)]
fn speak(call: &Speaking<'_>, snapshot: &Snapshot, row: &Row, endpoint: &mut Endpoint) -> i32 {
    let Some(state) = storage::get_or_create(&DATAGRAMS, call.sk.cast()) else {
        report::count(Counter::OutOfMemory);
        return fail(Errno::Unreachable);
    };
    let mut place = find_dialled(state, call.to);
    if place == NONE || !is_usable(&state.conversations[index(place)]) {
        let slot = snapshot.cluster(row);
        let target = choose(call, slot);
        if target.result == direct::PROXY {
            // Nobody else can tell where to: an allocated address leads nowhere by itself.
            return if row.is_allocated() { fail(Errno::Unreachable) } else { ALLOW };
        }
        if target.result == direct::NOBODY {
            let (ctx, sk, to, family) = (call.ctx, call.sk, call.to, call.family);
            let (service, generation) = (row.service(), snapshot.head.number);
            let refused = direct::Call { ctx, sk, to, family, slot, service, generation };
            report::count(Counter::DirectRefused);
            record::refused(&refused, END_NO_ENDPOINT, PROTOCOL_UDP);
            return fail(Errno::Refused);
        }
        if place == NONE {
            place = state.next % CONVERSATIONS;
            state.next = state.next.wrapping_add(1);
        }
        end(state, place);
        begin(state, place, call, slot, &target);
        let began = &mut state.conversations[index(place)];
        began.service = row.service();
        began.generation = snapshot.head.number;
    }
    state.latest = place;
    if call.connects {
        state.connected = place + 1;
    }
    *endpoint = state.conversations[index(place)].endpoint;
    ALLOW
}

/// Where a conversation goes.
struct Target {
    /// [`direct::TURNED`], [`direct::PROXY`] or [`direct::NOBODY`].
    result: u32,
    endpoint: u32,
    /// Of a destination that is its own endpoint; 0 for its own.
    port: [u8; 2],
}

#[inline(always)]
fn choose(call: &Speaking<'_>, slot: u32) -> Target {
    let nowhere = |result| Target { result, endpoint: NO_ENDPOINT, port: [0; 2] };
    let Some(cluster) = CLUSTERS.get_ptr_mut(slot) else {
        return nowhere(direct::PROXY);
    };
    let view: &View = match direct::view(cluster) {
        Some(view) => view,
        None => return nowhere(direct::PROXY),
    };
    if view.kind == VIEW_EMPTY {
        direct::refuse(cluster);
        return nowhere(direct::NOBODY);
    }
    if view.kind == VIEW_ORIGINAL {
        return Target { port: view.port, ..nowhere(direct::TURNED) };
    }
    // A datagram cannot change its family on the way.
    let levels = view.levels[if call.to.is_v4() { LEVELS_V4 } else { LEVELS_V6 }];
    if levels.count == 0 {
        return nowhere(direct::PROXY);
    }
    let key = choose::key_of(call.sk, call.family, call.to);
    let endpoint = choose::endpoint(&levels, view.balance, slot, key);
    let result = if endpoint == NO_ENDPOINT { direct::PROXY } else { direct::TURNED };
    Target { result, endpoint, port: [0; 2] }
}

/// Writes a conversation down, and counts it.
#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
fn begin(state: &mut DatagramSocket, place: u32, call: &Speaking<'_>, slot: u32, target: &Target) {
    let started_ns = report::now();
    if state.original.cookie == 0 {
        let (service, generation) = (0, 0);
        let (ctx, sk, to, family) = (call.ctx, call.sk, call.to, call.family);
        let caller = direct::Call { ctx, sk, to, family, slot, service, generation };
        record::who(&raw mut state.original, &caller);
    }
    let key = FlowKey { cookie: state.original.cookie, started_ns };
    // No network namespace: such an entry is never looked for among connections.
    let flow = Flow { cluster: slot, endpoint: target.endpoint, netns: 0 };
    let counted = FLOWS.insert(key, flow, 1).is_ok();
    let conversation = &mut state.conversations[index(place)];
    conversation.dialled = *call.to;
    conversation.cluster = slot;
    conversation.slot = target.endpoint;
    conversation.started_ns = started_ns;
    conversation.endpoint =
        if target.port == [0; 2] { *call.to } else { call.to.with_port(target.port) };
    if let Some(cluster) = CLUSTERS.get_ptr_mut(slot) {
        // SAFETY: the slot is a map's value; its counters are written by atomic operations only.
        unsafe {
            atomic::add(&raw mut (*cluster).begun, 1);
            atomic::add(&raw mut (*cluster).active, u64::from(counted));
        }
    }
    if let Some(endpoint) = ENDPOINTS.get_ptr_mut(target.endpoint) {
        // SAFETY: as above; its address never changes while somebody may read it.
        unsafe {
            atomic::add(&raw mut (*endpoint).begun, 1);
            atomic::add(&raw mut (*endpoint).active, u64::from(counted));
            conversation.endpoint = (*endpoint).address;
        }
    }
    report::count(Counter::Direct);
}

/// Ends the conversation at a place, if there is one.
#[inline(never)]
fn end(state: &mut DatagramSocket, place: u32) {
    let cookie = state.original.cookie;
    let conversation = &mut state.conversations[index(place)];
    if conversation.dialled.port() == 0 {
        return;
    }
    let key = FlowKey { cookie, started_ns: conversation.started_ns };
    direct::uncount(&key, conversation.cluster, conversation.slot);
    record::spoken(&state.original, conversation, END_CLOSED);
    conversation.dialled = Endpoint::from_v4_bytes([0; 4], [0; 2]);
}

/// Whether a conversation's endpoint may still be sent to.
#[inline(always)]
fn is_usable(conversation: &Conversation) -> bool {
    if conversation.slot == NO_ENDPOINT {
        return true;
    }
    match ENDPOINTS.get(conversation.slot) {
        Some(slot) => {
            atomic::load(&raw const slot.usable) == 1 && slot.cluster == conversation.cluster + 1
        }
        None => false,
    }
}

/// An answer arrives: its source becomes the service.
#[inline(always)]
pub(crate) fn restore_source(ctx: &SockAddrContext, family: Family) {
    if dns::restore_source(ctx, family) {
        return;
    }
    let sk = context::sock_addr_socket(ctx);
    if sk.is_null() {
        return;
    }
    if let Some(state) = storage::get(&DATAGRAMS, sk.cast()) {
        show_source(ctx, state, family);
    }
}

#[inline(never)]
fn show_source(ctx: &SockAddrContext, state: &DatagramSocket, family: Family) {
    let mut from = Endpoint::from_v4_bytes([0; 4], [0; 2]);
    read_address(ctx, family, &mut from);
    let latest = &state.conversations[index(state.latest)];
    if latest.endpoint == from && latest.dialled.port() != 0 {
        context::rewrite(ctx, &latest.dialled, family);
        return;
    }
    for place in 0..CONVERSATIONS {
        let conversation = &state.conversations[index(place)];
        if conversation.endpoint == from && conversation.dialled.port() != 0 {
            context::rewrite(ctx, &conversation.dialled, family);
            return;
        }
    }
}

/// getpeername() of a connected UDP socket.
#[inline(always)]
pub(crate) fn restore_peer(ctx: &SockAddrContext, sk: *mut bpf_sock, family: Family) {
    if dns::restore_peer(ctx, sk, family) {
        return;
    }
    if let Some(state) = storage::get(&DATAGRAMS, sk.cast())
        && state.connected > 0
    {
        let conversation = &state.conversations[index(state.connected - 1)];
        if conversation.dialled.port() != 0 {
            context::rewrite(ctx, &conversation.dialled, family);
        }
    }
}

/// The last reference to a socket goes.
#[inline(always)]
pub(crate) fn release(ctx: &SockContext) {
    if let Some(state) = storage::get(&DATAGRAMS, ctx.sock.cast()) {
        for place in 0..CONVERSATIONS {
            end(state, place);
        }
    }
}

/// connect() names somebody else.
#[inline(always)]
fn disconnect(sk: *mut bpf_sock) {
    if let Some(state) = storage::get(&DATAGRAMS, sk.cast()) {
        state.connected = 0;
    }
}

#[inline(always)]
fn find_dialled(state: &DatagramSocket, to: &Endpoint) -> u32 {
    for place in 0..CONVERSATIONS {
        if state.conversations[index(place)].dialled == *to {
            return place;
        }
    }
    NONE
}

/// A place as an index, masked where it is used: see `dns::index`.
#[inline(always)]
fn index(place: u32) -> usize {
    (core::hint::black_box(place) % CONVERSATIONS) as usize
}
