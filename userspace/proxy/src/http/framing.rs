//! A second look at where HTTP/1 messages begin and end.
//!
//! hyper settles what is ambiguous the way RFC 9112 allows: a bare line feed ends a line, a
//! Content-Length beside chunks is dropped, equal Content-Lengths are one. Envoy refuses such requests,
//! and so do we, because somebody in between may settle them the other way. hyper has no switch for it,
//! so the bytes are looked at on their way in. Where a head is ambiguous, the end of the line that makes
//! it so is replaced by a NUL: hyper then answers 400 and closes, after what it owes earlier requests.
//!
//! What is not understood here is left to hyper, which is stricter than this about everything else.

/// Follows the bytes of one direction of an HTTP/1 connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    state: State,
    head: Head,
    line: Line,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In a head, or before one.
    #[default]
    Head,
    /// In a body, with so many bytes to come.
    Body(u64),
    /// In the line with the size of a chunk.
    ChunkSize,
    /// In a chunk, with so many bytes to come; its line end is among them.
    Chunk(u64),
    /// In the lines behind the last chunk.
    Trailers,
    /// The rest of the connection is no longer followed.
    Lost,
}

/// What a head has said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    chunked: bool,
}

/// The start of a line that came in several parts.
#[derive(Debug, Default)]
struct Line {
    start: Vec<u8>,
    /// The last byte so far.
    last: u8,
}

/// A line says something that must not be.
struct Ambiguous;

impl Framing {
    /// Looks at bytes that were received, and spoils them where a head is ambiguous.
    pub(crate) fn look(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Lost => return,
                State::Body(left) => {
                    let (skipped, left) = skip(left, rest.len());
                    at += skipped;
                    self.state = if left == 0 { State::Head } else { State::Body(left) };
                }
                State::Chunk(left) => {
                    let (skipped, left) = skip(left, rest.len());
                    at += skipped;
                    self.state = if left == 0 { State::ChunkSize } else { State::Chunk(left) };
                }
                State::Head | State::ChunkSize | State::Trailers => {
                    let Some(length) = memchr::memchr(b'\n', rest) else {
                        self.line.keep(rest);
                        return;
                    };
                    let line = rest.get(..length).unwrap_or_default();
                    if self.end_of_line(line).is_err() {
                        self.state = State::Lost;
                        if let Some(end) = bytes.get_mut(at + length) {
                            *end = 0;
                        }
                        return;
                    }
                    at += length + 1;
                }
            }
        }
    }

    /// Whether part of a head has come, and not all of it.
    pub(crate) fn is_in_head(&self) -> bool {
        self.state == State::Head && (self.head.begun || !self.line.start.is_empty())
    }

    /// Takes a line whose line feed has come; `part` is what came of it last.
    fn end_of_line(&mut self, part: &[u8]) -> Result<(), Ambiguous> {
        if self.line.start.is_empty() {
            return self.take_line(part, part.last().copied());
        }
        self.line.keep(part);
        let Line { start, last } = std::mem::take(&mut self.line);
        let taken = self.take_line(&start, Some(last));
        self.line.start = start;
        self.line.start.clear();
        taken
    }

    fn take_line(&mut self, line: &[u8], last: Option<u8>) -> Result<(), Ambiguous> {
        let proper = last == Some(b'\r');
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Head | State::Trailers if !proper => return Err(Ambiguous),
            State::Head if line.is_empty() => self.end_of_head(),
            State::Head => self.head.take_line(line)?,
            State::Trailers if line.is_empty() => self.state = State::Head,
            State::ChunkSize => {
                self.state = match chunk_size(line) {
                    Some(0) => State::Trailers,
                    Some(size) => State::Chunk(size.saturating_add(2)),
                    None => State::Lost,
                }
            }
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Lost => {}
        }
        Ok(())
    }

    fn end_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.state = match head {
            Head { chunked: true, .. } => State::ChunkSize,
            Head { length: Some(length @ 1..), .. } => State::Body(length),
            // Empty lines before a request are none of its own.
            Head { .. } => State::Head,
        };
    }
}

impl Head {
    fn take_line(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        if !self.begun {
            self.begun = true;
            return Ok(());
        }
        if let Some(value) = value_of(line, b"content-length:") {
            if self.chunked || self.length.is_some() {
                return Err(Ambiguous);
            }
            self.length = Some(decimal(value).ok_or(Ambiguous)?);
        } else if value_of(line, b"transfer-encoding:").is_some() {
            if self.chunked || self.length.is_some() {
                return Err(Ambiguous);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

impl Line {
    fn keep(&mut self, part: &[u8]) {
        let room = KEPT.saturating_sub(self.start.len()).min(part.len());
        self.start.extend_from_slice(part.get(..room).unwrap_or_default());
        self.last = part.last().copied().unwrap_or(self.last);
    }
}

fn skip(left: u64, there: usize) -> (usize, u64) {
    match usize::try_from(left) {
        Ok(all) if all <= there => (all, 0),
        Ok(_) | Err(_) => (there, left - there as u64),
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    let only_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    only_digits.then(|| str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    u64::from_str_radix(str::from_utf8(line.get(..end)?).ok()?, 16).ok()
}

/// Bytes kept of a line that comes in parts: the longest name that matters, and a number.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a NUL was put, fed whole; fed byte by byte it must be the same place.
    fn spoiled(text: &str) -> Option<usize> {
        let mut whole = text.as_bytes().to_vec();
        Framing::default().look(&mut whole);
        let mut framing = Framing::default();
        let mut single = text.as_bytes().to_vec();
        for byte in &mut single {
            framing.look(std::slice::from_mut(byte));
        }
        let place = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0);
        assert_eq!(place(&whole), place(&single), "{text:?}");
        place(&whole)
    }

    #[test]
    fn plain_requests_pass() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\na\nb\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\nb\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n\n\r\n0\r\nT: v\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert_eq!(spoiled(text), None, "{text:?}");
        }
    }

    #[test]
    fn ambiguous_heads_are_spoiled_at_the_line_that_makes_them_so() {
        for before in [
            "GET / HTTP/1.1",
            "GET / HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "P / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r",
            "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 1\r",
            "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTRANSFER-ENCODING: chunked\r",
            "P / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r",
            "P / HTTP/1.1\r\nContent-Length: 1, 1\r",
            "P / HTTP/1.1\r\nContent-Length: +1\r",
            "P / HTTP/1.1\r\nContent-Length:\r",
            "P / HTTP/1.1\r\nContent-Length: 99999999999999999999\r",
            "P / HTTP/1.1\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.1",
            "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: v",
            "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET / HTTP/1.1",
        ] {
            let text = format!("{before}\nHost: a\r\n\r\n");
            assert_eq!(spoiled(&text), Some(before.len()), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let text = "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET / HTTP/1.1\n\n";
        assert_eq!(spoiled(text), None);
    }

    #[test]
    fn long_lines_take_little_room() {
        let mut framing = Framing::default();
        for _ in 0..1000 {
            framing.look(&mut b"x".repeat(100));
        }
        assert!(framing.line.start.len() <= KEPT);
    }
}
