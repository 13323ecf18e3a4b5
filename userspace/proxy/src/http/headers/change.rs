//! What routes change in headers (semantics.md §3, headers).

use egressd_tables::{HeaderChange, HeaderOps};
use http::{HeaderMap, HeaderName};

use super::format::{Context, expand};

/// Applies changes: first what is removed, then what is set or added, as Envoy does, so that a header
/// that is both removed and set ends up with the value that is set. What expands to nothing, and what
/// no header may hold, is left out.
pub(crate) fn apply(ops: &HeaderOps, headers: &mut HeaderMap, context: &Context<'_>) {
    if ops.is_empty() {
        return;
    }
    for name in &ops.remove {
        headers.remove(&**name);
    }
    for HeaderChange { name, value, append } in &ops.changes {
        let expanded = expand(value, headers, context);
        let (Ok(name), Some(value)) =
            (HeaderName::from_bytes(name.as_bytes()), super::value(&expanded))
        else {
            continue;
        };
        match (value.is_empty(), append) {
            (true, _) => {}
            (false, true) => {
                headers.append(name, value);
            }
            (false, false) => {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;
    use crate::{
        addrs::OriginalDst,
        original::Original,
        record::{FlowRecord, HttpFields},
    };

    fn changed(remove: &[&str], changes: &[(&str, &str, bool)]) -> Vec<String> {
        let change = |(name, value, append): &(&str, &str, bool)| HeaderChange {
            name: (*name).into(),
            value: (*value).into(),
            append: *append,
        };
        let ops = HeaderOps {
            changes: changes.iter().map(change).collect(),
            remove: remove.iter().map(|name| (*name).into()).collect(),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x", HeaderValue::from_static("old"));
        let original = Original::new(OriginalDst("10.0.0.1:80".parse().unwrap()));
        let flow = FlowRecord {
            http: Some(Box::new(HttpFields::new(http::Version::HTTP_11))),
            ..FlowRecord::new(UNIX_EPOCH, original)
        };
        apply(&ops, &mut headers, &Context { flow: &flow, request: None, response: None });
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn set_add_and_remove() {
        assert_eq!(changed(&[], &[("x", "new", false)]), ["x=new"]);
        assert_eq!(changed(&[], &[("x", "new", true)]), ["x=old", "x=new"]);
        assert_eq!(changed(&["x"], &[]), Vec::<String>::new());
        assert_eq!(changed(&["x"], &[("x", "new", true)]), ["x=new"]);
        assert_eq!(changed(&[], &[("y", "%UNKNOWN%", false)]), ["x=old"]);
        assert_eq!(changed(&[], &[("y", "a\nb", false)]), ["x=old"]);
    }
}
