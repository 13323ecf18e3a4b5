//! Maps and sets for the names and addresses of resources: who writes those owns the node, so that
//! nobody can choose keys that collide, and a fast hash will do.

/// The first bytes of a text as a number: in the order of texts, and fast to compare.
pub(crate) fn head(text: &str) -> u64 {
    let text = text.as_bytes();
    if let Some(first) = text.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(text) {
        *to = *from;
    }
    u64::from_be_bytes(bytes)
}

/// A map with a fast hash.
pub(crate) type FastMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// A set with a fast hash.
pub(crate) type FastSet<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
