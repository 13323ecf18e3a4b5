//! Finding out whether an upstream on this node leads back to us.
//!
//! A stub such as dnsmasq may ask a server whose queries are captured, and so ask us what we have
//! just asked it. Nothing in such a query tells it from an application's, so the stub is sent a name
//! that nobody else can know: if that name arrives here, it is a loop.

use std::time::Duration;

use crate::{
    upstream::Upstreams,
    wire::{Query, code},
};

/// How often a local upstream is probed; also how long a wrong verdict can last.
pub(crate) const INTERVAL: Duration = Duration::from_secs(30);

/// The query that probes the upstream at a place. Its number makes it another question than the last
/// one, which a stub may have in its cache, or take this one for a repetition of.
pub(crate) fn query(upstreams: &Upstreams, place: usize, number: u64) -> Vec<u8> {
    // RD, one question; the id is set when it is sent.
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let label = format!("{:016x}-{place}-{number}", upstreams.token());
    for label in std::iter::once(label.as_str()).chain(DOMAIN.split('.')) {
        packet.push(u8::try_from(label.len()).unwrap_or_default());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&TXT.to_be_bytes());
    packet.extend_from_slice(&code::IN.to_be_bytes());
    packet
}

/// The place of the upstream that a query probes, if it is one of our probes come back.
pub(crate) fn is_ours(query: &Query<'_>, upstreams: &Upstreams) -> Option<usize> {
    let label = query.name()?.strip_suffix(DOMAIN)?.strip_suffix('.')?;
    let (token, rest) = label.split_once('-')?;
    let (place, _number) = rest.split_once('-')?;
    let token = u64::from_str_radix(token, 16).ok()?;
    place.parse().ok().filter(|_| token == upstreams.token())
}

/// Under a domain that does not exist (RFC 6761).
const DOMAIN: &str = "loop.egressd.test";
const TXT: u16 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Foreign;

    #[test]
    fn only_our_own() {
        let upstreams = || Upstreams::new(Vec::new(), Foreign::AskIt, Vec::new());
        let ours = upstreams();
        let packet = query(&ours, 7, 3);
        assert_ne!(packet, query(&ours, 7, 4));
        let packet = Query::parse(&packet).unwrap();
        assert_eq!(is_ours(&packet, &ours), Some(7));
        assert_eq!(is_ours(&packet, &upstreams()), None);
    }
}
