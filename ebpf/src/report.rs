//! Counting and reporting.
#![expect(unsafe_code, reason = "helpers and per-CPU slots are raw")]

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns,
        generated::{bpf_get_current_cgroup_id, bpf_get_netns_cookie, bpf_get_socket_cookie},
    },
    programs::SockAddrContext,
};
use egressd_abi::{Counter, EVENT_DENIED, EVENT_NEW_NETNS, Event, Original};

use crate::maps::{COUNTS, EVENTS, RARE_EVENTS, REPORTED, REPORTS};

/// A network namespace without a listener is reported at most this often.
const REPORT_INTERVAL_NS: u64 = SECOND_NS;
/// Denials that each CPU reports in a second. The daemon writes as many lines in a small part of one.
const REPORTS_A_SECOND: u64 = 8192;
const SECOND_NS: u64 = 1_000_000_000;

/// Adds one on this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(slot) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's own. A program in softirq that counts between load and store
        // loses one of the two; the BPF target has no atomic addition in core.
        unsafe { *slot += 1 };
    }
}

/// Reports a connect() that was denied, unless this CPU has reported too many within the second; a
/// full buffer costs the report. Either is counted.
#[inline(always)]
pub(crate) fn denied(reason: u32, errno: i32, original: &Original) {
    let now = now();
    if !is_within_limit(now) {
        count(Counter::EventsLimited);
        return;
    }
    let Some(mut entry) = EVENTS.reserve(0) else {
        count(Counter::EventsLost);
        return;
    };
    let mut event = Event::new(EVENT_DENIED, reason, now, *original);
    event.errno = errno.unsigned_abs();
    entry.write(event);
    entry.submit(0);
}

/// Reports a namespace without a listener.
#[inline(always)]
pub(crate) fn new_netns(original: &Original) {
    let Some(mut entry) = RARE_EVENTS.reserve(0) else {
        count(Counter::EventsLost);
        return;
    };
    entry.write(Event::new(EVENT_NEW_NETNS, 0, now(), *original));
    entry.submit(0);
}

/// Counts a report against this CPU's share.
#[inline(always)]
pub(crate) fn is_within_limit(now: u64) -> bool {
    let Some(slot) = REPORTS.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: the slot is this CPU's own. A program that interrupts another costs the count one.
    let reports = unsafe { &mut *slot };
    if now.wrapping_sub(reports.since_ns) >= SECOND_NS {
        reports.since_ns = now;
        reports.sent = 0;
    }
    if reports.sent >= REPORTS_A_SECOND {
        return false;
    }
    reports.sent += 1;
    true
}

/// Whether a namespace without a listener is due for a report.
#[inline(always)]
pub(crate) fn netns_is_due(netns: u64) -> bool {
    let now = now();
    // SAFETY: the word is copied at once; a lost race costs one more report.
    if let Some(last) = unsafe { REPORTED.get(netns) }
        && now.wrapping_sub(*last) < REPORT_INTERVAL_NS
    {
        return false;
    }
    REPORTED.insert(netns, now, 0).is_ok()
}

/// The network namespace of a call's socket.
#[inline(always)]
pub(crate) fn netns(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the context of any sock_addr program.
    unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) }
}

/// The calling process and its real user.
#[inline(always)]
pub(crate) fn caller() -> (u32, u32) {
    ((bpf_get_current_pid_tgid() >> 32) as u32, bpf_get_current_uid_gid() as u32)
}

/// The cookie of a call's socket.
#[inline(always)]
pub(crate) fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the context of any sock_addr program.
    unsafe { bpf_get_socket_cookie(ctx.sock_addr.cast()) }
}

/// The cgroup of the calling process.
#[inline(always)]
pub(crate) fn current_cgroup() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_cgroup_id() }
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
