//! The tree.

use std::borrow::Cow;

use crate::Span;
use crate::yaml::Scalar;

/// One value with its place. The place of a map or list is that of its first key or item, so that pointing at it
/// never underlines a whole block.
#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    pub(crate) span: Span,
    pub(crate) value: Value<'t>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Value<'t> {
    Scalar(Scalar<'t>),
    List(Vec<Node<'t>>),
    Map(Vec<Entry<'t>>),
}

/// One key of a map with its value; keys are unique.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'t> {
    pub(crate) key: Cow<'t, str>,
    pub(crate) key_span: Span,
    pub(crate) value: Node<'t>,
}

impl<'t> Node<'t> {
    /// Whether nothing was written, or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// The entries of a map; none for anything else.
    pub(crate) fn entries(&self) -> &[Entry<'t>] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// The entry of a key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry<'t>> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a key, where it is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'t>> {
        self.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// An item of a list.
    pub(crate) fn item(&self, index: usize) -> Option<&Node<'t>> {
        match &self.value {
            Value::List(items) => items.get(index),
            Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    /// How many nodes the tree has, counted up to `limit`.
    pub(crate) fn count(&self, limit: usize) -> usize {
        let mut total = 0;
        let mut open = vec![self];
        while let Some(node) = open.pop() {
            total += 1;
            if total >= limit {
                break;
            }
            match &node.value {
                Value::Scalar(_) => {}
                Value::List(items) => open.extend(items),
                Value::Map(entries) => open.extend(entries.iter().map(|entry| &entry.value)),
            }
        }
        total
    }
}
