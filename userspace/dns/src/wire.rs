//! The wire format (RFC 1035, EDNS0 of RFC 6891), as far as answering and forwarding need it.
//!
//! A query is read in place, and an answer of ours has one of three shapes, written straight into
//! the packet that leaves: no allocation per query. Everything else is relayed as bytes. The tests
//! hold both directions against hickory-proto.

mod query;
mod reply;

pub(crate) use self::{
    query::{HEADER, Malformed, Query},
    reply::{Fault, Owner, Reply, TTL, fail, fail_header, truncate},
};

/// The id, which is the first field of every message; nothing if there is not even a header.
pub(crate) fn id(message: &[u8]) -> Option<u16> {
    message.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// Replaces the id.
pub(crate) fn set_id(message: &mut [u8], id: u16) {
    if let Some(field) = message.first_chunk_mut() {
        *field = id.to_be_bytes();
    }
}

/// The response code in the header, without the upper bits that EDNS adds.
pub(crate) fn response_code(message: &[u8]) -> Option<u8> {
    message.get(3).map(|flags| flags & 0x0f)
}

/// Whether `reply` answers the question of `query`: a response whose first question is the same,
/// letters of either case alike. A server that did not understand the question may leave it out.
pub(crate) fn answers(reply: &[u8], query: &[u8]) -> bool {
    let (Some(theirs), Some(ours)) = (reply.first_chunk::<HEADER>(), query.first_chunk::<HEADER>())
    else {
        return false;
    };
    let is_response = theirs[2] & 0x80 != 0;
    let same_opcode = theirs[2] & 0x78 == ours[2] & 0x78;
    if !is_response || !same_opcode {
        return false;
    }
    match (theirs[4], theirs[5]) {
        (0, 0) => {
            let code = theirs[3] & 0x0f;
            // FORMERR, SERVFAIL, NOTIMP, REFUSED.
            matches!(code, 1 | 2 | 4 | 5)
        }
        (0, 1) => query::question_end(query).is_some_and(|end| {
            reply
                .get(HEADER..end)
                .zip(query.get(HEADER..end))
                .is_some_and(|(theirs, ours)| same_question(theirs, ours))
        }),
        _ => false,
    }
}

/// Names may differ in case; type and class are the last four bytes and may not.
fn same_question(theirs: &[u8], ours: &[u8]) -> bool {
    let name = ours.len().saturating_sub(4);
    theirs.get(..name).zip(ours.get(..name)).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
        && theirs.get(name..) == ours.get(name..)
}

/// Record types and the class that are ours to answer (semantics.md §2).
pub(crate) mod code {
    /// IPv4 address.
    pub(crate) const A: u16 = 1;
    /// Alias.
    pub(crate) const CNAME: u16 = 5;
    /// IPv6 address.
    pub(crate) const AAAA: u16 = 28;
    /// EDNS0.
    pub(crate) const OPT: u16 = 41;
    /// Where and how a service is reached (RFC 9460).
    pub(crate) const SVCB: u16 = 64;
    /// The same of HTTP.
    pub(crate) const HTTPS: u16 = 65;
    /// Internet.
    pub(crate) const IN: u16 = 1;
}

/// What a message over UDP may measure where the question says nothing (RFC 1035 §4.2.1).
pub(crate) const PLAIN_UDP: usize = 512;
/// What a message over TCP may measure: its length field has 16 bits.
pub(crate) const STREAM: usize = 65_535;
