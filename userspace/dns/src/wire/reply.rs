//! Replies of ours.

use crate::wire::{HEADER, Query, code};

/// How long a client may keep an answer of ours, in seconds (semantics.md §2). VIPs outlive it:
/// a freed one rests for longer.
pub(crate) const TTL: u32 = 30;
/// What we can receive over UDP, as OPT tells the client.
const OUR_PAYLOAD: u16 = 1232;
/// An OPT record without options.
const OPT_LENGTH: usize = 11;
/// A pointer to the name of the question.
const QUESTION_NAME: u16 = 0xc000 | HEADER as u16;

/// The response codes we give ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The query cannot be read.
    FormErr = 1,
    /// Nobody could be asked, or nobody answered.
    ServFail = 2,
    /// An EDNS version that does not exist.
    BadVersion = 16,
}

/// An authoritative answer being written: header, the question as it was asked, records, OPT if the
/// query had one.
///
/// Never grows beyond its limit: what does not fit is left out, and the truncation bit says so.
pub(crate) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    /// Without the room for OPT.
    limit: usize,
    answers: u16,
    truncated: bool,
    opt: Option<u8>,
}

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// A name that is already in the message.
    At(u16),
    /// A dotted name.
    Text(&'a str),
}

impl<'a> Reply<'a> {
    /// Begins a reply of at most `limit` bytes in `out`, which is emptied. The question is always
    /// there: no limit is below the 512 bytes that every question fits in.
    pub(crate) fn begin(out: &'a mut Vec<u8>, query: &Query<'_>, limit: usize) -> Self {
        // QR, AA, and the client's RD; RA: what is not ours is asked upstream.
        write_header(out, query.packet(), [0x84, 0x80]);
        out.extend_from_slice(query.question());
        let opt = query.edns().map(|_| 0);
        let limit = limit - if opt.is_some() { OPT_LENGTH } else { 0 };
        Self { out, limit, answers: 0, truncated: false, opt }
    }

    /// The name of the question, where answers may point to it.
    pub(crate) fn question_name() -> Owner<'static> {
        Owner::At(QUESTION_NAME)
    }

    /// Writes an A or AAAA record; says where its owner's name is, for the next one.
    pub(crate) fn address(&mut self, owner: Owner<'_>, octets: &[u8]) -> Owner<'static> {
        let record_type = if octets.len() == 4 { code::A } else { code::AAAA };
        let record = self.begin_record(owner, record_type);
        self.out.extend_from_slice(octets);
        self.end_record(&record);
        record.owner
    }

    /// Writes a CNAME record; says where the name of its target is.
    pub(crate) fn alias(&mut self, owner: Owner<'_>, target: &str) -> Owner<'static> {
        let record = self.begin_record(owner, code::CNAME);
        let place = place(self.out.len());
        write_name(self.out, target);
        self.end_record(&record);
        place
    }

    /// Whether something was left out, so that no further record will fit either.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Completes the message.
    pub(crate) fn finish(self) {
        if let Some(high) = self.opt {
            write_opt(self.out, high);
        }
        if self.truncated
            && let Some(flags) = self.out.get_mut(2)
        {
            *flags |= 0x02;
        }
        if let Some(count) = self.out.get_mut(6..8) {
            count.copy_from_slice(&self.answers.to_be_bytes());
        }
        if let Some(count) = self.out.get_mut(11) {
            *count = u8::from(self.opt.is_some());
        }
    }

    fn begin_record(&mut self, owner: Owner<'_>, record_type: u16) -> Record {
        let start = self.out.len();
        let owner = match owner {
            Owner::At(pointer) => {
                self.out.extend_from_slice(&pointer.to_be_bytes());
                Owner::At(pointer)
            }
            Owner::Text(name) => {
                write_name(self.out, name);
                place(start)
            }
        };
        self.out.extend_from_slice(&record_type.to_be_bytes());
        self.out.extend_from_slice(&code::IN.to_be_bytes());
        self.out.extend_from_slice(&TTL.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        Record { start, length_at, owner }
    }

    fn end_record(&mut self, record: &Record) {
        if self.truncated || self.out.len() > self.limit || self.answers == u16::MAX {
            self.truncated = true;
            self.out.truncate(record.start);
            return;
        }
        self.answers += 1;
        let length = u16::try_from(self.out.len() - record.length_at - 2);
        if let Some(field) = self.out.get_mut(record.length_at..record.length_at + 2) {
            field.copy_from_slice(&length.unwrap_or_default().to_be_bytes());
        }
    }
}

/// A record whose data is being written.
struct Record {
    start: usize,
    /// Where the length of the data goes.
    length_at: usize,
    /// The owner, for records that follow.
    owner: Owner<'static>,
}

/// Replaces `out` by a reply without records that says what is wrong.
pub(crate) fn fail(out: &mut Vec<u8>, query: &Query<'_>, fault: Fault) {
    let [low, high] = [fault as u8 & 0x0f, fault as u8 >> 4];
    write_header(out, query.packet(), [0x80, 0x80 | low]);
    out.extend_from_slice(query.question());
    if query.edns().is_some() {
        write_opt(out, high);
        if let Some(count) = out.get_mut(11) {
            *count = 1;
        }
    }
}

/// Replaces `out` by a bare header that says what is wrong with a packet whose question cannot be
/// read. `packet` has a header.
pub(crate) fn fail_header(out: &mut Vec<u8>, packet: &[u8], fault: Fault) {
    write_header(out, packet, [0x80, 0x80 | (fault as u8 & 0x0f)]);
    if let Some(count) = out.get_mut(5) {
        *count = 0;
    }
}

/// Cuts a foreign reply down to its header and question, with the truncation bit set: the client is
/// to ask again over TCP.
pub(crate) fn truncate(reply: &mut Vec<u8>) {
    let end = super::query::question_end(reply).unwrap_or(HEADER).min(reply.len());
    let questions = u8::from(end > HEADER);
    reply.truncate(end);
    if let Some(header) = reply.first_chunk_mut::<HEADER>() {
        header[2] |= 0x02;
        header[4..].copy_from_slice(&[0, questions, 0, 0, 0, 0, 0, 0]);
    }
}

/// The header of a reply to `packet`, for one question: same id, opcode, RD and CD.
fn write_header(out: &mut Vec<u8>, packet: &[u8], flags: [u8; 2]) {
    out.clear();
    let Some([id1, id2, high, low]) = packet.first_chunk() else { return };
    let flags = [flags[0] | (high & 0x79), flags[1] | (low & 0x10)];
    out.extend_from_slice(&[*id1, *id2, flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, 0]);
}

fn write_opt(out: &mut Vec<u8>, rcode_high: u8) {
    let [t1, t2] = code::OPT.to_be_bytes();
    let [p1, p2] = OUR_PAYLOAD.to_be_bytes();
    out.extend_from_slice(&[0, t1, t2, p1, p2, rcode_high, 0, 0, 0, 0, 0]);
}

/// Writes a dotted name. Hosts are checked where they are read: labels of 1 to 63 bytes, 253 in all.
/// A longer label would be cut, never corrupt the message.
fn write_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes().get(..63).unwrap_or(label.as_bytes());
        out.push(u8::try_from(label.len()).unwrap_or(63));
        out.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    out.push(0);
}

/// A pointer to a place in the message. Beyond the 14 bits of a pointer nothing is ever pointed to:
/// the names we write come first.
fn place(at: usize) -> Owner<'static> {
    Owner::At(0xc000 | u16::try_from(at & 0x3fff).unwrap_or_default())
}
