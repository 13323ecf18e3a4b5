//! What the benchmarks that compare proxies have in common: how a goal against others is put, and how a
//! table is written.

/// The part of another's figure that is wanted.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

impl Wanted {
    /// The best of the others.
    pub(super) fn best(
        self,
        others: impl Iterator<Item = (&'static str, f64)>,
    ) -> Option<(&'static str, f64)> {
        let by_value = |a: &(_, f64), b: &(_, f64)| a.1.total_cmp(&b.1);
        match self {
            Self::AtMost(_) => others.min_by(by_value),
            Self::AtLeast(_) => others.max_by(by_value),
        }
    }

    pub(super) fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(limit) => ratio <= limit,
            Self::AtLeast(limit) => ratio >= limit,
        }
    }

    pub(super) fn words(self) -> String {
        match self {
            Self::AtMost(limit) => format!("at most {limit:.2}"),
            Self::AtLeast(limit) => format!("at least {limit:.2}"),
        }
    }
}

/// A row of the table.
pub(super) fn row(name: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}

/// Three digits, or all before the point.
pub(super) fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
