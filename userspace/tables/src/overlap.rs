//! Finding everything whose host overlaps with another: equal, or one a wildcard above the other.

use std::collections::{BTreeMap, BTreeSet};

use egressd_model::value::HostPattern;

use crate::fast::FastMap;

/// Values by host or wildcard; several may have the same.
#[derive(Clone, Debug)]
pub(crate) struct OverlapIndex<V> {
    exact: FastMap<String, Vec<V>>,
    /// By what follows the `*`.
    wildcards: FastMap<String, Vec<V>>,
    /// What follows the `*` where it does not begin with a dot, `*` itself included.
    partial: BTreeSet<String>,
    /// Hosts from the end to the beginning, so that those under a wildcard lie together.
    reversed: BTreeMap<String, Vec<V>>,
}

impl<V> Default for OverlapIndex<V> {
    fn default() -> Self {
        Self {
            exact: FastMap::default(),
            wildcards: FastMap::default(),
            partial: BTreeSet::new(),
            reversed: BTreeMap::new(),
        }
    }
}

impl<V: Copy + Ord> OverlapIndex<V> {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.reversed.is_empty()
    }

    /// Adds a value under a host.
    pub(crate) fn insert(&mut self, host: &HostPattern, value: V) {
        self.reversed.entry(reverse(host.as_str())).or_default().push(value);
        match host.suffix() {
            None => self.exact.entry(host.as_str().to_owned()).or_default().push(value),
            Some(suffix) => {
                self.wildcards.entry(suffix.to_owned()).or_default().push(value);
                if !suffix.starts_with('.') {
                    self.partial.insert(suffix.to_owned());
                }
            }
        }
    }

    /// The values of all hosts that overlap with this one, each once, in their own order.
    pub(crate) fn overlapping(&self, host: &HostPattern) -> Vec<V> {
        if self.is_empty() {
            return Vec::new();
        }
        let text = host.suffix().unwrap_or(host.as_str());
        let above = self.above(text).flatten().copied();
        let exact = self.exact.get(host.as_str()).into_iter().flatten().copied();
        let mut values: Vec<_> = above.chain(exact).collect();
        if host.is_wildcard() {
            values.extend(self.below(text).flatten());
        }
        values.sort_unstable();
        values.dedup();
        values
    }

    /// Whether some host overlaps with this one.
    pub(crate) fn overlaps(&self, host: &HostPattern) -> bool {
        let text = host.suffix().unwrap_or(host.as_str());
        self.above(text).next().is_some()
            || self.exact.contains_key(host.as_str())
            || (host.is_wildcard() && self.below(text).next().is_some())
    }

    /// Wildcards whose suffix ends this text.
    fn above<'s>(&'s self, text: &'s str) -> impl Iterator<Item = &'s Vec<V>> {
        let dots = text.bytes().enumerate().filter(|(_, byte)| *byte == b'.').map(|(at, _)| at);
        let labels = dots.filter_map(|at| self.wildcards.get(text.get(at..)?));
        let partial = self.partial.iter().filter(|suffix| text.ends_with(suffix.as_str()));
        labels.chain(partial.filter_map(|suffix| self.wildcards.get(suffix)))
    }

    /// Hosts that end in this text.
    fn below(&self, text: &str) -> impl Iterator<Item = &Vec<V>> {
        let start = reverse(text);
        let range = self.reversed.range(start.clone()..);
        range.take_while(move |(known, _)| known.starts_with(&start)).map(|(_, values)| values)
    }
}

/// The same text from its end.
fn reverse(text: &str) -> String {
    text.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_is_matching_both_ways() {
        let hosts =
            ["*", "*.example", "a.example", "*.a.example", "b.a.example", "*le", "x.y", "example"];
        let mut index = OverlapIndex::default();
        for (place, host) in hosts.iter().enumerate() {
            index.insert(&HostPattern::new(host), place);
        }
        for host in ["a.example", "*.example", "*.a.example", "x.y", "*", "example", "q.example"] {
            let host = HostPattern::new(host);
            let expect: Vec<_> = (0..hosts.len())
                .filter(|place| HostPattern::new(hosts[*place]).overlaps(&host))
                .collect();
            assert_eq!(index.overlapping(&host), expect, "{host}");
            assert!(index.overlaps(&host));
        }
        assert!(!OverlapIndex::<u8>::default().overlaps(&HostPattern::new("*")));
    }
}
