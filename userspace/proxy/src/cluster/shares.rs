//! Shares of a whole: how endpoints of different weight get what is due to them.

use egressd_tables::balancing::turn_step;

/// The shares of a number of endpoints, by their places.
#[derive(Debug)]
pub(super) struct Shares {
    /// The sum of the weights up to and including each one's.
    ends: Vec<u64>,
    /// All weights are the same.
    even: bool,
    /// About 0.618 of the total, and without a common divisor with it.
    step: u64,
}

impl Shares {
    /// The shares of these weights.
    pub(super) fn new(weights: impl Iterator<Item = u64>) -> Self {
        let mut total = 0;
        let ends: Vec<_> = weights
            .map(|weight| {
                total += weight;
                total
            })
            .collect();
        let first = ends.first().copied().unwrap_or(0);
        let even = ends.windows(2).all(|pair| pair[1] - pair[0] == first);
        Self { ends, even, step: turn_step(total) }
    }

    /// The sum of all weights.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The weight at a place.
    pub(super) fn weight(&self, at: usize) -> u64 {
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before)).unwrap_or(&0);
        self.ends.get(at).unwrap_or(before) - before
    }

    /// The place whose share of the total holds `point`.
    pub(super) fn at(&self, point: u64) -> usize {
        if self.even {
            return (point / self.total().checked_div(self.ends.len() as u64).unwrap_or(1).max(1))
                as usize;
        }
        self.ends.partition_point(|end| *end <= point)
    }

    /// Walks through the total in steps that have no divisor in common with it: every place comes as
    /// often as its weight says in each round, and not several times in a row.
    pub(super) fn in_turn(&self, turn: u64) -> usize {
        if self.even {
            return (turn % (self.ends.len() as u64).max(1)) as usize;
        }
        let point = u128::from(turn) * u128::from(self.step) % u128::from(self.total().max(1));
        self.at(point as u64)
    }
}

/// The greatest common divisor.
pub(super) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_again() {
        for weights in [&[5, 3, 2][..], &[1, 1, 1], &[7]] {
            let shares = Shares::new(weights.iter().copied());
            let found: Vec<_> = (0..weights.len()).map(|at| shares.weight(at)).collect();
            assert_eq!(found, weights);
            let drawn: Vec<_> = (0..weights.len())
                .map(|at| {
                    (0..shares.total()).filter(|point| shares.at(*point) == at).count() as u64
                })
                .collect();
            assert_eq!(drawn, weights);
        }
        let none = Shares::new(std::iter::empty());
        assert_eq!((none.total(), none.at(0), none.in_turn(3), none.weight(0)), (0, 0, 0, 0));
    }
}
