//! Atomic operations on map values, which every CPU and the daemon share.
//!
//! `core::sync::atomic` has none for the BPF target, which it believes to be without them; the
//! instructions are there since Linux 5.12. For the oldest processor, which this is built for, LLVM has
//! those of 64 bits, and no addition that gives a value back.
#![expect(unsafe_code, reason = "intrinsics take raw pointers")]

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};

/// Attempts to add before it is done without knowing to what. Each fails only if another CPU has just
/// succeeded.
const TRIES: u32 = 8;

/// Adds to a number.
#[inline(always)]
pub(crate) fn add(place: *mut u64, value: u64) {
    // SAFETY: the place is inside a map's value, which lives until the program ends.
    let _before = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(place, value) };
}

/// Takes one from a number.
#[inline(always)]
pub(crate) fn take_one(place: *mut u64) {
    add(place, u64::MAX);
}

/// Adds one to a number if it is less than a limit. Says whether it was; under much pressure it may say no
/// at the limit itself, when another one has just left.
#[inline(always)]
pub(crate) fn add_below(place: *mut u64, limit: u64) -> bool {
    for _ in 0..TRIES {
        let before = load(place);
        if before >= limit {
            return false;
        }
        if replace(place, before, before.wrapping_add(1)) {
            return true;
        }
    }
    add(place, 1);
    if load(place) <= limit {
        return true;
    }
    take_one(place);
    false
}

/// Adds one to a number and gives what it was; under much pressure, about what it was.
#[inline(always)]
pub(crate) fn next(place: *mut u64) -> u64 {
    for _ in 0..TRIES {
        let before = load(place);
        if replace(place, before, before.wrapping_add(1)) {
            return before;
        }
    }
    add(place, 1);
    load(place)
}

#[inline(always)]
fn replace(place: *mut u64, before: u64, after: u64) -> bool {
    // SAFETY: as above.
    let (_, done) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            place, before, after,
        )
    };
    done
}

/// Puts a number in the place of another one, which it gives.
#[inline(always)]
pub(crate) fn exchange(place: *mut u64, value: u64) -> u64 {
    // SAFETY: as above.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(place, value) }
}

/// Reads a number that others may be writing.
#[inline(always)]
pub(crate) fn load<T: Copy>(place: *const T) -> T {
    // SAFETY: as above; one aligned word is read at once.
    unsafe { place.read_volatile() }
}
