//! The body of a request on its way to the upstream: counted, kept as far as a further try may need
//! it, and copied for mirrors.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};

use super::{
    headers::hop,
    settings::{APPLICATION_WINDOW, BUFFER_SIZE},
    unread::Holding,
    watch,
};

/// A body as it is given to an upstream connection.
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// What the application sends.
    Sent(Reader),
    /// A copy of what the application sends, for a mirror.
    Copy(Copied),
}

/// What the application sends, shared by the tries of one request. Only the newest reader gets it.
#[derive(Clone)]
pub(crate) struct Sending(Arc<Mutex<Source>>);

/// One try's view of what the application sends.
pub(crate) struct Reader {
    source: Sending,
    /// Which reader this is; an older one gets nothing more.
    number: u64,
    /// Pieces taken of those that are kept.
    at: usize,
    /// Bytes to come, if that is known.
    left: Option<u64>,
    ended: bool,
}

/// A mirror's view of what the application sends.
pub(crate) struct Copied {
    pieces: mpsc::Receiver<Option<Piece>>,
    behind: Arc<AtomicUsize>,
    ended: bool,
}

/// Where a mirror's copy goes.
struct Copying {
    pieces: mpsc::Sender<Option<Piece>>,
    /// Bytes that it has not taken.
    behind: Arc<AtomicUsize>,
}

/// Why a body is not sent to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The application broke off.
    Gone,
    /// What the application sent is not HTTP.
    Malformed,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    /// A copy that holds on to nothing but itself: a small piece is part of a large buffer.
    fn keep(&self) -> Self {
        match self {
            Self::Data(data) if data.len() < LARGE => Self::Data(Bytes::copy_from_slice(data)),
            Self::Data(_) | Self::Trailers(_) => self.clone(),
        }
    }
}

struct Source {
    incoming: Incoming,
    /// The newest reader.
    newest: u64,
    /// Pieces for a further try; all that have come, as long as `keeping`.
    kept: Vec<Piece>,
    /// Pieces of those that the newest reader has taken.
    taken: usize,
    room: usize,
    keeping: bool,
    ended: bool,
    broken: Option<Broken>,
    length: Option<u64>,
    received: Arc<AtomicU64>,
    /// Told at the end of the body.
    complete: Vec<oneshot::Sender<()>>,
    copies: Vec<Copying>,
    /// What the application has sent ahead.
    holding: Holding,
}

impl Sending {
    /// A body of which up to `room` bytes are kept; 0 for none. Its bytes are counted in `received`.
    /// What the upstream does not take counts in `holding`, and the task that this is called in ends if
    /// there is too much of that.
    pub(crate) fn new(
        incoming: Incoming,
        room: usize,
        received: Arc<AtomicU64>,
        holding: Holding,
    ) -> Self {
        let length = incoming.size_hint().exact();
        watch::sends(&holding);
        Self(Arc::new(Mutex::new(Source {
            incoming,
            newest: 0,
            kept: Vec::new(),
            taken: 0,
            room,
            keeping: true,
            ended: false,
            broken: None,
            length,
            received,
            complete: Vec::new(),
            copies: Vec::new(),
            holding,
        })))
    }

    /// The body from its start, for one more try. [`Sending::can_restart`] says whether it is whole.
    pub(crate) fn read(&self) -> Reader {
        let mut source = self.lock();
        source.newest += 1;
        source.taken = 0;
        let (number, left) = (source.newest, source.length);
        Reader { source: self.clone(), number, at: 0, left, ended: false }
    }

    /// Whether nothing has been forgotten of what has come.
    pub(crate) fn can_restart(&self) -> bool {
        let source = self.lock();
        source.keeping && source.broken.is_none()
    }

    /// There will be no further try.
    pub(crate) fn forget(&self) {
        let mut source = self.lock();
        source.room = 0;
        source.keeping = false;
        if source.taken >= source.kept.len() {
            source.kept = Vec::new();
        }
        // Otherwise the present reader has not taken all of it, and does away with it when it has.
    }

    /// Whether all of it has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.lock().ended
    }

    /// Why it will not come to its end, if so.
    pub(crate) fn broken(&self) -> Option<Broken> {
        self.lock().broken
    }

    /// Something that is told when the body has come to its end; nothing if it has.
    pub(crate) fn completion(&self) -> Option<oneshot::Receiver<()>> {
        let mut source = self.lock();
        if source.ended {
            return None;
        }
        let (tell, told) = oneshot::channel();
        // Those of tries that are over stay until then; there are as many as tries at most.
        source.complete.push(tell);
        Some(told)
    }

    /// A copy of everything from here on.
    pub(crate) fn copy(&self) -> Copied {
        let (sender, pieces) = mpsc::channel(COPIES_BEHIND);
        let behind = Arc::<AtomicUsize>::default();
        self.lock().copies.push(Copying { pieces: sender, behind: Arc::clone(&behind) });
        Copied { pieces, behind, ended: false }
    }

    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copying {
    /// Passes a piece on, unless too much waits already.
    fn give(&self, piece: &Piece, size: usize) -> bool {
        let before = self.behind.fetch_add(size, Ordering::Relaxed);
        (before == 0 || before + size <= BYTES_BEHIND)
            && self.pieces.try_send(Some(piece.clone())).is_ok()
    }
}

impl Source {
    /// The next piece from the application.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Broken>> {
        if let Some(broken) = self.broken {
            return Poll::Ready(Err(broken));
        }
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.count(&polled);
        let piece = match ready!(polled) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Piece::Data(data),
                Err(frame) => match frame.into_trailers() {
                    Ok(mut trailers) => {
                        hop::strip_trailers(&mut trailers);
                        Piece::Trailers(trailers)
                    }
                    Err(_unknown) => return Poll::Ready(Ok(Some(Piece::Data(Bytes::new())))),
                },
            },
            Some(Err(error)) => {
                let broken = Broken::of(&error);
                self.broken = Some(broken);
                self.copies.clear();
                return Poll::Ready(Err(broken));
            }
            None => {
                self.end();
                return Poll::Ready(Ok(None));
            }
        };
        self.note(&piece);
        if matches!(piece, Piece::Trailers(_)) || self.incoming.is_end_stream() {
            self.end();
        }
        Poll::Ready(Ok(Some(piece)))
    }

    /// The upstream asks for more when it has taken enough: until then, what may come ahead is ours to
    /// keep.
    fn count<E>(&self, polled: &Poll<Option<Result<Frame<Bytes>, E>>>) {
        if !matches!(polled, Poll::Ready(Some(Ok(_)))) || self.incoming.is_end_stream() {
            self.holding.let_go();
            return;
        }
        let left = self.incoming.size_hint().upper().unwrap_or(u64::MAX);
        self.holding.hold(MOST_AHEAD.min(left.saturating_add(BUFFER_SIZE as u64)), true);
    }

    fn note(&mut self, piece: &Piece) {
        let size = match piece {
            Piece::Data(data) => data.len(),
            Piece::Trailers(_) => 0,
        };
        self.received.fetch_add(size as u64, Ordering::Relaxed);
        if self.keeping {
            match self.room.checked_sub(size.max(SMALL)) {
                Some(room) => {
                    self.room = room;
                    self.kept.push(piece.keep());
                }
                None => {
                    self.keeping = false;
                    self.kept = Vec::new();
                }
            }
        }
        // A mirror that is too slow loses its copy rather than slow the request or fill memory.
        self.copies.retain(|copy| copy.give(piece, size));
    }

    fn end(&mut self) {
        self.ended = true;
        for copy in self.copies.drain(..) {
            // Without this last word the copy breaks off; then it was too slow anyway.
            copy.pieces.try_send(None).ok();
        }
        for tell in self.complete.drain(..) {
            // A try that is over does not care.
            tell.send(()).ok();
        }
    }
}

impl Reader {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Broken>> {
        let mut source = self.source.lock();
        if source.newest != self.number {
            return Poll::Ready(Err(Broken::Gone));
        }
        if let Some(piece) = source.kept.get(self.at).cloned() {
            self.at += 1;
            source.taken = self.at;
            if !source.keeping && self.at == source.kept.len() {
                source.kept = Vec::new();
                self.at = 0;
            }
            return Poll::Ready(Ok(Some(piece)));
        }
        let piece = ready!(source.poll_piece(cx))?;
        self.at = source.kept.len();
        source.taken = self.at;
        Poll::Ready(Ok(piece))
    }

    /// Whether nothing more is to be sent.
    fn is_at_end(&self) -> bool {
        let source = self.source.lock();
        source.newest == self.number && source.ended && self.at >= source.kept.len()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match self.get_mut() {
            Self::Empty => None,
            Self::Sent(reader) if reader.ended => None,
            Self::Sent(reader) => match ready!(reader.poll_piece(cx)) {
                Ok(piece) => {
                    if let (Some(Piece::Data(data)), Some(left)) = (&piece, &mut reader.left) {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    reader.ended = piece.is_none() || reader.is_at_end();
                    piece
                }
                Err(_broken) => return Poll::Ready(Some(Err(io::ErrorKind::Interrupted.into()))),
            },
            Self::Copy(copied) if copied.ended => None,
            Self::Copy(copied) => match ready!(copied.pieces.poll_recv(cx)) {
                Some(piece) => {
                    if let Some(Piece::Data(data)) = &piece {
                        copied.behind.fetch_sub(data.len(), Ordering::Relaxed);
                    }
                    copied.ended = piece.is_none();
                    piece
                }
                None => return Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into()))),
            },
        };
        Poll::Ready(piece.map(|piece| {
            Ok(match piece {
                Piece::Data(data) => Frame::data(data),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Sent(reader) => reader.ended || reader.is_at_end(),
            Self::Copy(copied) => copied.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Sent(Reader { left: Some(left), .. }) => SizeHint::with_exact(*left),
            Self::Sent(_) | Self::Copy(_) => SizeHint::default(),
        }
    }
}

impl Broken {
    fn of(error: &hyper::Error) -> Self {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput];
                return if kinds.contains(&error.kind()) { Self::Malformed } else { Self::Gone };
            }
            cause = error.source();
        }
        Self::Gone
    }
}

/// Bytes of a request that are held at most while an upstream takes nothing: what the application may send
/// ahead, and what hyper has from us and has not written.
const MOST_AHEAD: u64 = APPLICATION_WINDOW as u64 + 2 * BUFFER_SIZE as u64;
/// What a piece counts at least among those that are kept: it costs this much besides its bytes.
const SMALL: usize = 256;
/// Pieces of this size are kept with the buffer they came in.
const LARGE: usize = 4096;
/// Bytes that a mirror may be behind: a piece may be large.
const BYTES_BEHIND: usize = 256 * 1024;
/// Pieces that a mirror may be behind.
const COPIES_BEHIND: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_does_not_read_holds_little() {
        let (pieces, mut taken) = mpsc::channel(COPIES_BEHIND);
        let copying = Copying { pieces, behind: Arc::default() };
        let piece = Piece::Data(Bytes::from(vec![0; 100_000]));
        let given = (0..COPIES_BEHIND).take_while(|_| copying.give(&piece, 100_000)).count();
        assert_eq!(given, 2);
        let mut held = 0;
        while let Ok(Some(Piece::Data(data))) = taken.try_recv() {
            held += data.len();
        }
        assert!(held <= BYTES_BEHIND, "{held}");
    }
}
