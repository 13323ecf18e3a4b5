//! Where in a document a reader or a rule stands.

use std::fmt::Write as _;

use crate::Span;
use crate::yaml::{Entry, Node, Value};

/// A path into a document, kept as a chain on the stack. Nothing is looked up or formatted before something is
/// wrong.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    segment: Segment<'a>,
    place: Place<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

#[derive(Clone, Copy)]
enum Place<'a> {
    /// The node is known.
    Node(&'a Node<'a>),
    /// The node is known, and so is its key.
    Entry(&'a Entry<'a>),
    /// To be looked up in the parent.
    Lookup,
}

impl<'a> At<'a> {
    /// A document.
    pub(crate) fn root(node: &'a Node<'a>) -> Self {
        Self { parent: None, segment: Segment::Root, place: Place::Node(node) }
    }

    /// A field whose entry is at hand.
    pub(crate) fn entry(&'a self, entry: &'a Entry<'a>) -> Self {
        Self { parent: Some(self), segment: Segment::Field(&entry.key), place: Place::Entry(entry) }
    }

    /// An entry of a map with free keys.
    pub(crate) fn key_entry(&'a self, entry: &'a Entry<'a>) -> Self {
        Self { parent: Some(self), segment: Segment::Key(&entry.key), place: Place::Entry(entry) }
    }

    /// An item that is at hand.
    pub(crate) fn item(&'a self, index: usize, node: &'a Node<'a>) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index), place: Place::Node(node) }
    }

    /// A field, written or not.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Field(name), place: Place::Lookup }
    }

    /// An item of a list.
    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index), place: Place::Lookup }
    }

    /// An entry of a map with free keys.
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Key(key), place: Place::Lookup }
    }

    /// The node, where one was written.
    pub(crate) fn node(&self) -> Option<&'a Node<'a>> {
        match (self.place, self.segment) {
            (Place::Node(node), _) => Some(node),
            (Place::Entry(entry), _) => Some(&entry.value),
            (Place::Lookup, Segment::Root) => None,
            (Place::Lookup, Segment::Field(name) | Segment::Key(name)) => {
                self.parent?.node()?.entry(name).map(|entry| &entry.value)
            }
            (Place::Lookup, Segment::Index(index)) => self.parent?.node()?.item(index),
        }
    }

    /// The parent and the name in it, for fields.
    pub(crate) fn owner(&self) -> Option<(&'a At<'a>, &'a str)> {
        match self.segment {
            Segment::Field(name) => self.parent.map(|parent| (parent, name)),
            Segment::Root | Segment::Index(_) | Segment::Key(_) => None,
        }
    }

    /// One step up.
    pub(crate) fn parent(&self) -> Option<&'a At<'a>> {
        self.parent
    }

    /// The place of the value; of the key where the value is empty; of whatever encloses it where it is absent.
    pub(crate) fn span(&self) -> Span {
        match self.place {
            Place::Entry(entry) if entry.value.is_null() => return entry.key_span,
            Place::Node(_) | Place::Entry(_) | Place::Lookup => {}
        }
        match (self.node(), self.parent) {
            (Some(node), _) => node.span,
            (None, Some(parent)) => parent.span(),
            (None, None) => Span::default(),
        }
    }

    /// The place of the key.
    pub(crate) fn key_span(&self) -> Span {
        match self.place {
            Place::Entry(entry) => entry.key_span,
            Place::Node(_) | Place::Lookup => self.span(),
        }
    }

    /// `spec.ports[0].protocol`; keys of free maps in brackets too: `spec.labels[app]`.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        self.write_path(&mut path);
        path
    }

    /// The path of the key that stands at a place, anywhere inside.
    pub(crate) fn path_of_key(&self, place: Span) -> Option<String> {
        match &self.node()?.value {
            Value::Scalar(_) => None,
            Value::List(items) => items
                .iter()
                .enumerate()
                .find_map(|(index, node)| self.item(index, node).path_of_key(place)),
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let at = self.entry(entry);
                if entry.key_span == place { Some(at.path()) } else { at.path_of_key(place) }
            }),
        }
    }

    fn write_path(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_path(path);
        }
        match self.segment {
            Segment::Root => {}
            Segment::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            // Writing to a String cannot fail.
            Segment::Index(index) => drop(write!(path, "[{index}]")),
            Segment::Key(key) => drop(write!(path, "[{key}]")),
        }
    }
}
