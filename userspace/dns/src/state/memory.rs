//! Who had which pair, and what nobody may have yet. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use egressd_tables::Vip;

use crate::state::{
    REST,
    file::{Resting, Row, StateFile},
};

/// A host of a ServiceEntry: namespace, entry, host.
pub(crate) type Wish<'a> = [&'a str; 3];

/// What is known of pairs given before.
pub(crate) struct Memory<'a> {
    /// Those in force before, by whose they are.
    given: BTreeMap<Wish<'a>, Vip>,
    /// Those that nobody has who asks now, by namespace and host: resting, or about to.
    free: BTreeMap<[&'a str; 2], Vec<&'a Row>>,
    resting: Vec<&'a Resting>,
    now: u64,
}

impl<'a> Memory<'a> {
    /// `is_ours` says whether a pair is of the ranges in force: with other ranges than last time,
    /// what is outside of them is forgotten. `now` is in seconds since 1970.
    pub(crate) fn new(
        before: &'a StateFile,
        is_ours: impl Fn(Vip) -> bool,
        wishes: &[Wish<'a>],
        now: u64,
    ) -> Self {
        let rows: Vec<_> = before.given.iter().filter(|row| is_ours(row.vip())).collect();
        let given: BTreeMap<_, _> = rows.iter().map(|row| (row.key(), row.vip())).collect();
        let wanted: BTreeSet<_> = wishes.iter().collect();
        let kept: BTreeSet<_> = wishes.iter().filter_map(|wish| given.get(wish)).copied().collect();
        let rests = |resting: &&Resting| resting.until > now && is_ours(resting.was.vip());
        let resting: Vec<_> = before.resting.iter().filter(rests).collect();
        let left = rows.into_iter().filter(|row| !wanted.contains(&row.key()));
        let mut free: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in resting.iter().map(|resting| &resting.was).chain(left) {
            // A damaged file may have a pair twice; then whoever uses it keeps it.
            if !kept.contains(&row.vip()) {
                free.entry([&*row.namespace, &*row.host]).or_default().push(row);
            }
        }
        Self { given, free, resting, now }
    }

    /// The pair that each host has or had; nothing for a new one. What a host had under the same
    /// ServiceEntry comes before what it had under another one of the namespace.
    pub(crate) fn recall(&mut self, wishes: &[Wish<'a>]) -> Vec<Option<Vip>> {
        let mut found: Vec<_> = wishes
            .iter()
            .map(|wish| {
                let [_, entry, _] = wish;
                let given = self.given.get(wish).copied();
                given.or_else(|| self.take_free(wish, |row| *row.entry == **entry))
            })
            .collect();
        for (wish, found) in wishes.iter().zip(&mut found) {
            if found.is_none() {
                *found = self.take_free(wish, |_| true);
            }
        }
        found
    }

    /// Takes the pair that was freed last.
    fn take_free(&mut self, wish: &Wish<'a>, suits: impl Fn(&Row) -> bool) -> Option<Vip> {
        let [namespace, _, host] = *wish;
        let rows = self.free.get_mut(&[namespace, host])?;
        let place = rows.iter().rposition(|row| suits(row))?;
        Some(rows.remove(place).vip())
    }

    /// The addresses that nobody may have: those free and not recalled.
    pub(crate) fn reserved(&self) -> Vec<IpAddr> {
        let free = self.free.values().flatten();
        free.flat_map(|row| row.vip().addresses()).collect()
    }

    /// What rests once `given` is in force: what rested and was not recalled, and what was given
    /// before and is not any more.
    pub(crate) fn rest(&self, before: &StateFile, given: &[Row]) -> Vec<Resting> {
        let in_force: BTreeSet<_> = given.iter().map(Row::vip).collect();
        let until = self.now + REST.as_secs();
        let still = self.resting.iter().map(|resting| {
            // A clock that was ahead does not make an address rest for longer.
            Resting { was: resting.was.clone(), until: resting.until.min(until) }
        });
        let was_given = |row: &&Row| self.given.contains_key(&row.key());
        let freed = before.given.iter().filter(was_given);
        let freed = freed.map(|row| Resting { was: row.clone(), until });
        still.chain(freed).filter(|resting| !in_force.contains(&resting.was.vip())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `entry/host` and the last octet of its address.
    fn row((name, last): (&str, u8)) -> Row {
        let (entry, host) = name.split_once('/').unwrap();
        Row {
            namespace: "default".into(),
            entry: entry.into(),
            host: host.into(),
            v4: Some([240, 240, 0, last].into()),
            v6: None,
        }
    }

    fn state(given: &[(&str, u8)], resting: &[(&str, u8, u64)]) -> StateFile {
        StateFile {
            given: given.iter().copied().map(row).collect(),
            resting: resting
                .iter()
                .map(|(name, last, until)| Resting { was: row((name, *last)), until: *until })
                .collect(),
            ..StateFile::default()
        }
    }

    /// What hosts recall, what is reserved, and what rests until when, if nobody gets anything new.
    fn at(now: u64, before: &StateFile, wishes: &[&str]) -> (String, String, String) {
        let rows: Vec<_> = wishes.iter().map(|name| row((name, 0))).collect();
        let wishes: Vec<_> = rows.iter().map(Row::key).collect();
        let is_ours = |vip: Vip| vip.v4.is_some_and(|v4| v4.octets()[3] < 200);
        let mut memory = Memory::new(before, is_ours, &wishes, now);
        let recalled = memory.recall(&wishes);
        let last = |vip: Vip| vip.v4.unwrap().octets()[3].to_string();
        let shown = recalled.iter().map(|vip| vip.map_or_else(|| "-".to_owned(), last));
        let reserved = memory
            .reserved()
            .into_iter()
            .map(|address| address.to_string().rsplit('.').next().unwrap_or_default().to_owned());
        let reserved = reserved.collect::<Vec<_>>().join(" ");
        let given = rows
            .iter()
            .zip(&recalled)
            .filter_map(|(row, vip)| Some(Row { v4: (*vip)?.v4, ..row.clone() }));
        let rest = memory.rest(before, &given.collect::<Vec<_>>());
        let rest = rest.iter().map(|rest| format!("{}:{}", last(rest.was.vip()), rest.until));
        (shown.collect::<Vec<_>>().join(" "), reserved, rest.collect::<Vec<_>>().join(" "))
    }

    fn check(found: (String, String, String), recalled: &str, reserved: &str, rest: &str) {
        assert_eq!(
            (found.0.as_str(), found.1.as_str(), found.2.as_str()),
            (recalled, reserved, rest)
        );
    }

    #[test]
    fn who_stays_keeps_and_who_goes_leaves_it_to_rest() {
        let before = state(&[("a/h1", 1), ("a/h2", 2), ("b/h3", 3)], &[]);
        check(at(1000, &before, &["b/h3", "a/h1", "c/new"]), "3 1 -", "2", "2:4600");
        check(at(1000, &before, &[]), "", "1 2 3", "1:4600 2:4600 3:4600");
    }

    #[test]
    fn who_returns_gets_it_back_while_it_rests() {
        let before = state(&[("a/h1", 1)], &[("a/h2", 2, 5000), ("a/h4", 4, 900)]);
        check(at(1000, &before, &["a/h1", "a/h2", "a/h4"]), "1 2 -", "", "");
        check(at(5000, &before, &["a/h1", "a/h2"]), "1 -", "", "");
    }

    #[test]
    fn a_host_takes_it_along_to_another_entry() {
        let before = state(&[("a/h1", 1), ("b/h1", 2)], &[]);
        check(at(1000, &before, &["c/h1"]), "2", "1", "1:4600");
        // Unless its own is still there.
        check(at(1000, &before, &["c/h1", "a/h1"]), "2 1", "", "");
        check(at(1000, &before, &["c/h1", "b/h1", "a/h1"]), "- 2 1", "", "");
    }

    #[test]
    fn other_ranges() {
        let before = state(&[("a/h1", 201), ("a/h2", 2)], &[("a/h3", 203, 5000)]);
        check(at(1000, &before, &["a/h1", "a/h3"]), "- -", "2", "2:4600");
    }

    #[test]
    fn clocks_and_damage() {
        let before =
            state(&[("a/h1", 1), ("a/h2", 1)], &[("a/h3", 1, 9_000_000), ("a/h4", 4, 9_000_000)]);
        check(at(1000, &before, &["a/h1", "a/h2"]), "1 1", "4", "4:4600");
    }
}
