//! A cgroup that lives as long as its guard.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{mounts::cgroup2_root, wait::until};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A cgroup below the cgroup2 root, or below another guard's.
///
/// When it is dropped, what still runs in it or below is killed by pid and its folders are removed.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A new one below the root, with a name that no other test has.
    #[expect(clippy::new_without_default, reason = "making a cgroup is no default")]
    pub fn new() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("egressd-test-{}-{count}", std::process::id());
        Self::make(cgroup2_root().join(name))
    }

    /// A new one inside this one.
    pub fn child(&self, name: &str) -> Self {
        Self::make(self.path.join(name))
    }

    fn make(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the cgroups inside.
    pub fn children(&self) -> Vec<String> {
        let names = folders(&self.path)
            .into_iter()
            .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        names.collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        kill_all(&self.path);
        // A killed process leaves its cgroup a moment after the signal.
        until("an empty cgroup to be removed", || remove(&self.path).ok());
    }
}

fn kill_all(path: &Path) {
    for inside in folders(path) {
        kill_all(&inside);
    }
    let pids = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()) {
        // It may end by itself in between.
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    for inside in folders(path) {
        remove(&inside)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
