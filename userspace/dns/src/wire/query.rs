//! A query, read in place.

use crate::wire::{PLAIN_UDP, code};

/// Length of the header of every message.
pub(crate) const HEADER: usize = 12;

/// A query with one question. Borrowed from the packet; the name is copied in lower case.
pub(crate) struct Query<'a> {
    packet: &'a [u8],
    question_end: usize,
    name: Name,
    edns: Option<Edns>,
}

/// What the OPT record of a query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest reply over UDP that the client can take.
    pub(crate) payload: u16,
    /// 0 is the only version there is.
    pub(crate) version: u8,
}

/// Why a packet is not a query that can be answered or forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// No header, or a response. To be dropped: answering those makes two servers talk for ever.
    #[error("not a query")]
    NotAQuery,
    /// No question (semantics.md §2: SERVFAIL).
    #[error("a query without a question")]
    NoQuestion,
    /// Cut short, or more than one question (RFC 9619).
    #[error("a query that cannot be read")]
    Unreadable,
}

impl<'a> Query<'a> {
    /// Reads a packet.
    pub(crate) fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let header = packet.first_chunk::<HEADER>().ok_or(Malformed::NotAQuery)?;
        if header[2] & 0x80 != 0 {
            return Err(Malformed::NotAQuery);
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        match count(4) {
            0 => return Err(Malformed::NoQuestion),
            1 => {}
            _ => return Err(Malformed::Unreadable),
        }
        let (name, name_end) = Name::read(packet).ok_or(Malformed::Unreadable)?;
        let question_end = name_end + 4;
        if packet.len() < question_end {
            return Err(Malformed::Unreadable);
        }
        let records = [count(6), count(8), count(10)].map(u32::from);
        let edns = find_edns(packet, question_end, records).ok_or(Malformed::Unreadable)?;
        Ok(Self { packet, question_end, name, edns })
    }

    /// The packet as it came.
    pub(crate) fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// The question section as it came: name, type, class.
    pub(crate) fn question(&self) -> &'a [u8] {
        self.packet.get(HEADER..self.question_end).unwrap_or_default()
    }

    /// The name asked for: dotted, in lower case, without the final dot. Nothing if it cannot be
    /// written so unambiguously (a dot inside a label, bytes that are not UTF-8); such a name is
    /// nobody's host.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.text()
    }

    /// Whether the name was asked in lower case, so that answers may point to it.
    pub(crate) fn is_lower_case(&self) -> bool {
        !self.name.had_upper_case
    }

    /// An ordinary question (opcode 0), as opposed to NOTIFY, UPDATE and the like.
    pub(crate) fn is_standard(&self) -> bool {
        self.packet.get(2).is_some_and(|flags| flags & 0x78 == 0)
    }

    /// The record type asked for.
    pub(crate) fn record_type(&self) -> u16 {
        self.u16_before_end(4)
    }

    /// The class asked for.
    pub(crate) fn class(&self) -> u16 {
        self.u16_before_end(2)
    }

    /// What the OPT record says, if there is one.
    pub(crate) fn edns(&self) -> Option<Edns> {
        self.edns
    }

    /// The largest reply over UDP that the client can take.
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP, |edns| usize::from(edns.payload).max(PLAIN_UDP))
    }

    fn u16_before_end(&self, distance: usize) -> u16 {
        let field = self.packet.get(self.question_end - distance..).and_then(|at| at.first_chunk());
        field.map_or(0, |field| u16::from_be_bytes(*field))
    }
}

/// Where the first question ends, if it can be read.
pub(crate) fn question_end(packet: &[u8]) -> Option<usize> {
    let (_, name_end) = Name::read(packet)?;
    Some(name_end + 4).filter(|end| *end <= packet.len())
}

/// A name in lower case and dotted, on the stack.
struct Name {
    text: [u8; MAX_NAME],
    length: usize,
    had_upper_case: bool,
    is_plain: bool,
}

/// A name on the wire has at most 255 bytes; dotted, it is two shorter.
const MAX_NAME: usize = 255;

impl Name {
    /// Reads the name of the first question; also says where it ends. Compression cannot occur there:
    /// there is nothing before it to point to.
    fn read(packet: &[u8]) -> Option<(Self, usize)> {
        let mut name =
            Self { text: [0; MAX_NAME], length: 0, had_upper_case: false, is_plain: true };
        let mut at = HEADER;
        loop {
            let length = usize::from(*packet.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            let label = packet.get(at..at + length).filter(|_| length <= 63)?;
            at += length;
            if at - HEADER >= MAX_NAME {
                return None;
            }
            name.push(label)?;
        }
        Some((name, at))
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        if self.length > 0 {
            *self.text.get_mut(self.length)? = b'.';
            self.length += 1;
        }
        let place = self.text.get_mut(self.length..self.length + label.len())?;
        for (to, from) in place.iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
            self.had_upper_case |= from.is_ascii_uppercase();
            self.is_plain &= *from != b'.';
        }
        self.length += label.len();
        Some(())
    }

    fn text(&self) -> Option<&str> {
        let text = self.text.get(..self.length).filter(|_| self.is_plain)?;
        std::str::from_utf8(text).ok()
    }
}

/// The OPT record among the additional ones, if there is one; nothing at all if the records cannot
/// be read.
fn find_edns(packet: &[u8], mut at: usize, records: [u32; 3]) -> Option<Option<Edns>> {
    let [answers, authorities, additionals] = records;
    let mut found = None;
    for index in 0..answers + authorities + additionals {
        let name = at;
        at = skip_name(packet, at)?;
        let fixed: &[u8; 10] = packet.get(at..)?.first_chunk()?;
        let [t1, t2, c1, c2, _, version, _, _, l1, l2] = *fixed;
        at += fixed.len() + usize::from(u16::from_be_bytes([l1, l2]));
        if at > packet.len() {
            return None;
        }
        let is_root = packet.get(name) == Some(&0);
        let is_additional = index >= answers + authorities;
        if is_additional && is_root && u16::from_be_bytes([t1, t2]) == code::OPT {
            found = Some(Edns { payload: u16::from_be_bytes([c1, c2]), version });
        }
    }
    Some(found)
}

/// Where the name at `at` ends; a pointer ends it.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + length,
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::{Edns as HickoryEdns, Message, Query as HickoryQuery},
        rr::{Name as HickoryName, RecordType},
    };
    use proptest::prelude::*;

    use super::*;

    fn packet(name: &str, record_type: RecordType, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        let name = HickoryName::from_ascii(name).unwrap();
        message.add_query(HickoryQuery::query(name, record_type));
        if let Some(payload) = payload {
            let mut edns = HickoryEdns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn reads_what_hickory_writes() {
        let bytes = packet("WWW.Example.com.", RecordType::AAAA, Some(1400));
        let query = Query::parse(&bytes).unwrap();
        assert_eq!(query.name(), Some("www.example.com"));
        assert!(!query.is_lower_case());
        assert!(query.is_standard());
        assert_eq!((query.record_type(), query.class()), (code::AAAA, code::IN));
        assert_eq!(query.edns(), Some(Edns { payload: 1400, version: 0 }));
        assert_eq!(query.udp_limit(), 1400);
        let bytes = packet(".", RecordType::NS, Some(100));
        let query = Query::parse(&bytes).unwrap();
        assert_eq!((query.name(), query.udp_limit()), (Some(""), 512));
        assert_eq!(question_end(&bytes), Some(HEADER + 5));
    }

    #[test]
    fn every_prefix_is_refused() {
        let bytes = packet("www.example.com.", RecordType::A, Some(1232));
        for length in 0..bytes.len() {
            let found = Query::parse(&bytes[..length]).err();
            let expected =
                if length < HEADER { Malformed::NotAQuery } else { Malformed::Unreadable };
            assert_eq!(found, Some(expected), "{length}");
        }
    }

    #[test]
    fn what_is_no_query() {
        let mut bytes = packet("a.", RecordType::A, None);
        bytes[2] |= 0x80;
        assert_eq!(Query::parse(&bytes).err(), Some(Malformed::NotAQuery));
        bytes[2] = 0;
        bytes[5] = 0;
        assert_eq!(Query::parse(&bytes).err(), Some(Malformed::NoQuestion));
        bytes[5] = 2;
        assert_eq!(Query::parse(&bytes).err(), Some(Malformed::Unreadable));
    }

    #[test]
    fn ambiguous_names_have_no_text() {
        let mut bytes = packet("a-b.example.", RecordType::A, None);
        assert_eq!(Query::parse(&bytes).unwrap().name(), Some("a-b.example"));
        bytes[HEADER + 2] = b'.';
        assert_eq!(Query::parse(&bytes).unwrap().name(), None);
        bytes[HEADER + 2] = 0xff;
        assert_eq!(Query::parse(&bytes).unwrap().name(), None);
        // A pointer, to itself.
        bytes[HEADER] = 0xc0;
        bytes[HEADER + 1] = 12;
        assert_eq!(Query::parse(&bytes).err(), Some(Malformed::Unreadable));
    }

    #[test]
    fn the_longest_name() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}.", "x".repeat(61));
        let bytes = packet(&longest, RecordType::A, None);
        assert_eq!(Query::parse(&bytes).unwrap().name().map(str::len), Some(253));
        // One byte more than the format allows.
        let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for _ in 0..4 {
            bytes.push(63);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
        assert_eq!(Query::parse(&bytes).err(), Some(Malformed::Unreadable));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(query) = Query::parse(&bytes) {
                prop_assert!(query.question().len() >= 5);
                prop_assert!(query.udp_limit() >= 512);
            }
        }

        /// A message that hickory reads as one plain question is read alike.
        #[test]
        fn agrees_with_hickory(
            name in "([a-zA-Z0-9]{1,20}\\.){1,6}",
            payload in proptest::option::of(any::<u16>()),
            position in any::<usize>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = packet(&name, RecordType::A, payload);
            let position = position % bytes.len();
            bytes[position] = byte;
            let ours = Query::parse(&bytes);
            if let (Ok(ours), Ok(theirs)) = (&ours, Message::from_vec(&bytes))
                && let [question] = theirs.queries.as_slice()
                && let Some(name) = ours.name()
                && name.is_ascii()
            {
                let expected = question.name().to_lowercase();
                let labels: Vec<_> = expected.iter().map(|l| String::from_utf8_lossy(l)).collect();
                prop_assert_eq!(name, labels.join("."));
                prop_assert_eq!(ours.record_type(), u16::from(question.query_type()));
            }
        }
    }
}
