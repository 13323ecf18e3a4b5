//! Which endpoint a connection goes to: as `userspace/proxy/src/cluster/balance.rs` chooses.

use aya_ebpf::bindings::bpf_sock;
use egressd_abi::{
    BALANCE_RANDOM, BALANCE_ROUND_ROBIN, BALANCE_SOURCE_IP, Endpoint, Level, Levels,
    MAX_HASHED_ENDPOINTS, MAX_VIEW_LEVELS, NO_ENDPOINT, first_is_less_busy, first_wins, hash_words,
    ticket, turn_point,
};

use super::{Call, random_below};
use crate::{
    atomic, context,
    context::Family,
    maps::{CLUSTERS, ENDPOINT_ROWS, ENDPOINTS, LEVELS},
};

/// A power of two more than the endpoints of a level have halvings: 2^10 of them.
const HALVINGS: u32 = 11;

/// The slot of an endpoint of one of the levels; [`NO_ENDPOINT`] if there is none.
#[inline(always)]
pub(crate) fn endpoint(levels: &Levels, balance: u8, cluster: u32, key: u64) -> u32 {
    egressd_choose(levels.first, levels.count, u32::from(balance), cluster, key)
}

/// A function of its own, whose name the linker keeps: the verifier goes through it once, whatever its
/// arguments, and not again for every way that leads here.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the name must stay")]
extern "C" fn egressd_choose(first: u32, count: u32, balance: u32, cluster: u32, key: u64) -> u32 {
    let Some(level) = level(&Levels { first, count }) else {
        return NO_ENDPOINT;
    };
    let balance = balance as u8;
    if level.count <= 1 {
        return slot_at(level, 0);
    }
    if balance == BALANCE_ROUND_ROBIN {
        let turn = next_turn(cluster);
        if level.even == 1 {
            return slot_at(level, (turn % u64::from(level.count)) as u32);
        }
        let total = u64::from(level.total);
        if total == 0 {
            return NO_ENDPOINT;
        }
        return slot_at(level, find(level, turn_point(turn, total, u64::from(level.step)) as u32));
    }
    if balance == BALANCE_SOURCE_IP {
        return by_rendezvous(level, key);
    }
    let one = find(level, random_below(level.total));
    if balance == BALANCE_RANDOM {
        return slot_at(level, one);
    }
    let other = find(level, random_below(level.total));
    less_busy(level, one, other)
}

/// One of the levels, by its share of the load.
#[inline(always)]
fn level(levels: &Levels) -> Option<&'static Level> {
    if levels.count > 1 {
        let point = random_below(100);
        for index in 0..MAX_VIEW_LEVELS {
            if index >= levels.count {
                break;
            }
            let level = LEVELS.get(levels.first + index)?;
            if point < level.load_end {
                return Some(level);
            }
        }
    }
    LEVELS.get(levels.first)
}

/// The place whose share of the total holds `point`.
#[inline(never)]
fn find(level: &Level, point: u32) -> u32 {
    if level.even == 1 {
        let share = level.total / level.count.max(1);
        return point / share.max(1);
    }
    let (mut low, mut high) = (0, level.count);
    for _ in 0..HALVINGS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        let Some(row) = ENDPOINT_ROWS.get(level.first + middle) else {
            break;
        };
        if row.end <= point {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Of two places, that of the endpoint with fewer connections for its weight.
#[inline(always)]
fn less_busy(level: &Level, one: u32, other: u32) -> u32 {
    let (slot_one, slot_other) = (slot_at(level, one), slot_at(level, other));
    if slot_one == slot_other {
        return slot_one;
    }
    let first = (active(slot_one), weight(level, one));
    if first_is_less_busy(first, (active(slot_other), weight(level, other))) {
        slot_one
    } else {
        slot_other
    }
}

/// The endpoint that has this key. The daemon writes no level with more than are looked at.
#[inline(always)]
fn by_rendezvous(level: &Level, key: u64) -> u32 {
    let mut best = (NO_ENDPOINT, (u32::MAX, 1));
    let mut before = 0;
    for index in 0..MAX_HASHED_ENDPOINTS {
        if index >= level.count {
            break;
        }
        let Some(row) = ENDPOINT_ROWS.get(level.first + index) else {
            break;
        };
        let Some(slot) = ENDPOINTS.get(row.slot) else {
            break;
        };
        let drawn = (ticket(key, slot.hash), row.end.wrapping_sub(before));
        before = row.end;
        // The last of equals has it, as `Iterator::max_by` in the proxy's choice.
        if first_wins(drawn, best.1) {
            best = (row.slot, drawn);
        }
    }
    best.0
}

#[inline(always)]
fn slot_at(level: &Level, place: u32) -> u32 {
    match ENDPOINT_ROWS.get(level.first + place) {
        Some(row) => row.slot,
        None => NO_ENDPOINT,
    }
}

/// The weight at a place; any, as long as it is the same for all, where all are even.
#[inline(always)]
fn weight(level: &Level, place: u32) -> u32 {
    if level.even == 1 {
        return 1;
    }
    let Some(row) = ENDPOINT_ROWS.get(level.first + place) else {
        return 1;
    };
    let before = match ENDPOINT_ROWS.get((level.first + place).wrapping_sub(1)) {
        Some(before) if place > 0 => before.end,
        Some(_) | None => 0,
    };
    row.end.wrapping_sub(before)
}

#[inline(always)]
fn active(slot: u32) -> u64 {
    match ENDPOINTS.get(slot) {
        Some(slot) => {
            let conversations = atomic::load(&raw const slot.conversations);
            atomic::load(&raw const slot.active).wrapping_add(conversations)
        }
        None => 0,
    }
}

#[inline(always)]
#[expect(unsafe_code, reason = "the counters of a slot are shared")]
fn next_turn(cluster: u32) -> u64 {
    let Some(slot) = CLUSTERS.get_ptr_mut(cluster) else {
        return 0;
    };
    // SAFETY: the slot is a map's value; its counters are written by atomic operations only.
    atomic::next(unsafe { &raw mut (*slot).turn })
}

/// A number from the application's address: the one its socket is bound to, else that of loopback,
/// from which the proxy would see it come.
#[inline(always)]
pub(crate) fn client_key(call: &Call<'_>) -> u64 {
    key_of(call.sk, call.family, call.to)
}

/// The same of any socket and destination.
#[inline(always)]
pub(crate) fn key_of(sk: *mut bpf_sock, family: Family, to: &Endpoint) -> u64 {
    const LOOPBACK: u64 = 0x7f00_0001;
    if family == Family::V4 {
        let bound = context::bound_v4(sk);
        return hash_words(0, if bound == 0 { LOOPBACK } else { bound });
    }
    let (high, low) = context::bound_v6(sk);
    match (high, low) {
        (0, 0) if to.is_v4() => hash_words(0, LOOPBACK),
        (0, 0) => hash_words(0, 1),
        (0, mapped) if mapped >> 32 == 0xffff => hash_words(0, mapped & 0xffff_ffff),
        (high, low) => hash_words(high, low),
    }
}
