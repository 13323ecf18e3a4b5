//! The direct path: connect() goes to an endpoint that is chosen here.
//!
//! A connection is counted from here on by an entry of `FLOWS`. Whoever removes that entry takes the
//! connection from the counts: the socket's next connect(), its close(), the end of the connection, or
//! the daemon, whichever is first, and nobody a second time.

pub(crate) mod choose;
pub(crate) mod record;
pub(crate) mod tcp;

use aya_ebpf::{
    bindings::bpf_sock, helpers::generated::bpf_get_prandom_u32, programs::SockAddrContext,
};
use egressd_abi::{
    ClusterSlot, Counter, DirectSocket, Endpoint, Flow, FlowKey, LEVELS_ANY, LEVELS_V4, LEVELS_V6,
    NO_ENDPOINT, NO_LIMIT, PHASE_CHOSEN, VIEW_EMPTY, VIEW_ORIGINAL, View,
};

use crate::{
    atomic,
    context::{self, Family},
    maps::{CLUSTERS, DIRECT_SOCKETS, ENDPOINTS, FLOWS, VIEWS},
    report, storage,
};

/// The connection was turned to an endpoint.
pub(crate) const TURNED: u32 = 0;
/// The proxy is to decide: nothing is known of the cluster, or nothing is within the socket's reach.
pub(crate) const PROXY: u32 = 1;
/// No endpoint may be sent to.
pub(crate) const NOBODY: u32 = 2;
/// There are too many connections.
pub(crate) const FULL: u32 = 3;

/// BPF_NOEXIST: only where there is no entry with the key.
const NO_EXIST: u64 = 1;

/// What a choice is made for.
pub(crate) struct Call<'a> {
    /// The call.
    pub(crate) ctx: &'a SockAddrContext,
    /// Its socket.
    pub(crate) sk: *mut bpf_sock,
    /// What was dialled.
    pub(crate) to: &'a Endpoint,
    /// The program's.
    pub(crate) family: Family,
    /// Of the cluster.
    pub(crate) slot: u32,
    /// Of the row.
    pub(crate) service: u32,
    /// The rows'.
    pub(crate) generation: u32,
}

/// Chooses an endpoint and counts the connection. Leaves everything as it was unless [`TURNED`].
#[inline(always)]
pub(crate) fn turn(call: &Call<'_>) -> u32 {
    let Some(cluster) = CLUSTERS.get_ptr_mut(call.slot) else {
        return PROXY;
    };
    let Some(view) = view(cluster) else {
        return PROXY;
    };
    if view.kind == VIEW_EMPTY {
        refuse(cluster);
        return NOBODY;
    }
    let levels = view.levels[reach(call)];
    if view.kind != VIEW_ORIGINAL && levels.count == 0 {
        return PROXY;
    }
    if view.max_connections == NO_LIMIT {
        atomic::add(active(cluster), 1);
    } else if !atomic::add_below(active(cluster), view.max_connections.into()) {
        refuse(cluster);
        return FULL;
    }
    let endpoint = if view.kind == VIEW_ORIGINAL {
        NO_ENDPOINT
    } else {
        choose::endpoint(&levels, view.balance, call.slot, choose::client_key(call))
    };
    if !begin(call, view, cluster, endpoint) {
        atomic::take_one(active(cluster));
        return PROXY;
    }
    TURNED
}

/// Writes down what was chosen and counts it with the endpoint. Says whether there was room.
#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
fn begin(call: &Call<'_>, view: &View, cluster: *mut ClusterSlot, endpoint: u32) -> bool {
    let slot = ENDPOINTS.get_ptr_mut(endpoint);
    if slot.is_none() && view.kind != VIEW_ORIGINAL {
        return false;
    }
    let Some(state) = storage::get_or_create(&DIRECT_SOCKETS, call.sk.cast()) else {
        report::count(Counter::OutOfMemory);
        return false;
    };
    let (cookie, netns) = (report::cookie(call.ctx), report::netns(call.ctx));
    let started_ns = report::now();
    let flow = Flow { cluster: call.slot, endpoint, netns, started: 0, reserved: 0 };
    if FLOWS.insert(FlowKey { cookie, started_ns }, flow, NO_EXIST).is_err() {
        storage::delete(&DIRECT_SOCKETS, call.sk.cast());
        report::count(Counter::OutOfMemory);
        return false;
    }
    record::who(&raw mut state.original, call);
    state.cluster = call.slot;
    state.slot = endpoint;
    state.started_ns = started_ns;
    state.established_ns = 0;
    state.received_at_fin = 0;
    state.connect_timeout_ms = view.connect_timeout_ms;
    state.connect_timeout_jiffies = view.connect_timeout_jiffies;
    state.restore = 0;
    state.released = 0;
    state.fin_received = 0;
    state.fin_sent = 0;
    state.keepalive = u32::from(view.keepalive);
    state.phase = PHASE_CHOSEN;
    // SAFETY: the slots are maps' values; their counters are written by atomic operations only, and an
    // address never while somebody may read it.
    unsafe {
        atomic::add(&raw mut (*cluster).begun, 1);
        match slot {
            Some(slot) => {
                atomic::add(&raw mut (*slot).active, 1);
                atomic::add(&raw mut (*slot).begun, 1);
                state.endpoint = (*slot).address;
            }
            None if view.port == [0; 2] => state.endpoint = *call.to,
            None => state.endpoint = call.to.with_port(view.port),
        }
    }
    true
}

/// Takes a connection from the counts, unless that was done before.
#[inline(always)]
pub(crate) fn give_back(state: &DirectSocket) {
    let key = FlowKey { cookie: state.original.cookie, started_ns: state.started_ns };
    uncount(&key, state.cluster, state.slot);
}

/// The same, by the entry's key and the slots.
#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
pub(crate) fn uncount(key: &FlowKey, cluster: u32, endpoint: u32) {
    if !remove(key) {
        return;
    }
    if let Some(cluster) = CLUSTERS.get_ptr_mut(cluster) {
        atomic::take_one(active(cluster));
    }
    if let Some(slot) = ENDPOINTS.get_ptr_mut(endpoint) {
        // SAFETY: the slot is a map's value; its counters are written by atomic operations only.
        atomic::take_one(unsafe { &raw mut (*slot).active });
    }
}

/// Takes an entry away; false if somebody has done so before. Whoever is interrupted by another program at
/// the same entry's bucket is told that it is busy: once more will do.
#[inline(always)]
fn remove(key: &FlowKey) -> bool {
    const ENOENT: i32 = -2;
    match FLOWS.remove(key) {
        Ok(()) => true,
        Err(ENOENT) => false,
        Err(_) => {
            let done = FLOWS.remove(key).is_ok();
            if !done {
                report::count(Counter::OutOfMemory);
            }
            done
        }
    }
}

/// Says that a connection's SYN goes out. If the daemon has taken it from the counts, as it does with what
/// does not begin for long, it is counted anew.
#[inline(always)]
#[expect(unsafe_code, reason = "the entry is written in place")]
pub(crate) fn started(state: &DirectSocket) {
    let key = FlowKey { cookie: state.original.cookie, started_ns: state.started_ns };
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: one word of the entry of this connection.
        unsafe { (*flow).started = 1 };
        return;
    }
    let (cluster, endpoint) = (state.cluster, state.slot);
    let netns = state.original.netns;
    let flow = Flow { cluster, endpoint, netns, started: 1, reserved: 0 };
    if FLOWS.insert(key, flow, NO_EXIST).is_err() {
        return;
    }
    if let Some(cluster) = CLUSTERS.get_ptr_mut(cluster) {
        atomic::add(active(cluster), 1);
    }
    if let Some(slot) = ENDPOINTS.get_ptr_mut(endpoint) {
        // SAFETY: the slot is a map's value; its counters are written by atomic operations only.
        atomic::add(unsafe { &raw mut (*slot).active }, 1);
    }
}

/// Ends what an earlier connect() of a socket has begun, if there was one.
#[inline(always)]
pub(crate) fn forget(sk: *mut bpf_sock) {
    if storage::get(&DIRECT_SOCKETS, sk.cast()).is_some() {
        end(sk);
    }
}

/// Ends what an earlier connect() of a socket has begun. A function of its own: hardly any socket has.
#[inline(never)]
fn end(sk: *mut bpf_sock) {
    let Some(state) = storage::get(&DIRECT_SOCKETS, sk.cast()) else {
        return;
    };
    give_back(state);
    record::unstarted(state);
    storage::delete(&DIRECT_SOCKETS, sk.cast());
}

/// A cluster's view in force.
#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
pub(crate) fn view(cluster: *mut ClusterSlot) -> Option<&'static View> {
    // SAFETY: the slot is a map's value.
    let number = atomic::load(unsafe { &raw const (*cluster).view });
    // None is 0, and the number before it is no view's.
    VIEWS.get(number.wrapping_sub(1))
}

#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
fn active(cluster: *mut ClusterSlot) -> *mut u64 {
    // SAFETY: the slot is a map's value.
    unsafe { &raw mut (*cluster).active }
}

#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
pub(crate) fn refuse(cluster: *mut ClusterSlot) {
    // SAFETY: the slot is a map's value; its counters are written by atomic operations only.
    atomic::add(unsafe { &raw mut (*cluster).refused }, 1);
}

/// Which endpoints a socket reaches: as an index of [`View::levels`].
///
/// An AF_INET6 socket reaches IPv4 unless it is IPV6_V6ONLY, which one that dials an IPv4-mapped
/// address is not. A source address it is bound to has a family as well.
#[inline(always)]
fn reach(call: &Call<'_>) -> usize {
    match call.family {
        Family::V4 => LEVELS_V4,
        Family::V6 if call.to.is_v4() => {
            if context::is_bound_v6(call.sk) {
                LEVELS_V4
            } else {
                LEVELS_ANY
            }
        }
        Family::V6 if context::is_bound_v6(call.sk) || context::is_v6_only(call.sk) => LEVELS_V6,
        Family::V6 => LEVELS_ANY,
    }
}

/// A number less than `limit`, which is not 0.
#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
pub(crate) fn random_below(limit: u32) -> u32 {
    // SAFETY: the helper has no preconditions.
    let random = unsafe { bpf_get_prandom_u32() };
    ((u64::from(random) * u64::from(limit)) >> 32) as u32
}
