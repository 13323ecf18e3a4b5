//! A share in percent.

use std::fmt;

/// 0 to 100 with Istio's resolution of 0.0001; the field's rules check the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// The share of one million, the unit in which Envoy draws.
    pub fn per_million(self) -> u32 {
        // `as` saturates, and the limits are checked while reading.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturating is meant"
        )]
        let parts = (self.0 * 10_000.0).round() as u32;
        parts
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}
