//! The ports of a ServiceEntry.

use std::collections::HashSet;

use crate::decode::{At, Cx};
use crate::resource::{ServiceEntry, ServicePort};
use crate::validate::domain::is_dns_label;
use crate::validate::limits;
use crate::value::Protocol;

/// Checks the ports and returns their names.
pub(super) fn ports<'a>(entry: &'a ServiceEntry, at: &At<'_>, cx: &mut Cx) -> HashSet<&'a str> {
    let at = at.field("ports");
    limits::count(entry.ports.len(), 256, &at, cx);
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in entry.ports.iter().enumerate() {
        let at = at.index(index);
        if !names.insert(port.name.value.as_str()) {
            let message = format!("another port is named {:?}", port.name.value);
            cx.error(&at.field("name"), "duplicate-value", message);
        }
        if !numbers.insert(port.number.value) {
            let message = format!("another port has the number {}", port.number.value);
            cx.error(&at.field("number"), "duplicate-value", message);
        }
        self::port(port, &at, cx);
    }
    names
}

fn port(port: &ServicePort, at: &At<'_>, cx: &mut Cx) {
    if port.number.is_written() {
        limits::port(&port.number, &at.field("number"), cx);
    }
    limits::optional_port(&port.target_port, &at.field("targetPort"), cx);
    if port.name.is_written() && !is_dns_label(&port.name) {
        cx.error(
            &at.field("name"),
            "invalid-name",
            format!("{:?} is not a port name", port.name.value),
        )
        .help("at most 63 letters, digits and `-`, beginning and ending with a letter or digit");
    }
}

/// Warns of ports that need an address to be told from other services, where the entry has none and gets none.
pub(super) fn addresses_needed(entry: &ServiceEntry, at: &At<'_>, cx: &mut Cx) {
    let at = at.field("ports");
    for (index, port) in entry.ports.iter().enumerate() {
        let at = at.index(index);
        // Istio compares the text, so that `tcp` is not warned about; the other spelling gets an info.
        let written = crate::decode::written(&at.field("protocol")).map_or("", |text| text.value);
        let message = || {
            let number = port.number.value;
            format!(
                "without an address this port takes every connection to port {number}, whatever its destination"
            )
        };
        if written.is_empty() || written == "TCP" {
            cx.warning(&at, "address-needed", message()).help("give the entry `addresses`");
        } else if matches!(
            port.protocol.value,
            Protocol::Tcp | Protocol::Mongo | Protocol::Redis | Protocol::Mysql
        ) {
            cx.info(&at, "address-needed", message()).help("give the entry `addresses`");
        }
    }
}
