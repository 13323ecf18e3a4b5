//! Values in words.

use std::time::Duration;

use egressd_model::value::EndpointAddress;

use crate::cluster::Endpoint;

/// `1.5s`, `25ms`, `never`.
pub(super) fn limit(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "none".to_owned(), |duration| format!("{duration:?}"))
}

/// `10.0.0.1:80`, `[::1]:80`, `name:80`, `unix:///run/x`.
pub(super) fn endpoint(endpoint: &Endpoint) -> String {
    let port = endpoint.port;
    match &endpoint.address {
        EndpointAddress::Ip(ip) => std::net::SocketAddr::new(*ip, port).to_string(),
        EndpointAddress::Name(name) => format!("{name}:{port}"),
        other @ (EndpointAddress::Unix(_) | EndpointAddress::Unset) => other.to_string(),
    }
}

/// Items with commas, the first few of many.
pub(super) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 20;
    let mut items = items.into_iter();
    let shown: Vec<_> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A share of a million as a percentage.
pub(super) fn percent(per_million: u32) -> String {
    format!("{}%", f64::from(per_million) / 10_000.0)
}
