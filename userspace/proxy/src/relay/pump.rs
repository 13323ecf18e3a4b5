//! One direction of a flow.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::pipe::{SpliceFlags, splice};

use super::{
    pipe::{Lent, PipePool},
    scratch,
};
use crate::socket::Stream;

/// Bytes from one stream to the other, and then the end.
#[derive(Debug)]
pub(super) struct Pump {
    carried: u64,
    held: Held,
    phase: Phase,
    /// Size of the next read.
    chunk: u32,
    /// Consecutive reads that came back full; while splicing, rounds that came back small.
    streak: u8,
    splicing: bool,
}

/// How a direction that has ended is told to the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By a shutdown: the other direction still runs.
    HalfClose,
    /// Not here: the stream is about to be closed.
    Close,
}

/// The side that broke off.
#[derive(Debug)]
pub(super) enum Broken {
    /// The one that is read.
    Source(io::Error),
    /// The one that is written.
    Sink(io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The source may send more.
    Open,
    /// The source has ended; what is held is still to be written.
    Ending,
    /// The sink has been told.
    Done,
}

/// Bytes taken from the source that the sink has not taken yet.
#[derive(Debug)]
enum Held {
    Nothing,
    Bytes { kept: Box<[u8]>, written: usize },
    Pipe(Lent),
}

impl Pump {
    pub(super) fn new() -> Self {
        Self {
            carried: 0,
            held: Held::Nothing,
            phase: Phase::Open,
            chunk: FIRST_READ,
            streak: 0,
            splicing: false,
        }
    }

    /// Bytes delivered to the sink.
    pub(super) fn carried(&self) -> u64 {
        self.carried
    }

    /// Whether the sink has been told that the source ended.
    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether the source is being read; if not, nobody would notice its reset.
    pub(super) fn is_reading(&self) -> bool {
        self.phase == Phase::Open && self.held.is_empty()
    }

    /// Gives up what the sink does not take any more.
    pub(super) fn abandon(&mut self) {
        self.held = Held::Nothing;
        self.phase = Phase::Done;
    }

    /// Carries bytes until the source has none, the sink takes none, or it is another flow's turn;
    /// ready when the source has ended and the sink knows.
    pub(super) fn poll_carry(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        pipes: &Arc<PipePool>,
        end: End,
    ) -> Poll<Result<(), Broken>> {
        let turn = self.carried + TURN;
        loop {
            ready!(self.poll_flush(cx, sink)).map_err(Broken::Sink)?;
            match self.phase {
                Phase::Open if self.carried >= turn => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Phase::Open => ready!(self.poll_take(cx, source, sink, pipes))?,
                Phase::Ending => {
                    if end == End::HalfClose {
                        sink.shutdown_write();
                    }
                    self.phase = Phase::Done;
                }
                Phase::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what is held.
    fn poll_flush(&mut self, cx: &mut Context<'_>, sink: &mut Stream) -> Poll<io::Result<()>> {
        loop {
            let sent = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes { kept, written } => {
                    let sent = ready!(sink.poll_send(cx, &kept[*written..]))?;
                    *written += sent;
                    sent
                }
                Held::Pipe(lent) if lent.held == 0 => return Poll::Ready(Ok(())),
                Held::Pipe(lent) => {
                    let sent = ready!(poll_drain(cx, lent, sink))?;
                    lent.held -= sent;
                    sent
                }
            };
            self.carried += sent as u64;
            if let Held::Bytes { kept, written } = &self.held
                && *written == kept.len()
            {
                self.held = Held::Nothing;
            }
        }
    }

    /// Takes bytes from the source once, and passes on what the sink takes.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        pipes: &Arc<PipePool>,
    ) -> Poll<Result<(), Broken>> {
        if self.splicing {
            if matches!(self.held, Held::Nothing)
                && let Some(lent) = pipes.lend()
            {
                self.held = Held::Pipe(lent);
            }
            if let Held::Pipe(lent) = &mut self.held {
                let Poll::Ready(taken) = poll_fill(cx, lent, source) else {
                    // A flow that waits lets others have the pipe.
                    self.held = Held::Nothing;
                    return Poll::Pending;
                };
                let taken = taken.map_err(Broken::Source)?;
                lent.held = taken;
                self.note_spliced(taken);
                return Poll::Ready(Ok(()));
            }
        }
        scratch::with(|buffer| self.poll_copy(cx, source, sink, buffer))
    }

    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Broken>> {
        let room = buffer.len().min(self.chunk as usize);
        let taken = ready!(source.poll_recv(cx, &mut buffer[..room])).map_err(Broken::Source)?;
        if taken == 0 {
            self.phase = Phase::Ending;
            return Poll::Ready(Ok(()));
        }
        let taken = &buffer[..taken];
        let sent = match sink.poll_send(cx, taken) {
            Poll::Ready(sent) => sent.map_err(Broken::Sink)?,
            Poll::Pending => 0,
        };
        self.carried += sent as u64;
        if sent < taken.len() {
            self.held = Held::Bytes { kept: taken[sent..].into(), written: 0 };
        }
        self.note_copied(taken.len(), sent);
        Poll::Ready(Ok(()))
    }

    /// Chooses the size and the manner of the next read after a copied one.
    fn note_copied(&mut self, taken: usize, sent: usize) {
        if taken < self.chunk as usize {
            self.streak = 0;
        } else if sent < taken {
            self.chunk = FIRST_READ;
        } else {
            self.chunk = (self.chunk * 2).min(scratch::SIZE as u32);
            self.streak = self.streak.saturating_add(1);
        }
        if self.carried >= BULK_AFTER && self.streak >= BULK_STREAK {
            self.splicing = true;
            self.streak = 0;
        }
    }

    /// Goes back to copying when rounds stay small: then a splice costs more than it saves.
    fn note_spliced(&mut self, taken: usize) {
        if taken == 0 {
            self.phase = Phase::Ending;
        } else if taken >= BULK_ROUND {
            self.streak = 0;
        } else {
            self.streak += 1;
            if self.streak >= SMALL_STREAK {
                self.splicing = false;
                self.streak = 0;
            }
        }
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Bytes { .. } => false,
            Self::Pipe(lent) => lent.held == 0,
        }
    }
}

/// Splices from the source into the empty pipe; 0 means that the source has ended.
fn poll_fill(cx: &mut Context<'_>, lent: &Lent, source: &mut Stream) -> Poll<io::Result<usize>> {
    let Some(pipe) = lent.pipe() else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
    source.poll_read_with(cx, |fd| {
        // A round that does not fill the pipe has not necessarily emptied the socket.
        Ok((splice(fd, None, &pipe.write, None, SPLICE_MOST, SPLICE_FLAGS)?, false))
    })
}

/// Splices from the pipe to the sink.
fn poll_drain(cx: &mut Context<'_>, lent: &Lent, sink: &mut Stream) -> Poll<io::Result<usize>> {
    let Some(pipe) = lent.pipe() else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
    sink.poll_write_with(cx, |fd| splice(&pipe.read, None, fd, None, lent.held, SPLICE_FLAGS))
}

/// Bytes of a direction's first read, and of the first after the sink was slow: that much may be
/// kept for a slow sink. Most requests are smaller.
pub(super) const FIRST_READ: u32 = 16 * 1024;
/// Bytes a direction carries before splice(2) is considered: below this, a flow is over before two
/// system calls a round pay.
pub(super) const BULK_AFTER: u64 = 1024 * 1024;
/// Full reads in a row that make a bulk flow: a chatty one reaches [`BULK_AFTER`] too, in time.
const BULK_STREAK: u8 = 4;
/// Bytes from which a spliced round counts as bulk.
const BULK_ROUND: usize = 16 * 1024;
/// Small rounds in a row that end splicing.
const SMALL_STREAK: u8 = 16;
/// Bytes a direction carries before other flows have their turn.
const TURN: u64 = 1024 * 1024;
/// Bytes asked of one splice(2): more than a pipe can hold.
const SPLICE_MOST: usize = 16 * 1024 * 1024;
const SPLICE_FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
