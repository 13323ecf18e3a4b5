//! The known name that an unknown one was probably meant to be.

/// The nearest of `known` by edit distance, if it is near enough to be worth proposing: case and `_` do not count,
/// and at most a third of the letters may differ.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = fold(word);
    if word.len() > LONGEST {
        return None;
    }
    let limit = (word.chars().count() / 3).clamp(1, 4);
    known
        .map(|name| (distance(&word, &fold(name)), name))
        .filter(|(far, _)| *far <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Names longer than this are not compared; the API's longest has 31 letters.
const LONGEST: usize = 80;

fn fold(name: &str) -> String {
    name.chars().filter(|c| *c != '_' && *c != '-').flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_proposed_only_when_near() {
        let known = ["hosts", "addresses", "ports", "resolution", "workloadSelector"];
        let meant = |word| nearest(word, known.into_iter());
        assert_eq!(meant("host"), Some("hosts"));
        assert_eq!(meant("prots"), Some("ports"));
        assert_eq!(meant("workload_selector"), Some("workloadSelector"));
        assert_eq!(meant("Resolution"), Some("resolution"));
        assert_eq!(meant("timeout"), None);
        assert_eq!(meant(""), None);
    }
}
