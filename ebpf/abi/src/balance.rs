//! The arithmetic of load balancing, shared by the proxy's choice and the kernel's: whole numbers only.

use core::net::IpAddr;

/// 2^64 divided by the golden section.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads the bits of a number over all of it (the finaliser of MurmurHash3). The same in every
/// process, so that clients keep their endpoints over a restart.
#[inline(always)]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// A number from an address; an IPv4-mapped one counts as IPv4.
pub fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => hash_words(0, u64::from(u32::from(ip))),
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            hash_words((bits >> 64) as u64, bits as u64)
        }
    }
}

/// The same from the two halves of an address, as numbers; an IPv4 address is all in the second.
#[inline(always)]
pub const fn hash_words(high: u64, low: u64) -> u64 {
    mix(high) ^ mix(low)
}

/// A step near the golden section of `total` that visits every point below `total` before it repeats
/// one: walking with it, each endpoint comes as often as its weight says in each round, and not several
/// times in a row.
pub const fn turn_step(total: u64) -> u64 {
    if total < 3 {
        return 1;
    }
    let mut step = ((total as u128 * GOLDEN as u128) >> 64) as u64;
    while step < total {
        if gcd(step, total) == 1 {
            return step;
        }
        step += 1;
    }
    1
}

/// The point of turn number `turn`. `total` and `step` are less than 2^32, and `total` is not 0.
#[inline(always)]
pub const fn turn_point(turn: u64, total: u64, step: u64) -> u64 {
    (turn % total) * step % total
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Whether of two drawn endpoints the first is the less busy one for its weight.
#[inline(always)]
pub const fn first_is_less_busy(first: (u64, u32), other: (u64, u32)) -> bool {
    let (active_first, weight_first) = first;
    let (active_other, weight_other) = other;
    active_first.wrapping_add(1).wrapping_mul(weight_other as u64)
        <= active_other.wrapping_add(1).wrapping_mul(weight_first as u64)
}

/// What an endpoint draws for a key, in weighted rendezvous hashing: the endpoint with the least wait
/// for its weight, by [`first_wins`], has the key. It stays the same as long as it is there, and an
/// endpoint that comes or goes moves only its own keys.
///
/// The result is minus the binary logarithm of a number that is uniform in (0, 1), with 24 bits after
/// the point; within 0.001 of the true value.
#[inline(always)]
pub const fn ticket(key: u64, hash: u64) -> u32 {
    let x = mix(key ^ hash) | 1;
    let zeros = leading_zeros(x);
    // The mantissa, in [0, 1), with 24 bits.
    let f = ((x << zeros) << 1) >> 40;
    let rest = (1 << 24) - f;
    // log2(1 + f) = f + f(1-f)(A + B f + C f(1-f)), right at both ends in value and slope.
    let bend = (f * rest) >> 24;
    let factor = A - ((B * f) >> 24) - ((C * bend) >> 24);
    let log = f + ((bend * factor) >> 24);
    let whole = (zeros as u64 + 1) << 24;
    let result = whole - log;
    result as u32
}

/// 0.4427, 0.1640 and 0.0834, times 2^24.
const A: u64 = 7_427_267;
const B: u64 = 2_751_463;
const C: u64 = 1_399_219;

/// Whether the first of two endpoints has a key, by their tickets and weights.
#[inline(always)]
pub const fn first_wins(first: (u32, u32), other: (u32, u32)) -> bool {
    let (ticket_first, weight_first) = first;
    let (ticket_other, weight_other) = other;
    (ticket_first as u64) * (weight_other as u64) <= (ticket_other as u64) * (weight_first as u64)
}

/// Zeros before the first one of a number that is not 0, without a branch: for each, the verifier
/// would go two ways, and for each of those again.
#[inline(always)]
const fn leading_zeros(mut x: u64) -> u32 {
    x |= x >> 1;
    x |= x >> 2;
    x |= x >> 4;
    x |= x >> 8;
    x |= x >> 16;
    x |= x >> 32;
    let pairs = !x - ((!x >> 1) & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + ((pairs >> 2) & 0x3333_3333_3333_3333);
    let bytes = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_visit_every_point() {
        for total in 1..500_u64 {
            let step = turn_step(total);
            let mut visited = [false; 500];
            for turn in 0..total {
                visited[turn_point(turn, total, step) as usize] = true;
            }
            let count = visited.iter().filter(|visited| **visited).count();
            assert_eq!(count as u64, total);
        }
    }

    #[test]
    fn tickets_are_logarithms() {
        let mut x = 1_u64;
        for _ in 0..10_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let uniform = (mix(x) | 1) as f64 / 2_f64.powi(64);
            let expected = -uniform.log2();
            let found = f64::from(ticket(x, 0)) / 2_f64.powi(24);
            assert!((found - expected).abs() < 0.001, "{uniform}: {found}, {expected}");
        }
    }

    #[test]
    fn tickets_follow_weights() {
        let weights = [6_u32, 3, 1];
        let mut hits = [0_u32; 3];
        for client in 0..100_000_u32 {
            let key = hash_ip(IpAddr::from(client.to_be_bytes()));
            let mut best = 0;
            for at in 1..3 {
                let draw = |at: usize| (ticket(key, mix(at as u64 + 77)), weights[at]);
                if !first_wins(draw(best), draw(at)) {
                    best = at;
                }
            }
            hits[best] += 1;
        }
        for (hits, expected) in hits.iter().zip([60_000_u32, 30_000, 10_000]) {
            assert!(hits.abs_diff(expected) < 1_000, "{hits} {expected}");
        }
    }

    #[test]
    fn the_less_busy_one() {
        assert!(first_is_less_busy((0, 1), (0, 1)));
        assert!(!first_is_less_busy((1, 1), (0, 1)));
        assert!(first_is_less_busy((2, 3), (1, 1)));
        assert!(!first_is_less_busy((0, 1), (0, 2)));
    }
}
