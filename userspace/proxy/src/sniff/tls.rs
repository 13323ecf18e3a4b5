//! The ClientHello: which server name and which protocols it asks for.
//!
//! Reads what TLS 1.0 to 1.3 send first (RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1), however it is
//! cut into records. Of Encrypted ClientHello it reads the outer name, as every middlebox must.
//! Extensions that mean nothing (GREASE) are passed over. An SSLv2 hello is not TLS here.

use super::Parsed;

/// What a ClientHello asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The server name in lower case; `None` if there is none, or none that is a host name.
    pub(crate) server_name: Option<Box<str>>,
    /// The list of application protocols as it is on the wire; empty if there is none.
    protocols: Box<[u8]>,
}

impl ClientHello {
    /// One that asks for this server, and nothing else.
    #[cfg(test)]
    pub(crate) fn of(name: &str) -> Self {
        Self { server_name: Some(name.into()), protocols: Box::default() }
    }

    /// The application protocols asked for, most wanted first.
    #[cfg_attr(not(test), expect(dead_code, reason = "routing does not ask for it"))]
    pub(crate) fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Reader(&self.protocols);
        std::iter::from_fn(move || rest.vector::<1>())
    }
}

/// Reads the ClientHello at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<ClientHello> {
    match message(bytes) {
        Parsed::Whole(Message::Inside(hello)) => read(hello),
        Parsed::Whole(Message::Joined(hello)) => read(&hello),
        Parsed::Partial => Parsed::Partial,
        Parsed::Not => Parsed::Not,
    }
}

/// The body of the first handshake message.
enum Message<'a> {
    /// In one record.
    Inside(&'a [u8]),
    /// Put together from several.
    Joined(Vec<u8>),
}

/// Finds the ClientHello's body behind the headers of records and message.
fn message(bytes: &[u8]) -> Parsed<Message<'_>> {
    let first = match record(bytes) {
        Parsed::Whole((record, _)) => record,
        Parsed::Partial => return early(bytes),
        Parsed::Not => return Parsed::Not,
    };
    let Some(length) = message_length(first) else {
        // The message's own header is cut; that is legal, and rare enough to go the long way.
        return joined(bytes);
    };
    match length {
        Ok(length) => match first.get(MESSAGE_HEADER..MESSAGE_HEADER + length) {
            Some(hello) => Parsed::Whole(Message::Inside(hello)),
            None => joined(bytes),
        },
        Err(NotHello) => Parsed::Not,
    }
}

/// Judges bytes of which not even the first record is whole: most that are not TLS show it at once.
fn early(bytes: &[u8]) -> Parsed<Message<'_>> {
    match bytes.get(RECORD_HEADER..).and_then(message_length) {
        Some(Err(NotHello)) => Parsed::Not,
        Some(Ok(_)) | None => Parsed::Partial,
    }
}

fn joined(bytes: &[u8]) -> Parsed<Message<'_>> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let (record, after) = match record(rest) {
            Parsed::Whole(found) => found,
            Parsed::Partial => return Parsed::Partial,
            Parsed::Not => return Parsed::Not,
        };
        message.extend_from_slice(record);
        rest = after;
        match message_length(&message) {
            None => {}
            Some(Err(NotHello)) => return Parsed::Not,
            Some(Ok(length)) if message.len() >= MESSAGE_HEADER + length => {
                message.truncate(MESSAGE_HEADER + length);
                message.drain(..MESSAGE_HEADER);
                return Parsed::Whole(Message::Joined(message));
            }
            Some(Ok(_)) => {}
        }
    }
}

/// The first record's payload, and the bytes behind it.
fn record(bytes: &[u8]) -> Parsed<(&[u8], &[u8])> {
    let plausible = |at: usize, good: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| good(*byte));
    if !plausible(0, |kind| kind == HANDSHAKE) || !plausible(1, |major| major == 3) {
        return Parsed::Not;
    }
    let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
        return Parsed::Partial;
    };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length == 0 || length > RECORD_MOST {
        return Parsed::Not;
    }
    rest.split_at_checked(length).map_or(Parsed::Partial, Parsed::Whole)
}

/// The message is no ClientHello, or longer than any that is looked at.
struct NotHello;

/// The length of the message whose header is at the start; `None` while the header is cut.
fn message_length(bytes: &[u8]) -> Option<Result<usize, NotHello>> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Some(Err(NotHello));
    }
    let header = bytes.first_chunk::<MESSAGE_HEADER>()?;
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    Some(if length > super::MOST { Err(NotHello) } else { Ok(length) })
}

fn read(hello: &[u8]) -> Parsed<ClientHello> {
    fields(hello).map_or(Parsed::Not, Parsed::Whole)
}

fn fields(hello: &[u8]) -> Option<ClientHello> {
    let mut rest = Reader(hello);
    rest.take(2 + 32)?;
    let _session = rest.vector::<1>()?;
    let _cipher_suites = rest.vector::<2>()?;
    let _compression = rest.vector::<1>()?;
    let mut server_name = None;
    let mut protocols = Box::default();
    // Extensions may be left out altogether.
    let mut extensions = if rest.0.is_empty() { rest } else { Reader(rest.vector::<2>()?) };
    while !extensions.0.is_empty() {
        let kind = extensions.number::<2>()?;
        let body = extensions.vector::<2>()?;
        match kind {
            SERVER_NAME => server_name = host_name(body),
            PROTOCOLS => protocols = Reader(body).vector::<2>()?.into(),
            _ => {}
        }
    }
    Some(ClientHello { server_name, protocols })
}

/// The host name in the extension's list, in lower case.
fn host_name(extension: &[u8]) -> Option<Box<str>> {
    let mut list = Reader(Reader(extension).vector::<2>()?);
    loop {
        let kind = list.number::<1>()?;
        let name = list.vector::<2>()?;
        if kind == HOST_NAME {
            let printable = !name.is_empty()
                && name.len() <= NAME_MOST
                && name.iter().all(u8::is_ascii_graphic);
            let name = printable.then(|| str::from_utf8(name).ok()).flatten()?;
            return Some(name.to_ascii_lowercase().into());
        }
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Option<usize> {
        Some(self.take(N)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    /// Bytes behind their length, which has `N` bytes itself.
    fn vector<const N: usize>(&mut self) -> Option<&'a [u8]> {
        let length = self.number::<N>()?;
        self.take(length)
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;
const PROTOCOLS: usize = 16;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// Bytes in a record that is not encrypted.
const RECORD_MOST: usize = 1 << 14;
/// Bytes in a host name.
const NAME_MOST: usize = 255;
