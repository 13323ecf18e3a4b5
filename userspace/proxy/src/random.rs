//! Random numbers for choices among endpoints: fast and uneven to nobody; no use for secrets.

use std::{
    cell::Cell,
    hash::{BuildHasher, Hasher, RandomState},
};

/// A number between 0 and `u64::MAX`, from a generator of this thread's own (xorshift64*).
pub(crate) fn next() -> u64 {
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

/// A number below `limit`; 0 if that is 0.
pub(crate) fn below(limit: u64) -> u64 {
    // The high half of a product is even enough for limits far below 2^64.
    ((u128::from(next()) * u128::from(limit)) >> 64) as u64
}

thread_local! {
    /// Never 0: the generator would stay there.
    static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish() | 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_below_and_even() {
        let mut hits = [0_u32; 10];
        for _ in 0..100_000 {
            hits[below(10) as usize] += 1;
        }
        assert!(hits.iter().all(|hits| (9_000..11_000).contains(hits)), "{hits:?}");
        assert_eq!(below(0), 0);
        assert_eq!(below(1), 0);
    }
}
