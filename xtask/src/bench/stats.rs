//! Medians of rounds, and what two sets of rounds differ by.

/// Values of one measurement, one a round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    /// Adds a round's value.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle value.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Half the distance between the quartiles: how much a round may differ for no reason.
    pub(crate) fn spread(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / 2.0
    }

    /// The middle of the differences within each round, which a machine that is slow for a while
    /// disturbs less than the difference of the middles.
    pub(crate) fn over(&self, base: &Self) -> f64 {
        let pairs = self.0.iter().zip(&base.0);
        Self(pairs.map(|(value, base)| value - base).collect()).median()
    }

    /// The middle of the ratios within each round.
    pub(crate) fn ratio(&self, base: &Self) -> f64 {
        let pairs = self.0.iter().zip(&base.0);
        Self(pairs.map(|(value, base)| value / base).collect()).median()
    }

    fn quantile(&self, at: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * at).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Rounds {
        Rounds(values.to_vec())
    }

    #[test]
    fn one_bad_round_changes_nothing() {
        assert!((rounds(&[3.0, 1.0, 900.0, 2.0, 2.0]).median() - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn differences_are_taken_within_rounds() {
        // The machine became ten times slower; the difference did not.
        let (base, with) = (rounds(&[1.0, 10.0, 1.0]), rounds(&[2.0, 11.0, 2.0]));
        assert!((with.over(&base) - 1.0).abs() < f64::EPSILON);
    }
}
