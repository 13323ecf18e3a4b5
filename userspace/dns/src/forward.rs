//! Asking upstream what is not ours to answer, and relaying what comes back unchanged.

mod datagrams;
mod pool;
mod probe;
mod relay;
mod streams;

use std::time::Duration;

pub(crate) use self::{
    datagrams::Datagrams,
    probe::is_ours as is_probe,
    relay::{Sender, asker},
    streams::{Streams, read_message, write_message},
};

/// How long one server may take (semantics.md §2).
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a reply means that this server cannot help, so that the next one is asked: SERVFAIL,
/// NOTIMP, REFUSED. As the C library does.
fn is_helpless(reply: &[u8]) -> bool {
    matches!(crate::wire::response_code(reply), Some(2 | 4 | 5))
}
