//! Which parts of an array are in use: runs of places, given out and taken back.

use std::{collections::BTreeMap, ops::Range};

/// Hands out runs of the places 0 to `size`.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Runs that nobody has, by their first place; no two touch.
    free: BTreeMap<u32, u32>,
}

impl Blocks {
    /// All of them are free.
    pub(super) fn new(size: u32) -> Self {
        Self { free: BTreeMap::from([(0, size)]) }
    }

    /// A run of so many places, the first that is long enough; `None` if there is none. A run of none
    /// is always at 0.
    pub(super) fn take(&mut self, count: u32) -> Option<Range<u32>> {
        if count == 0 {
            return Some(0..0);
        }
        let (first, end) = self
            .free
            .iter()
            .find(|(first, end)| **end - **first >= count)
            .map(|(first, end)| (*first, *end))?;
        self.free.remove(&first);
        if first + count < end {
            self.free.insert(first + count, end);
        }
        Some(first..first + count)
    }

    /// Takes a run away that is known to be in use. Says whether all of it was free.
    pub(super) fn claim(&mut self, run: &Range<u32>) -> bool {
        if run.is_empty() {
            return true;
        }
        let around = self.free.range(..=run.start).next_back();
        let Some((first, end)) = around.map(|(first, end)| (*first, *end)) else { return false };
        if end < run.end {
            return false;
        }
        self.free.remove(&first);
        if first < run.start {
            self.free.insert(first, run.start);
        }
        if run.end < end {
            self.free.insert(run.end, end);
        }
        true
    }

    /// Takes a run back.
    pub(super) fn give(&mut self, run: Range<u32>) {
        if run.is_empty() {
            return;
        }
        let (mut first, mut end) = (run.start, run.end);
        if let Some((before, before_end)) = self.free.range(..first).next_back()
            && *before_end == first
        {
            first = *before;
        }
        if let Some(after_end) = self.free.remove(&end) {
            end = after_end;
        }
        self.free.insert(first, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_given_once_and_join_again() {
        let mut blocks = Blocks::new(10);
        let runs: Vec<_> = [3, 0, 4, 3].into_iter().map(|count| blocks.take(count)).collect();
        assert_eq!(runs, [Some(0..3), Some(0..0), Some(3..7), Some(7..10)]);
        assert_eq!(blocks.take(1), None);
        blocks.give(0..3);
        blocks.give(7..10);
        assert_eq!(blocks.take(4), None, "no run is as long");
        blocks.give(3..7);
        assert_eq!(blocks.take(10), Some(0..10));
    }

    #[test]
    fn what_is_in_use_is_claimed() {
        let mut blocks = Blocks::new(10);
        assert!(blocks.claim(&(3..5)));
        assert!(!blocks.claim(&(4..6)));
        assert!(blocks.claim(&(0..3)) && blocks.claim(&(9..10)) && blocks.claim(&(0..0)));
        assert_eq!(blocks.take(4), Some(5..9));
        assert_eq!(blocks.take(1), None);
    }
}
