//! The one place where Kubernetes' YAML reader and YAML 1.2 read a flow collection differently (semantics.md §9.11).
//!
//! In `[1.2.3.4, 001:db8::]` YAML 1.2 ends the plain scalar before the last colon, since `]` follows it, and sees
//! a map with one key. Go's reader ends a plain scalar only at a colon followed by white space, and sees a
//! string. Kubernetes is what people's files were tried on, so the string it is.

/// Whether the colon after a plain key that ends at byte `end` belongs to the key in Go's reading.
pub(crate) fn colon_belongs_to_key(text: &str, end: usize) -> bool {
    matches!(text.as_bytes().get(end..), Some([b':', b',' | b'[' | b']' | b'{' | b'}', ..]))
}
