//! Other programs, inside a namespace and a cgroup, with their output kept.

use std::{
    ffi::{OsStr, OsString},
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cgroup::Cgroup,
    netns::Netns,
    wait::{WAIT, until},
};

/// Enters the cgroup named first, then becomes the program: it is inside before its first socket.
const ENTER: &str = "echo 0 > \"$0/cgroup.procs\" && exec \"$@\"";

/// Puts the file named first in the place of the second for this program, then becomes the program.
const MOUNT: &str = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";

/// A program about to be started.
#[derive(Debug)]
pub struct Spawn<'a> {
    words: Vec<OsString>,
    netns: Option<&'a Netns>,
    cgroup: Option<PathBuf>,
    /// What it sees in the place of what: a file or folder each.
    views: Vec<(PathBuf, PathBuf)>,
    environment: Vec<(OsString, OsString)>,
    input: Vec<u8>,
}

impl<'a> Spawn<'a> {
    /// A program and its arguments.
    pub fn new<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let (views, environment, input) = (Vec::new(), Vec::new(), Vec::new());
        Self { words, netns: None, cgroup: None, views, environment, input }
    }

    /// Starts it inside this namespace.
    #[must_use]
    pub fn netns(self, netns: &'a Netns) -> Self {
        Self { netns: Some(netns), ..self }
    }

    /// Starts it inside this cgroup.
    #[must_use]
    pub fn cgroup(self, cgroup: &Cgroup) -> Self {
        Self { cgroup: Some(cgroup.path().to_owned()), ..self }
    }

    /// Lets it see `path` in the place of `at`, which must be there: files such as
    /// `/etc/resolv.conf`, whose place is fixed. Others go on seeing what they saw.
    #[must_use]
    pub fn sees(mut self, path: &Path, at: &str) -> Self {
        self.views.push((path.to_owned(), at.into()));
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Gives it this on standard input; without it there is none.
    #[must_use]
    pub fn input(self, input: impl Into<Vec<u8>>) -> Self {
        Self { input: input.into(), ..self }
    }

    /// Starts it.
    #[track_caller]
    pub fn start(self) -> Running {
        let mut words = self.words.clone();
        for (path, at) in self.views.iter().rev() {
            let before = ["/bin/sh".as_ref(), "-c".as_ref(), MOUNT.as_ref(), path.as_os_str()];
            words.splice(0..0, before.into_iter().chain([at.as_os_str()]).map(OsStr::to_owned));
        }
        if !self.views.is_empty() {
            let alone = ["unshare", "--mount", "--propagation", "private"];
            words.splice(0..0, alone.map(OsString::from));
        }
        if let Some(path) = &self.cgroup {
            let before = ["/bin/sh".as_ref(), "-c".as_ref(), ENTER.as_ref(), path.as_os_str()];
            words.splice(0..0, before.into_iter().map(OsStr::to_owned));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.envs(self.environment).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut spawn = || command.spawn();
        let spawned = match self.netns {
            // The child gets the namespace of the thread that starts it.
            Some(netns) => netns.run(spawn),
            None => spawn(),
        };
        let name = self.words.join(OsStr::new(" ")).to_string_lossy().into_owned();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start `{name}`: {error}"));
        if let Some(mut stdin) = child.stdin.take() {
            let input = self.input;
            // A program that does not read all of it closes the pipe.
            thread::spawn(move || drop(stdin.write_all(&input)));
        }
        let stdout = Capture::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Capture::of(child.stderr.take().expect("stderr is a pipe"));
        Running { name, child, stdout, stderr, status: None }
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.start().wait()
    }
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdout: Capture,
    stderr: Capture,
    status: Option<ExitStatus>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to `{}`: {error}", self.name));
    }

    /// What it has printed so far, on both streams.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout.text(), self.stderr.text())
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.status = self.status.or(self.child.try_wait().expect("waiting for a child"));
        self.status.is_none()
    }

    /// Waits for a line of standard output.
    #[track_caller]
    pub fn wait_stdout(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        self.wait_line(true, what, is_it)
    }

    /// Waits for a line of standard error.
    #[track_caller]
    pub fn wait_stderr(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        self.wait_line(false, what, is_it)
    }

    #[track_caller]
    fn wait_line(&mut self, stdout: bool, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let capture = if stdout { &self.stdout } else { &self.stderr };
        match capture.wait_line(WAIT, is_it) {
            Some(line) => line,
            None => panic!("`{}` did not print {what}:\n{}", self.name, self.output()),
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let name = self.name.clone();
        until(&format!("the end of `{name}`"), || (!self.is_running()).then_some(()));
        let status = self.status.expect("it has ended");
        let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
        Finished { name, status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    name: String,
    status: ExitStatus,
    /// What it printed on standard output.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
}

impl Finished {
    /// Its exit code; 128 and the signal's number if a signal ended it, as shells say it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Fails the test unless it ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        let Self { name, status, stdout, stderr } = &self;
        assert!(self.code() == code, "`{name}`: {status}, not {code}\n{stdout}{stderr}");
        self
    }

    /// Its standard output without the last line's end; fails the test unless it succeeded.
    #[track_caller]
    pub fn text(self) -> String {
        self.expect_code(0).stdout.trim_end().to_owned()
    }
}

/// What comes out of a pipe, kept by a thread.
#[derive(Debug)]
struct Capture {
    shared: Arc<(Mutex<Kept>, Condvar)>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<String>,
    ended: bool,
}

impl Capture {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Kept::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = pipe.read_until(b'\n', &mut line).unwrap_or(0);
                let (kept, changed) = &*theirs;
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if read == 0 {
                    kept.ended = true;
                } else {
                    kept.lines.push(String::from_utf8_lossy(&line).into_owned());
                }
                changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Self { shared }
    }

    fn text(&self) -> String {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).lines.concat()
    }

    /// All of it. A grandchild may hold the pipe open: it is not waited for without end.
    fn finish(&self) -> String {
        self.wait_line(WAIT, |_| false);
        self.text()
    }

    fn wait_line(&self, limit: Duration, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + limit;
        let (kept, changed) = &*self.shared;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        loop {
            if let Some(line) = kept.lines[seen..].iter().find(|line| is_it(line)) {
                return Some(line.trim_end().to_owned());
            }
            seen = kept.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if kept.ended || left.is_zero() {
                return None;
            }
            (kept, _) = changed.wait_timeout(kept, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
