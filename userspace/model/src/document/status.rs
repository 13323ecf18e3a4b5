//! `status`: written by controllers, so read leniently and never complained about.

use crate::decode::{At, written};
use crate::resource::AssignedAddress;
use crate::value::HostPattern;
use crate::yaml::{Node, Value};

/// `status.addresses` of a ServiceEntry; entries that do not parse are left out.
pub(super) fn assigned_addresses(at: &At<'_>) -> Vec<AssignedAddress> {
    let status = at.field("status");
    let addresses = status.field("addresses");
    let items: &[Node<'_>] = match addresses.node().map(|node| &node.value) {
        Some(Value::List(items)) => items,
        Some(Value::Scalar(_) | Value::Map(_)) | None => &[],
    };
    let read = |(index, node)| {
        let item = addresses.item(index, node);
        let address = written(&item.field("value"))?.value.parse().ok()?;
        let host = written(&item.field("host")).filter(|host| !host.value.is_empty());
        Some(AssignedAddress { host: host.map(|host| HostPattern::new(host.value)), address })
    };
    items.iter().enumerate().filter_map(read).collect()
}
