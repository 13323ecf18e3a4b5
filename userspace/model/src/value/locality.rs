//! `region/zone/subzone`.

use std::fmt;

/// A place in three levels; missing levels are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// First level.
    pub region: String,
    /// Second level.
    pub zone: String,
    /// Third level; keeps any further `/`.
    pub subzone: String,
}

impl Locality {
    /// Splits at the first two slashes.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }

    /// Reads the label `istio-locality`, where `.` stands for `/`: label values may hold no slash.
    pub fn parse_label(text: &str) -> Self {
        if text.contains('/') { Self::parse(text) } else { Self::parse(&text.replace('.', "/")) }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty()
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        for part in [&self.zone, &self.subzone].into_iter().take_while(|part| !part.is_empty()) {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}
