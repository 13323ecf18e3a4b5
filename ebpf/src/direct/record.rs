//! The record of a connection, for the daemon.

use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use egressd_abi::{
    Conversation, Counter, DirectEvent, DirectSocket, END_NOT_STARTED, Endpoint, Errno, Original,
    PHASE_CHOSEN, PHASE_OVER, PROTOCOL_TCP, PROTOCOL_UDP,
};

use super::Call;
use crate::{atomic, maps::RECORDS, report};

/// BPF_RB_NO_WAKEUP: the daemon finds it the next time it looks.
const NO_WAKEUP: u64 = 1;
/// BPF_RB_FORCE_WAKEUP.
const WAKEUP: u64 = 2;
/// BPF_RB_AVAIL_DATA.
const AVAILABLE: u64 = 0;
/// With so many bytes waiting the daemon is woken up: a quarter of the buffer.
const MANY: u64 = 1 << 17;

const NOWHERE: Endpoint = Endpoint::from_v4_bytes([0; 4], [0; 2]);

/// The numbers that only some records have.
#[derive(Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) local: Endpoint,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) rtt_us: u32,
    pub(crate) retransmits: u32,
}

impl Traffic {
    /// Of a connection that never was.
    pub(crate) const NONE: Self =
        Self { local: NOWHERE, sent: 0, received: 0, rtt_us: 0, retransmits: 0 };
}

/// Says that a connection is over and has its record: true for one caller only.
#[inline(always)]
pub(crate) fn claim(state: &mut DirectSocket) -> bool {
    atomic::exchange(&raw mut state.phase, PHASE_OVER) != PHASE_OVER
}

/// The record of a connection whose SYN never went out, if it has none, unless there are too many.
#[inline(always)]
pub(crate) fn unstarted(state: &mut DirectSocket) {
    if state.phase != PHASE_CHOSEN || !claim(state) {
        return;
    }
    if report::is_within_limit(report::now()) {
        send(state, END_NOT_STARTED, &Traffic::NONE);
    } else {
        report::count(Counter::EventsLimited);
    }
}

/// Sends the record of a connection.
#[inline(always)]
#[expect(unsafe_code, reason = "the record is written in place")]
pub(crate) fn send(state: &DirectSocket, end: u32, traffic: &Traffic) {
    let Some(mut entry) = RECORDS.reserve(0) else {
        report::count(Counter::RecordsLost);
        return;
    };
    let event: *mut DirectEvent = entry.as_mut_ptr();
    // SAFETY: the entry is ours until it is submitted, and every field is written.
    unsafe {
        (*event).original = state.original;
        (*event).endpoint = state.endpoint;
        (*event).local = traffic.local;
        (*event).cluster = state.cluster;
        (*event).end = end;
        (*event).started_ns = state.started_ns;
        (*event).established_ns = state.established_ns;
        (*event).ended_ns = report::now();
        (*event).sent = traffic.sent;
        (*event).received = traffic.received;
        (*event).rtt_us = traffic.rtt_us;
        (*event).retransmits = traffic.retransmits;
        (*event).protocol = PROTOCOL_TCP;
        (*event).connect_timeout_ms = state.connect_timeout_ms;
        (*event).errno = 0;
        (*event).reserved = 0;
    }
    entry.submit(if matters(end) { WAKEUP } else { NO_WAKEUP });
}

/// Sends the record of a connect() that was refused, unless there are too many.
#[inline(never)]
#[expect(unsafe_code, reason = "the record is written in place")]
pub(crate) fn refused(call: &Call<'_>, end: u32, protocol: u32) {
    let now = report::now();
    if !report::is_within_limit(now) {
        report::count(Counter::EventsLimited);
        return;
    }
    let Some(mut entry) = RECORDS.reserve(0) else {
        report::count(Counter::RecordsLost);
        return;
    };
    let event: *mut DirectEvent = entry.as_mut_ptr();
    // SAFETY: the entry is ours until it is submitted, and every field is written.
    unsafe {
        who(&raw mut (*event).original, call);
        (*event).endpoint = NOWHERE;
        (*event).local = NOWHERE;
        (*event).cluster = call.slot;
        (*event).end = end;
        (*event).started_ns = now;
        (*event).established_ns = 0;
        (*event).ended_ns = now;
        (*event).sent = 0;
        (*event).received = 0;
        (*event).rtt_us = 0;
        (*event).retransmits = 0;
        (*event).protocol = protocol;
        (*event).connect_timeout_ms = 0;
        (*event).errno = Errno::Refused.number().unsigned_abs();
        (*event).reserved = 0;
    }
    entry.submit(if is_full() { WAKEUP } else { NO_WAKEUP });
}

/// Sends the record of a conversation in datagrams, unless there are too many.
#[inline(always)]
#[expect(unsafe_code, reason = "the record is written in place")]
pub(crate) fn spoken(original: &Original, conversation: &Conversation, started_ns: u64, end: u32) {
    if !report::is_within_limit(report::now()) {
        report::count(Counter::EventsLimited);
        return;
    }
    let Some(mut entry) = RECORDS.reserve(0) else {
        report::count(Counter::RecordsLost);
        return;
    };
    let event: *mut DirectEvent = entry.as_mut_ptr();
    // SAFETY: the entry is ours until it is submitted, and every field is written.
    unsafe {
        (*event).original = *original;
        (*event).original.destination = conversation.dialled;
        (*event).original.service = conversation.service;
        (*event).original.generation = conversation.generation;
        (*event).endpoint = conversation.endpoint;
        (*event).local = NOWHERE;
        (*event).cluster = conversation.cluster;
        (*event).end = end;
        (*event).started_ns = started_ns;
        (*event).established_ns = 0;
        (*event).ended_ns = report::now();
        (*event).sent = 0;
        (*event).received = 0;
        (*event).rtt_us = 0;
        (*event).retransmits = 0;
        (*event).protocol = PROTOCOL_UDP;
        (*event).connect_timeout_ms = 0;
        (*event).errno = 0;
        (*event).reserved = 0;
    }
    entry.submit(if is_full() { WAKEUP } else { NO_WAKEUP });
}

/// Writes down who calls, field by field: on the stack there is no room for it.
#[inline(always)]
#[expect(unsafe_code, reason = "the place is a map's or a buffer's")]
pub(crate) fn who(place: *mut Original, call: &Call<'_>) {
    let caller = report::caller();
    // SAFETY: the place is a value of a map or a reserved entry, and nobody else's.
    unsafe {
        (*place).destination = *call.to;
        (*place).service = call.service;
        (*place).generation = call.generation;
        (*place).pid = caller.0;
        (*place).cgroup = report::current_cgroup();
        (*place).cookie = report::cookie(call.ctx);
        (*place).netns = report::netns(call.ctx);
        (*place).uid = caller.1;
        (*place).reserved = 0;
    }
}

/// Whether the daemon should hear of it at once: failures, from which it learns whom to avoid.
#[inline(always)]
fn matters(end: u32) -> bool {
    use egressd_abi::{END_CONNECT_FAILED, END_RESET};
    end == END_CONNECT_FAILED || end == END_RESET || is_full()
}

#[inline(always)]
#[expect(unsafe_code, reason = "helpers are raw")]
fn is_full() -> bool {
    let map = core::ptr::from_ref(&RECORDS).cast_mut().cast();
    // SAFETY: the map is a ring buffer.
    unsafe { bpf_ringbuf_query(map, AVAILABLE) > MANY }
}
