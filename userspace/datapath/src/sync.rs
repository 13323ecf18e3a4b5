//! Bringing a map from what it holds to what is wanted, in the fewest steps.

use std::{cmp::Ordering, collections::BTreeMap};

use aya::maps::MapError;

/// One step from what a map holds to what it should hold.
pub(crate) enum Change<'a, K, V> {
    Put(&'a K, &'a V),
    Remove(&'a K),
}

/// Makes `held`, and through `apply` the map it mirrors, equal to `wanted`. What was done before an
/// error stays recorded, so that the next attempt goes on from there.
///
/// What is gone goes first: a map that is full can still be brought to another full state.
pub(crate) fn sync<K: Ord + Clone, V: PartialEq + Clone>(
    held: &mut BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    mut apply: impl FnMut(Change<'_, K, V>) -> Result<(), MapError>,
) -> Result<(), MapError> {
    let was_empty = held.is_empty();
    let gone: Vec<K> = held.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
    for key in gone {
        apply(Change::Remove(&key))?;
        held.remove(&key);
    }
    for (key, value) in wanted {
        if held.get(key) != Some(value) {
            apply(Change::Put(key, value))?;
            held.insert(key.clone(), value.clone());
        }
    }
    if was_empty {
        // Keys put in one by one in their order leave every node of the tree half empty.
        held.clone_from(wanted);
    }
    Ok(())
}

/// The same for lists that are sorted by key and have each key once: half the memory of a tree.
pub(crate) fn sync_sorted<K: Ord + Clone, V: PartialEq + Clone>(
    held: &mut Vec<(K, V)>,
    wanted: &[(K, V)],
    mut apply: impl FnMut(Change<'_, K, V>) -> Result<(), MapError>,
) -> Result<(), MapError> {
    let mut result = Ok(());
    let mut rest = wanted.iter().peekable();
    held.retain(|(key, _)| {
        while rest.next_if(|(other, _)| other < key).is_some() {}
        let stays = rest.peek().is_some_and(|(other, _)| other == key);
        if !stays && result.is_ok() {
            result = apply(Change::Remove(key));
        }
        stays || result.is_err()
    });
    result?;
    // Every key that is left is wanted.
    let mut before = std::mem::replace(held, Vec::with_capacity(wanted.len())).into_iter();
    let mut next = before.next();
    for (key, value) in wanted {
        let known = next.take_if(|(other, _)| (*other).cmp(key) == Ordering::Equal);
        if known.is_some() {
            next = before.next();
        }
        match known {
            Some(same) if same.1 == *value => held.push(same),
            known => match apply(Change::Put(key, value)) {
                Ok(()) => held.push((key.clone(), value.clone())),
                Err(error) => {
                    held.extend(known.into_iter().chain(next).chain(before));
                    return Err(error);
                }
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: &Change<'_, i32, char>) -> String {
        match change {
            Change::Put(key, value) => format!("+{key}{value}"),
            Change::Remove(key) => format!("-{key}"),
        }
    }

    #[test]
    fn sync_does_only_what_is_needed() {
        let held = [(1, 'a'), (2, 'b'), (3, 'c'), (9, 'z')];
        let wanted = [(2, 'b'), (3, 'x'), (4, 'd')];
        let mut tree = BTreeMap::from(held);
        let mut done = Vec::new();
        let mut note = |change: Change<'_, i32, char>| {
            done.push(said(&change));
            Ok(())
        };
        sync(&mut tree, &BTreeMap::from(wanted), &mut note).unwrap();
        let mut list = held.to_vec();
        sync_sorted(&mut list, &wanted, &mut note).unwrap();
        assert_eq!(done, ["-1", "-9", "+3x", "+4d", "-1", "-9", "+3x", "+4d"]);
        assert_eq!((tree, list), (BTreeMap::from(wanted), wanted.to_vec()));
    }

    /// Whichever step fails, the record says what the map holds.
    #[test]
    fn an_error_leaves_a_true_record() {
        let start = [(1, 'a'), (2, 'b'), (3, 'c'), (5, 'e'), (9, 'z')];
        let wanted = [(0, 'n'), (2, 'b'), (3, 'x'), (4, 'd'), (9, 'y')];
        for fails_at in 0..6 {
            let mut map = BTreeMap::from(start);
            let mut held = start.to_vec();
            let mut steps = 0;
            let mut apply = |change: Change<'_, i32, char>| {
                steps += 1;
                if steps == fails_at + 1 {
                    return Err(MapError::ElementNotFound);
                }
                match change {
                    Change::Put(key, value) => map.insert(*key, *value),
                    Change::Remove(key) => map.remove(key),
                };
                Ok(())
            };
            sync_sorted(&mut held, &wanted, &mut apply).unwrap_err();
            assert!(held.iter().copied().eq(map.clone()), "{fails_at}: {held:?}, {map:?}");
            let mut again = |change: Change<'_, i32, char>| {
                match change {
                    Change::Put(key, value) => map.insert(*key, *value),
                    Change::Remove(key) => map.remove(key),
                };
                Ok(())
            };
            sync_sorted(&mut held, &wanted, &mut again).unwrap();
            assert_eq!((held, map), (wanted.to_vec(), BTreeMap::from(wanted)));
        }
        let mut held = BTreeMap::new();
        let result = sync(&mut held, &BTreeMap::from(wanted), |change| match change {
            Change::Put(2, _) => Err(MapError::ElementNotFound),
            Change::Put(..) | Change::Remove(_) => Ok(()),
        });
        assert!(result.is_err());
        assert_eq!(held, BTreeMap::from([(0, 'n')]));
    }
}
