//! The access log: one line for every record, written by one thread of its own.
//!
//! Workers put finished lines into a bounded buffer and go on; they wait for nothing. What does not
//! fit is counted, and the count is told: in [`AccessLog::lost`] and by a warning. A line is written
//! at once after a quiet time, and within [`GATHER`] while lines keep coming, so that a busy proxy
//! does not wake a thread for each connection.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::record::{FlowRecord, Records, Template, write_json, write_text};

/// How lines look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Istio's default text format.
    #[default]
    Text,
    /// Istio's JSON format.
    Json,
    /// Text in a format of the user's own.
    Custom(Template),
}

/// Writes records as lines. Dropped, it writes what is left, for [`CLOSING`] at most.
#[derive(Debug)]
pub struct AccessLog {
    encoding: Encoding,
    shared: Arc<Shared>,
}

/// The access log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("opening the access log {path}")]
pub struct AccessLogError {
    /// The path as configured.
    pub path: PathBuf,
    /// The system's reason.
    #[source]
    pub source: io::Error,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something for the writer: lines while it sleeps, a request to reopen, the end.
    work: Condvar,
    /// The writer has ended.
    ended: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines lost since the last warning.
    missed: u64,
    /// The writer waits to be woken for lines.
    asleep: bool,
    reopen: bool,
    closing: bool,
    ended: bool,
}

impl AccessLog {
    /// Opens the log, for appending, and starts its writer. `/dev/stdout` and `/dev/stderr` are the
    /// process's own, whatever they are connected to.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not be started.
    pub fn open(path: &Path, encoding: Encoding) -> Result<Self, AccessLogError> {
        let failed = |source| AccessLogError { path: path.to_owned(), source };
        let sink = Sink::open(path).map_err(failed)?;
        let shared = Arc::new(Shared::default());
        let writer = Writer { path: path.to_owned(), sink, shared: Arc::clone(&shared) };
        thread::Builder::new()
            .name("egressd-log".to_owned())
            .spawn(move || writer.run())
            .map_err(failed)?;
        Ok(Self { encoding, shared })
    }

    /// Opens the file anew, after it was moved away: what is recorded from here on goes to the new
    /// one.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.work.notify_one();
    }

    /// Lines lost so far: the writer was behind, or writing failed.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Records for AccessLog {
    fn record(&self, record: &FlowRecord) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            match &self.encoding {
                Encoding::Text => write_text(line, record),
                Encoding::Json => write_json(line, record),
                Encoding::Custom(template) => template.write(line, record),
            }
            self.shared.push(line);
        });
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closing = true;
        self.shared.work.notify_one();
        // Whoever reads the log may have stopped reading; that must not keep us.
        let ended = self.shared.ended.wait_timeout_while(queue, CLOSING, |queue| !queue.ended);
        drop(ended);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.lines.len() + line.len() > CAPACITY {
            queue.missed += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.lines.extend_from_slice(line);
        if queue.asleep {
            queue.asleep = false;
            drop(queue);
            self.work.notify_one();
        }
    }
}

struct Writer {
    path: PathBuf,
    sink: Sink,
    shared: Arc<Shared>,
}

enum Sink {
    Stdout,
    Stderr,
    File(File),
}

/// What the writer found to do.
struct Work {
    missed: u64,
    reopen: bool,
    closing: bool,
}

impl Writer {
    fn run(mut self) {
        let mut lines = Vec::new();
        loop {
            let work = self.shared.wait(&mut lines);
            if work.missed > 0 {
                tracing::warn!(lines = work.missed, "access lines were lost: the log is too slow");
            }
            // Lines recorded before the request to reopen belong to the old file.
            self.write(&lines);
            lines.clear();
            if work.reopen {
                self.reopen();
            }
            if work.closing {
                break;
            }
        }
        self.shared.lock().ended = true;
        self.shared.ended.notify_all();
    }

    fn write(&mut self, lines: &[u8]) {
        if let Err(error) = self.sink.write_all(lines) {
            let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            let before = self.shared.lost.fetch_add(lost, Ordering::Relaxed);
            if before == 0 {
                tracing::warn!(path = %self.path.display(), %error, "the access log cannot be written");
            }
        }
    }

    fn reopen(&mut self) {
        match Sink::open(&self.path) {
            Ok(sink) => self.sink = sink,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the access log stays with its old file");
            }
        }
    }
}

impl Shared {
    /// Waits for work and takes the lines, leaving `lines` as the buffer for the next ones.
    fn wait(&self, lines: &mut Vec<u8>) -> Work {
        let mut queue = self.lock();
        let mut quiet = Duration::ZERO;
        while queue.lines.is_empty() && !queue.reopen && !queue.closing {
            queue.asleep = quiet >= ALERT;
            queue = if queue.asleep {
                self.work.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                quiet += GATHER;
                let waited = self.work.wait_timeout(queue, GATHER);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
        queue.asleep = false;
        std::mem::swap(&mut queue.lines, lines);
        if queue.lines.capacity() > KEPT {
            queue.lines = Vec::new();
        }
        Work {
            missed: std::mem::take(&mut queue.missed),
            reopen: std::mem::take(&mut queue.reopen),
            closing: queue.closing,
        }
    }
}

impl Sink {
    fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("/dev/stdout") {
            return Ok(Self::Stdout);
        }
        if path == Path::new("/dev/stderr") {
            return Ok(Self::Stderr);
        }
        Ok(Self::File(OpenOptions::new().create(true).append(true).open(path)?))
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(lines),
            Self::Stderr => io::stderr().lock().write_all(lines),
            Self::File(file) => file.write_all(lines),
        }
    }
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes of lines that may wait to be written; about 4,000 lines.
const CAPACITY: usize = 1024 * 1024;
/// Bytes of an empty buffer that are kept for the next lines.
const KEPT: usize = 64 * 1024;
/// How long lines are gathered while they keep coming.
pub const GATHER: Duration = Duration::from_millis(20);
/// How long after the last line the writer goes on looking by itself before it sleeps until woken.
const ALERT: Duration = Duration::from_secs(1);
/// How long the end waits for the last lines to be written.
pub const CLOSING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::{
        addrs::OriginalDst,
        original::Original,
        record::{FlowRecord, Outcome},
    };

    fn record(port: u16) -> FlowRecord {
        let destination = OriginalDst(([10, 0, 0, 1], port).into());
        FlowRecord {
            outcome: Outcome::Completed,
            ..FlowRecord::new(UNIX_EPOCH, Original::new(destination))
        }
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let start = SystemTime::now();
        while !condition() {
            assert!(start.elapsed().unwrap() < Duration::from_secs(20), "no {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn every_line_is_written_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::open(&path, Encoding::Text).unwrap();
        log.record(&record(1));
        until("first line", || lines(&path).len() == 1);
        for port in 2..=1000 {
            log.record(&record(port));
        }
        drop(log);
        let lines = lines(&path);
        assert_eq!(lines.len(), 1000);
        for (at, line) in lines.iter().enumerate() {
            assert!(line.contains(&format!(" 10.0.0.1:{} ", at + 1)), "{line}");
        }
    }

    #[test]
    fn a_moved_file_is_left_alone_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let log = AccessLog::open(&path, Encoding::Json).unwrap();
        log.record(&record(1));
        until("first line", || lines(&path).len() == 1);
        std::fs::rename(&path, &moved).unwrap();
        log.record(&record(2));
        log.reopen();
        until("new file", || path.exists());
        log.record(&record(3));
        drop(log);
        assert_eq!(lines(&moved).len(), 2);
        assert_eq!(lines(&path).len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let shared = Shared::default();
        let line = [b'x'; 1024];
        for _ in 0..CAPACITY / line.len() {
            shared.push(&line);
        }
        assert_eq!(shared.lost.load(Ordering::Relaxed), 0);
        shared.push(b"one more\n");
        assert_eq!(shared.lost.load(Ordering::Relaxed), 1);
        let mut taken = Vec::new();
        assert_eq!(shared.wait(&mut taken).missed, 1);
        assert_eq!(taken.len(), CAPACITY);
    }

    #[test]
    fn a_path_that_cannot_be_is_an_error() {
        let error = AccessLog::open(Path::new("/nonexistent/log"), Encoding::Text).unwrap_err();
        assert_eq!(error.to_string(), "opening the access log /nonexistent/log");
    }
}
