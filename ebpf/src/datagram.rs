//! Datagrams to services: they go to an endpoint that is chosen here, and its answers are shown as coming
//! from the service.

use aya_ebpf::{
    bindings::bpf_sock,
    programs::{SockAddrContext, SockContext},
};
use egressd_abi::{
    CONVERSATIONS, Class, Config, Conversation, Counter, DatagramSocket, END_CLOSED,
    END_NO_ENDPOINT, Endpoint, Errno, LEVELS_V4, LEVELS_V6, Matched, NO_ENDPOINT, PROTOCOL_UDP,
    Row, RowVerdict, VIEW_EMPTY, VIEW_ORIGINAL, View, classify,
};

use crate::{
    ALLOW, atomic,
    connect::{fail, turn_to},
    context::{self, Family},
    direct::{self, NOBODY, PROXY, TURNED, choose, record},
    dns::{self, Call},
    maps::{CLUSTERS, CONFIG, DATAGRAMS, ENDPOINTS},
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
    if sk.is_null() {
        return ALLOW;
    }
    if call == Call::Connect {
        disconnect(sk);
    }
    if !snapshot.head.has_datagrams() {
        return ALLOW;
    }
    let Some(config) = CONFIG.get(0) else {
        return ALLOW;
    };
    let socket = context::socket_facts(sk, false, config.mark);
    let elsewhere = report::netns(ctx) != config.netns || socket.bound_device;
    if elsewhere || report::current_cgroup() == config.own_cgroup {
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
    let mut place = find(state, call.to, endpoint);
    if place == NONE {
        // Several threads may send on one socket, and nobody else orders them.
        if !take(state) {
            report::count(Counter::OutOfMemory);
            return fail(Errno::Unreachable);
        }
        place = find(state, call.to, endpoint);
        let result = if place == NONE { begin(call, snapshot, row, state) } else { TURNED };
        atomic::exchange(&raw mut state.writing, 0);
        if result == PROXY {
            // Nobody else can tell where to: an allocated address leads nowhere by itself.
            return if row.is_allocated() { fail(Errno::Unreachable) } else { ALLOW };
        }
        if result == NOBODY {
            return fail(Errno::Refused);
        }
        if place == NONE {
            place = find(state, call.to, endpoint);
        }
        if place == NONE {
            return fail(Errno::Unreachable);
        }
    }
    state.latest = place;
    if call.connects {
        state.connected = place + 1;
    }
    ALLOW
}

/// Waits for the right to write, for as long as another thread may need it unless it is interrupted.
#[inline(always)]
fn take(state: &mut DatagramSocket) -> bool {
    const TRIES: u32 = 256;
    for _ in 0..TRIES {
        if atomic::exchange(&raw mut state.writing, 1) == 0 {
            return true;
        }
    }
    false
}

/// The place of a conversation with an endpoint that may be sent to, which is copied; [`NONE`] if there is
/// none. No thread is waited for.
#[inline(never)]
fn find(state: &DatagramSocket, to: &Endpoint, endpoint: &mut Endpoint) -> u32 {
    for place in 0..CONVERSATIONS {
        let conversation = &state.conversations[index(place)];
        let version = atomic::load(&raw const conversation.started_ns);
        if version != 0 && conversation.dialled == *to && is_usable(conversation) {
            *endpoint = conversation.endpoint;
            if atomic::load(&raw const conversation.started_ns) == version {
                return place;
            }
        }
    }
    NONE
}

/// Begins a conversation. Only one thread at a time.
#[inline(never)]
fn begin(call: &Speaking<'_>, snapshot: &Snapshot, row: &Row, state: &mut DatagramSocket) -> u32 {
    let slot = snapshot.cluster(row);
    let target = choose(call, slot);
    let (ctx, sk, to, family) = (call.ctx, call.sk, call.to, call.family);
    let (service, generation) = (row.service(), snapshot.head.number);
    let caller = direct::Call { ctx, sk, to, family, slot, service, generation };
    if target.result == NOBODY {
        report::count(Counter::DirectRefused);
        record::refused(&caller, END_NO_ENDPOINT, PROTOCOL_UDP);
    }
    if target.result != TURNED {
        return target.result;
    }
    if state.original.cookie == 0 {
        record::who(&raw mut state.original, &caller);
    }
    let place = place_for(state, to);
    end(state, place);
    let conversation = &mut state.conversations[index(place)];
    conversation.dialled = *to;
    conversation.cluster = slot;
    conversation.slot = target.endpoint;
    conversation.service = service;
    conversation.generation = generation;
    conversation.endpoint = if target.port == [0; 2] { *to } else { to.with_port(target.port) };
    if let Some(endpoint) = ENDPOINTS.get(target.endpoint) {
        conversation.endpoint = endpoint.address;
    }
    count(slot, target.endpoint);
    // From here on it may be read.
    atomic::exchange(&raw mut conversation.started_ns, report::now());
    report::count(Counter::Direct);
    TURNED
}

/// The place of a conversation with the same service, else the oldest one.
#[inline(always)]
fn place_for(state: &mut DatagramSocket, to: &Endpoint) -> u32 {
    for place in 0..CONVERSATIONS {
        let conversation = &state.conversations[index(place)];
        if conversation.started_ns != 0 && conversation.dialled == *to {
            return place;
        }
    }
    let place = state.next % CONVERSATIONS;
    state.next = state.next.wrapping_add(1);
    place
}

/// Where a conversation goes.
struct Target {
    /// [`TURNED`], [`PROXY`] or [`NOBODY`].
    result: u32,
    endpoint: u32,
    /// Of a destination that is its own endpoint; 0 for its own.
    port: [u8; 2],
}

#[inline(always)]
fn choose(call: &Speaking<'_>, slot: u32) -> Target {
    let nowhere = |result| Target { result, endpoint: NO_ENDPOINT, port: [0; 2] };
    let Some(cluster) = CLUSTERS.get_ptr_mut(slot) else {
        return nowhere(PROXY);
    };
    let view: &View = match direct::view(cluster) {
        Some(view) => view,
        None => return nowhere(PROXY),
    };
    if view.kind == VIEW_EMPTY {
        direct::refuse(cluster);
        return nowhere(NOBODY);
    }
    if view.kind == VIEW_ORIGINAL {
        return Target { port: view.port, ..nowhere(TURNED) };
    }
    // A datagram cannot change its family on the way.
    let levels = view.levels[if call.to.is_v4() { LEVELS_V4 } else { LEVELS_V6 }];
    if levels.count == 0 {
        return nowhere(PROXY);
    }
    let key = choose::key_of(call.sk, call.family, call.to);
    let endpoint = choose::endpoint(&levels, view.balance, slot, key);
    let result = if endpoint == NO_ENDPOINT { PROXY } else { TURNED };
    Target { result, endpoint, port: [0; 2] }
}

#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
fn count(cluster: u32, endpoint: u32) {
    if let Some(cluster) = CLUSTERS.get_ptr_mut(cluster) {
        // SAFETY: the slot is a map's value; its counters are written by atomic operations only.
        unsafe {
            atomic::add(&raw mut (*cluster).begun, 1);
            atomic::add(&raw mut (*cluster).conversations, 1);
        }
    }
    if let Some(endpoint) = ENDPOINTS.get_ptr_mut(endpoint) {
        // SAFETY: as above.
        unsafe {
            atomic::add(&raw mut (*endpoint).begun, 1);
            atomic::add(&raw mut (*endpoint).conversations, 1);
        }
    }
}

/// Ends the conversation at a place, if there is one. Nobody reads it from then on.
#[inline(never)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
fn end(state: &mut DatagramSocket, place: u32) {
    let conversation = &mut state.conversations[index(place)];
    let started_ns = atomic::exchange(&raw mut conversation.started_ns, 0);
    if started_ns == 0 {
        return;
    }
    if let Some(cluster) = CLUSTERS.get_ptr_mut(conversation.cluster) {
        // SAFETY: the slot is a map's value; its counters are written by atomic operations only.
        atomic::take_one(unsafe { &raw mut (*cluster).conversations });
    }
    if let Some(endpoint) = ENDPOINTS.get_ptr_mut(conversation.slot) {
        // SAFETY: as above.
        atomic::take_one(unsafe { &raw mut (*endpoint).conversations });
    }
    record::spoken(&state.original, conversation, started_ns, END_CLOSED);
}

/// Whether a conversation's endpoint may still be sent to.
#[inline(always)]
fn is_usable(conversation: &Conversation) -> bool {
    if conversation.slot == NO_ENDPOINT {
        return true;
    }
    match ENDPOINTS.get(conversation.slot) {
        Some(slot) => {
            // The slot may be another one's by now.
            atomic::load(&raw const slot.usable) == 1 && slot.address == conversation.endpoint
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
    if latest.endpoint == from && latest.started_ns != 0 {
        context::rewrite(ctx, &latest.dialled, family);
        return;
    }
    for place in 0..CONVERSATIONS {
        let conversation = &state.conversations[index(place)];
        if conversation.endpoint == from && conversation.started_ns != 0 {
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
        if conversation.started_ns != 0 {
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

/// A place as an index, masked where it is used: see `dns::index`.
#[inline(always)]
fn index(place: u32) -> usize {
    (core::hint::black_box(place) % CONVERSATIONS) as usize
}
