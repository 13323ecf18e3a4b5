//! The daemon under test, as people run it: a binary, a config file, logs.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    access::AccessLine,
    cgroup::Cgroup,
    netns::Netns,
    process::{Finished, Running, Spawn},
    wait::until,
};

/// A daemon about to be started.
#[derive(Debug)]
pub struct DaemonBuilder<'a> {
    binary: PathBuf,
    netns: &'a Netns,
    inside: Option<&'a Cgroup>,
    attach: Vec<PathBuf>,
    config: String,
    resources: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    views: Vec<(PathBuf, String)>,
    own_state: bool,
    folder: TempDir,
}

impl<'a> DaemonBuilder<'a> {
    /// One in this namespace, with an empty configuration but for the access log's path.
    pub fn new(netns: &'a Netns) -> Self {
        let folder = TempDir::with_prefix("egressd-test-").expect("a temporary folder");
        let (binary, config) = (egressd(), String::new());
        Self {
            binary,
            netns,
            inside: None,
            attach: Vec::new(),
            config,
            resources: Vec::new(),
            environment: Vec::new(),
            views: Vec::new(),
            own_state: true,
            folder,
        }
    }

    /// Runs this binary instead of the one beside the tests.
    #[must_use]
    pub fn binary(self, path: &Path) -> Self {
        Self { binary: path.to_owned(), ..self }
    }

    /// Runs it inside this cgroup.
    #[must_use]
    pub fn inside(self, cgroup: &'a Cgroup) -> Self {
        Self { inside: Some(cgroup), ..self }
    }

    /// Captures this cgroup, besides those named before.
    #[must_use]
    pub fn attach(mut self, cgroup: &Cgroup) -> Self {
        self.attach.push(cgroup.path().to_owned());
        self
    }

    /// Captures this cgroup and no other.
    #[must_use]
    pub fn attach_only(mut self, cgroup: &Cgroup) -> Self {
        self.attach.clear();
        self.attach(cgroup)
    }

    /// Adds lines to `egressd.yaml`.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.config.push_str(yaml);
        self.config.push('\n');
        self
    }

    /// Adds a file of Istio YAML.
    #[must_use]
    pub fn resource(mut self, yaml: impl Into<String>) -> Self {
        self.resources.push(yaml.into());
        self
    }

    /// Trusts the authorities in this file instead of the system's.
    #[must_use]
    pub fn roots(mut self, file: PathBuf) -> Self {
        self.environment.push(("SSL_CERT_FILE".to_owned(), file));
        self
    }

    /// Leaves it to the configuration where its state is.
    #[must_use]
    pub fn state_of_config(self) -> Self {
        Self { own_state: false, ..self }
    }

    /// Tells it of a service manager that listens at this Unix socket.
    #[must_use]
    pub fn managed_at(mut self, socket: PathBuf) -> Self {
        self.environment.push(("NOTIFY_SOCKET".to_owned(), socket));
        self
    }

    /// Lets it see `path` in the place of `at`, as [`Spawn::sees`] does.
    #[must_use]
    pub fn sees(mut self, path: &Path, at: &str) -> Self {
        self.views.push((path.to_owned(), at.to_owned()));
        self
    }

    /// A folder that lives as long as the daemon, for sockets and files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it and waits until it says that it is ready.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let mut daemon = self.launch();
        daemon.process.wait_stderr("that it is ready", is_ready);
        daemon
    }

    /// Starts it where it is expected to end by itself, and waits for that.
    #[track_caller]
    pub fn start_to_fail(self) -> Finished {
        self.launch().process.wait()
    }

    fn launch(self) -> Daemon {
        let binary = self.binary.display();
        assert!(self.binary.is_file(), "{binary}: not there; run `cargo xtask test e2e`");
        let folder = self.folder.path();
        let access = folder.join("access.log");
        let config = format!("accessLog: {{path: {}}}\n{}", access.display(), self.config);
        write(&folder.join("egressd.yaml"), &config);
        fs::create_dir(folder.join("resources")).expect("a new folder");
        for (number, yaml) in self.resources.iter().enumerate() {
            write(&folder.join(format!("resources/{number}.yaml")), yaml);
        }
        let admin = folder.join("admin.sock");
        let mut spawn = Spawn::new([&self.binary]).arg("run").netns(self.netns);
        spawn = spawn.arg("--config").arg(folder);
        if self.own_state {
            spawn = spawn.arg("--state").arg(folder.join("state"));
        }
        spawn = spawn.arg("--admin").arg(&admin);
        for path in &self.attach {
            spawn = spawn.arg("--cgroup").arg(path);
        }
        for (path, at) in &self.views {
            spawn = spawn.sees(path, at);
        }
        if let Some(cgroup) = self.inside {
            spawn = spawn.cgroup(cgroup);
        }
        for (name, value) in &self.environment {
            spawn = spawn.env(name, value);
        }
        let level = env::var("RUST_LOG").unwrap_or_else(|_| "egressd=debug,info".to_owned());
        let process = spawn.env("RUST_LOG", level).env("NO_COLOR", "1").start();
        Daemon { binary: self.binary, process, access, admin, folder: self.folder }
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    process: Running,
    access: PathBuf,
    admin: PathBuf,
    folder: TempDir,
}

impl Daemon {
    /// Replaces the resource of this number, counted from 0, or adds it; an empty text leaves none.
    pub fn put(&self, number: usize, yaml: &str) {
        write(&self.folder.path().join(format!("resources/{number}.yaml")), yaml);
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The folder that holds its configuration, its sockets, and files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its own log so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Waits for a line of its own log.
    #[track_caller]
    pub fn wait_log(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        self.process.wait_stderr(what, is_it)
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// The access records written so far.
    pub fn records(&self) -> Vec<AccessLine> {
        let text = fs::read_to_string(&self.access).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(AccessLine::parse).collect()
    }

    /// Waits until there are `count` access records, and fails if there are more.
    #[track_caller]
    pub fn wait_records(&self, count: usize) -> Vec<AccessLine> {
        let records = until(&format!("{count} access records"), || {
            Some(self.records()).filter(|records| records.len() >= count)
        });
        assert_eq!(records.len(), count, "{records:#?}");
        records
    }

    /// Waits for the only access record.
    #[track_caller]
    pub fn wait_record(&self) -> AccessLine {
        self.wait_records(1).remove(0)
    }

    /// What `egressd status` says.
    #[track_caller]
    pub fn status(&self) -> Value {
        let spawn = Spawn::new([&self.binary]).arg("status").arg("--output").arg("json");
        let text = spawn.arg("--admin").arg(&self.admin).run().text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// A number of [`Daemon::status`], such as `/handoffs` or `/counters/captured`.
    #[track_caller]
    pub fn number(&self, pointer: &str) -> u64 {
        let status = self.status();
        let value = status.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number at {pointer} in {status:#}"))
    }

    /// Waits until a number of [`Daemon::status`] has a value.
    #[track_caller]
    pub fn wait_number(&self, pointer: &str, wanted: u64) {
        until(&format!("{pointer} to be {wanted}"), || {
            (self.number(pointer) == wanted).then_some(())
        });
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(self) -> Finished {
        self.process.wait()
    }

    /// Ends it as a service manager does, and fails the test unless it ends well.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait().expect_code(0)
    }
}

/// Whether a line of the log, text or JSON, has the message `ready`.
fn is_ready(line: &str) -> bool {
    line.contains("\"message\":\"ready\"") || line.split_whitespace().any(|word| word == "ready")
}

/// The binary under test: `EGRESSD_BIN`, or what cargo builds beside the tests.
pub fn egressd() -> PathBuf {
    env::var_os("EGRESSD_BIN").map_or_else(beside, PathBuf::from)
}

/// `target/PROFILE/egressd`, seen from `target/PROFILE/deps/e2e-HASH` or `target/PROFILE/xtask`.
fn beside() -> PathBuf {
    let test = env::current_exe().expect("the path of the test");
    let folder = test.parent().expect("a folder");
    let folder = if folder.ends_with("deps") { folder.parent().expect("a folder") } else { folder };
    folder.join("egressd")
}
