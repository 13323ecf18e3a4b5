//! `kind: List`: several resources in one document.

use std::sync::Arc;

use crate::Diagnostic;
use crate::decode::{At, Cx, written};
use crate::document::{Document, read_one};
use crate::yaml::{Duplicate, Node, Value};

/// The items, if the document is a list.
pub(super) fn items<'a>(root: &At<'a>) -> Option<&'a [Node<'a>]> {
    let kind = written(&root.field("kind"))?;
    if kind.value != "List" {
        return None;
    }
    match &root.node()?.get("items")?.value {
        Value::List(items) => Some(items),
        Value::Scalar(_) | Value::Map(_) => None,
    }
}

pub(super) fn read(
    path: &Arc<str>,
    root: &At<'_>,
    items: &[Node<'_>],
    duplicates: &[&Duplicate],
    into: &mut Vec<Document>,
) {
    let list = root.field("items");
    for (index, node) in items.iter().enumerate() {
        let at = list.item(index, node);
        let end = items.get(index + 1).map_or(u32::MAX, |next| next.span.start);
        let mine = |duplicate: &Duplicate| (node.span.start..end).contains(&duplicate.span.start);
        let own: Vec<_> = duplicates.iter().copied().filter(|duplicate| mine(duplicate)).collect();
        if node.is_null() {
            into.push(Document::unreadable(empty_item(path, &at)));
        } else {
            into.push(read_one(path, &at, &own));
        }
    }
}

fn empty_item(path: &Arc<str>, at: &At<'_>) -> Diagnostic {
    let mut cx = Cx::new(path);
    cx.error(at, "wrong-type", "an item is empty (null)").help("fill it in or remove it");
    cx.finish().swap_remove(0)
}
