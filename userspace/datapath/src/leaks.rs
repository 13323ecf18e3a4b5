//! Hand-offs that nobody will take any more.
//!
//! A client's handshake is over with the listener's SYN-ACK. If the listener's queue is full just then,
//! the accepted socket is born later, when the client or its kernel sends again; until then the
//! hand-off must stay, also when the client has closed meanwhile. If the client resets instead, nobody
//! is ever born. The kernel gives such a handshake up after five more SYN-ACKs, which takes 63 s.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A hand-off that is older than this is nobody's: twice what the kernel waits for.
const LIFETIME: Duration = Duration::from_secs(126);

/// When each hand-off was first seen, by its key and the cookie of the socket that left it.
#[derive(Debug)]
pub(crate) struct Ages<K> {
    seen: BTreeMap<(K, u64), Instant>,
}

impl<K> Default for Ages<K> {
    fn default() -> Self {
        Self { seen: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> Ages<K> {
    /// Takes note of the hand-offs there are; gives the keys of those that are too old.
    pub(crate) fn old(&mut self, there: impl Iterator<Item = (K, u64)>, now: Instant) -> Vec<K> {
        let before = std::mem::take(&mut self.seen);
        let since = |entry| (entry, before.get(&entry).copied().unwrap_or(now));
        self.seen = there.map(since).collect();
        let is_old = |since: &Instant| now.saturating_duration_since(*since) > LIFETIME;
        let old = self.seen.iter().filter(|(_, since)| is_old(since));
        old.map(|((key, _), _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_been_there_all_the_time_is_old() {
        let start = Instant::now();
        let mut ages = Ages::default();
        let mut look = |seconds, there: &[(char, u64)]| {
            ages.old(there.iter().copied(), start + Duration::from_secs(seconds))
        };
        assert_eq!(look(0, &[('a', 1), ('b', 2)]), []);
        // `b` is another socket's by now, and `c` is new.
        assert_eq!(look(60, &[('a', 1), ('b', 3), ('c', 4)]), []);
        assert_eq!(look(127, &[('a', 1), ('b', 3), ('c', 4)]), ['a']);
        assert_eq!(look(187, &[('b', 3)]), ['b']);
        // One that was away is new.
        assert_eq!(look(190, &[('c', 4)]), []);
    }
}
