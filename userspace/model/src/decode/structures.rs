//! Lists, maps, optional values and places.

use std::collections::BTreeMap;

use crate::Spanned;
use crate::decode::{At, Cx, Decode, written};
use crate::resource::Unread;

impl Decode for Unread {
    fn decode(_: &At<'_>, _: &mut Cx) -> Self {
        Self
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        at.node().filter(|node| !node.is_null()).map(|_| T::decode(at, cx))
    }
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        Self::new(T::decode(at, cx), at.span())
    }
}

/// Items that are null are reported: the schema refuses them.
impl<T: Decode> Decode for Vec<T> {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(items) = cx.items(at) else { return Self::new() };
        let mut list = Self::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            let at = at.item(index, node);
            if node.is_null() {
                let help = match written(&at).map(|text| text.value) {
                    Some("~") => "put `~` in quotes: alone it means null",
                    Some(_) | None => "fill it in or remove it",
                };
                cx.fail(&at, "wrong-type", "an item is empty (null)").help(help);
            }
            list.push(if node.is_null() { T::default() } else { T::decode(&at, cx) });
        }
        list
    }
}

/// Entries that are null count as not written.
impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(entries) = cx.entries(at) else { return Self::new() };
        let written = entries.iter().filter(|entry| !entry.value.is_null());
        written.map(|entry| (entry.key.to_string(), T::decode(&at.key_entry(entry), cx))).collect()
    }
}
