//! Finding what belongs to a host name: exact, then the longest wildcard, then `*`.
//!
//! Constant work whatever the number of entries: one probe for the name, one for each of its parent
//! domains, and a pass over the partial wildcards (`*foo.com`), which are rare.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::fast::FastMap;

/// Values by host name or wildcard. Names are held and compared in lower case.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostMap<V> {
    exact: FastMap<Arc<str>, V>,
    /// By what follows the `*`, dot included.
    labels: FastMap<Arc<str>, V>,
    /// Wildcards that do not stand for whole labels, by what follows the `*`, longest first.
    partial: Vec<(Arc<str>, V)>,
    /// `*`.
    all: Option<V>,
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self {
            exact: FastMap::default(),
            labels: FastMap::default(),
            partial: Vec::new(),
            all: None,
        }
    }
}

impl<V> HostMap<V> {
    /// Adds a value unless its host is taken; says whether it was added.
    pub(crate) fn insert(&mut self, host: &str, value: V) -> bool {
        let mut value = Some(value);
        self.get_or_insert_with(host, || value.take());
        value.is_none()
    }

    /// The same for a host that is shared text already.
    pub(crate) fn insert_shared(&mut self, host: &Arc<str>, value: V) -> bool {
        if host.starts_with('*') || host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.insert(host, value);
        }
        match self.exact.entry(Arc::clone(host)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(value);
                true
            }
        }
    }

    /// Makes room for so many hosts more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.exact.reserve(more);
    }

    /// The value of exactly this host or wildcard, made if it is not there and `make` gives one.
    pub(crate) fn get_or_insert_with(
        &mut self,
        host: &str,
        make: impl FnOnce() -> Option<V>,
    ) -> Option<&mut V> {
        let host = lower_case(host);
        match host.strip_prefix('*') {
            None => get_or_insert(&mut self.exact, &host, make),
            Some("") => {
                if self.all.is_none() {
                    self.all = make();
                }
                self.all.as_mut()
            }
            Some(suffix) if suffix.starts_with('.') => {
                get_or_insert(&mut self.labels, suffix, make)
            }
            Some(suffix) => {
                let at = match self.partial.iter().position(|(known, _)| **known == *suffix) {
                    Some(at) => at,
                    None => {
                        let longer = |(known, _): &(Arc<str>, V)| known.len() >= suffix.len();
                        let at = self.partial.iter().take_while(|known| longer(known)).count();
                        self.partial.insert(at, (Arc::from(suffix), make()?));
                        at
                    }
                };
                self.partial.get_mut(at).map(|(_, value)| value)
            }
        }
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, host: &str) -> Option<&mut V> {
        self.get_or_insert_with(host, || None)
    }

    /// The value of exactly this host or wildcard.
    pub(crate) fn get(&self, host: &str) -> Option<&V> {
        let host = lower_case(host);
        match host.strip_prefix('*') {
            None => self.exact.get(&*host),
            Some("") => self.all.as_ref(),
            Some(suffix) if suffix.starts_with('.') => self.labels.get(suffix),
            Some(suffix) => self.partial.iter().find(|(s, _)| **s == *suffix).map(|(_, v)| v),
        }
    }

    /// The value for a name that somebody asked for.
    pub(crate) fn find(&self, name: &str) -> Option<&V> {
        let name = lower_case(name);
        self.exact.get(&*name).or_else(|| self.find_wildcard(&name, 1))
    }

    /// The value of the most specific entry that covers a host or wildcard that a resource names;
    /// an entry covers what it equals.
    pub(crate) fn find_covering(&self, host: &str) -> Option<&V> {
        let host = lower_case(host);
        match host.strip_prefix('*') {
            None => self.exact.get(&*host).or_else(|| self.find_wildcard(&host, 0)),
            Some(suffix) => self.find_wildcard(suffix, 0),
        }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty()
            && self.labels.is_empty()
            && self.partial.is_empty()
            && self.all.is_none()
    }

    /// The longest wildcard that leaves at least `rest` bytes for its `*`. `name` is in lower case.
    fn find_wildcard(&self, name: &str, rest: usize) -> Option<&V> {
        let label = if self.labels.is_empty() { None } else { self.find_label(name, rest) };
        let partial = self
            .partial
            .iter()
            .find(|(suffix, _)| name.len() >= suffix.len() + rest && name.ends_with(&**suffix));
        match (label, partial) {
            (Some((length, _)), Some((suffix, value))) if suffix.len() > length => Some(value),
            (Some((_, value)), _) | (None, Some((_, value))) => Some(value),
            (None, None) => self.all.as_ref(),
        }
    }

    /// The longest wildcard of whole labels, and the length of its suffix.
    fn find_label(&self, name: &str, rest: usize) -> Option<(usize, &V)> {
        let dots = name.bytes().enumerate().skip(rest).filter(|(_, byte)| *byte == b'.');
        dots.filter_map(|(at, _)| name.get(at..))
            .find_map(|suffix| self.labels.get(suffix).map(|value| (suffix.len(), value)))
    }
}

/// Lower case, without a copy where there is nothing to change.
pub(crate) fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn get_or_insert<'m, V>(
    map: &'m mut FastMap<Arc<str>, V>,
    key: &str,
    make: impl FnOnce() -> Option<V>,
) -> Option<&'m mut V> {
    match map.entry(Arc::from(key)) {
        Entry::Occupied(entry) => Some(entry.into_mut()),
        Entry::Vacant(entry) => Some(entry.insert(make()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(hosts: &[&'static str]) -> HostMap<&'static str> {
        let mut map = HostMap::default();
        for host in hosts {
            assert!(map.insert(host, *host));
        }
        map
    }

    #[test]
    fn most_specific_wins() {
        let map = map(&["x.b.example", "*.b.example", "*.example", "*b.example", "*"]);
        for (name, found) in [
            ("x.b.example", "x.b.example"),
            ("X.B.Example", "x.b.example"),
            ("y.b.example", "*.b.example"),
            ("y.x.b.example", "*.b.example"),
            ("ab.example", "*b.example"),
            ("b.example", "*.example"),
            ("a.example", "*.example"),
            ("example", "*"),
            ("", "*"),
        ] {
            assert_eq!(map.find(name), Some(&found), "{name}");
        }
    }

    #[test]
    fn a_wildcard_needs_something() {
        let map = map(&["*.b.example", "*foo.com"]);
        assert_eq!(map.find("b.example"), None);
        assert_eq!(map.find(".b.example"), None);
        assert_eq!(map.find("foo.com"), None);
        assert_eq!(map.find("xfoo.com"), Some(&"*foo.com"));
    }

    #[test]
    fn covering() {
        let map = map(&["*.b.example", "*.example", "a.example"]);
        assert_eq!(map.find_covering("*.b.example"), Some(&"*.b.example"));
        assert_eq!(map.find_covering("*.c.b.example"), Some(&"*.b.example"));
        assert_eq!(map.find_covering("*.c.example"), Some(&"*.example"));
        assert_eq!(map.find_covering("a.example"), Some(&"a.example"));
        assert_eq!(map.find_covering("*"), None);
        assert_eq!(map.get("*.example"), Some(&"*.example"));
        assert_eq!(map.get("c.example"), None);
    }

    #[test]
    fn first_one_stays() {
        let mut map = map(&["*foo.com"]);
        assert!(!map.insert("*FOO.com", "later"));
        assert_eq!(map.get("*foo.com"), Some(&"*foo.com"));
    }
}
