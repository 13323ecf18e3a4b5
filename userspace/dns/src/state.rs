//! Which virtual address stands for which host, kept over restarts (semantics.md §2).
//!
//! An address once given stays with its host. When a host goes, its address rests before anybody
//! else gets it: programs may still hold the answer that named it.

mod file;
mod memory;
mod plan;

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use egressd_tables::{VipAllocation, VipExhausted, VipRequest};

use self::file::{StateFile, Unusable};

/// The allocation of a node, and the file it is kept in.
#[derive(Debug)]
pub struct VipState {
    directory: PathBuf,
    ranges: Ranges,
    /// What is true.
    state: StateFile,
    /// What the file says; unlike `state` after a write has failed.
    saved: StateFile,
    /// Held as long as this lives: two daemons would give one address to two hosts.
    _lock: File,
}

/// The allocation of a node as it is kept, for commands that only look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipSnapshot {
    ranges: Ranges,
    state: StateFile,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges {
    v4: String,
    v6: String,
}

/// A file that could not be used and was put out of the way. The daemon starts without it: hosts get
/// new addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it was.
    pub path: PathBuf,
    /// Where it is.
    pub kept_as: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, kept_as, reason } = self;
        let (path, kept_as) = (path.display(), kept_as.display());
        write!(f, "{path} cannot be used and is kept as {kept_as}: {reason}; ")?;
        f.write_str("virtual addresses are given anew")
    }
}

/// The outcome of an allocation.
#[derive(Debug)]
pub struct Allocated {
    /// For [`egressd_tables::Tables::compile`].
    pub allocation: VipAllocation,
    /// Hosts that no address is left for: each is worth an error line, and resolves upstream.
    pub exhausted: Vec<VipExhausted>,
    /// Whether the file has it. If not, the allocation holds all the same until the daemon ends, and
    /// the next one tries to write again.
    pub saved: Result<(), VipStateError>,
}

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum VipStateError {
    /// The ranges make no sense.
    #[error(
        "virtual addresses cannot come from {v4} and {v6}: an IPv4 and an IPv6 block are needed"
    )]
    Ranges {
        /// The IPv4 range.
        v4: String,
        /// The IPv6 range.
        v6: String,
    },
    /// The directory cannot be made.
    #[error("making the state directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has the directory.
    #[error(
        "another egressd keeps its virtual addresses in {path}: set stateDirectory (or --state) \
             to a directory for each"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not ours, or damaged, and only looked at.
    #[error("{path} cannot be used: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that cannot be used cannot be put out of the way either.
    #[error("setting {path} aside")]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("writing {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How long a freed address rests: longer than any answer that names it is good.
pub const REST: Duration = Duration::from_hours(1);

const _: () = assert!(REST.as_secs() > crate::wire::TTL as u64);

impl VipState {
    /// Reads the state of a directory, which is made if it is not there. The ranges are
    /// [`egressd_tables::DEFAULT_V4`] and [`egressd_tables::DEFAULT_V6`] unless somebody wants others.
    ///
    /// # Errors
    /// Directory or file cannot be used for a reason that has nothing to do with what is in it.
    pub fn open(
        directory: &Path,
        range_v4: &str,
        range_v6: &str,
    ) -> Result<(Self, Option<SetAside>), VipStateError> {
        let ranges = Ranges { v4: range_v4.to_owned(), v6: range_v6.to_owned() };
        ranges.empty()?;
        std::fs::create_dir_all(directory)
            .map_err(|source| VipStateError::Directory { path: directory.to_owned(), source })?;
        let lock = lock(directory)?;
        let path = directory.join(file::NAME);
        let (state, aside) = match file::read(&path) {
            Ok(state) => (state.unwrap_or_default(), None),
            Err(Unusable::Unreadable(source)) => return Err(VipStateError::Read { path, source }),
            Err(Unusable::Wrong(reason)) => {
                let kept_as = file::set_aside(&path)
                    .map_err(|source| VipStateError::SetAside { path: path.clone(), source })?;
                (StateFile::default(), Some(SetAside { path, kept_as, reason }))
            }
        };
        let saved = state.clone();
        let directory = directory.to_owned();
        Ok((Self { directory, ranges, state, saved, _lock: lock }, aside))
    }

    /// Gives an address to every host that needs one, and writes the file if anything has changed.
    /// `requests` are those of [`egressd_tables::requests`], oldest first.
    pub fn allocate(&mut self, requests: &[VipRequest], now: SystemTime) -> Allocated {
        let (state, allocation, exhausted) = self.ranges.plan(&self.state, requests, now);
        self.state = state;
        Allocated { allocation, exhausted, saved: self.save() }
    }

    fn save(&mut self) -> Result<(), VipStateError> {
        if self.saved == self.state {
            return Ok(());
        }
        file::write(&self.directory, &self.state).map_err(|source| VipStateError::Write {
            path: self.directory.join(file::NAME),
            source,
        })?;
        self.saved = self.state.clone();
        Ok(())
    }
}

/// Makes a directory one daemon's alone. The lock goes with the process, however it ends.
fn lock(directory: &Path) -> Result<File, VipStateError> {
    let path = directory.join(LOCK);
    let refused = |source| VipStateError::Write { path: path.clone(), source };
    // Nobody else opens it: whoever can may lock it.
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(VipStateError::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(refused(source)),
    }
}

/// An empty file, for its lock.
const LOCK: &str = "vips.lock";

impl VipSnapshot {
    /// Reads the state of a directory; without one it is empty. Nothing is written, made or put out of
    /// the way.
    ///
    /// # Errors
    /// The file is there and cannot be read, or cannot be used: a daemon would set it aside.
    pub fn read(directory: &Path, range_v4: &str, range_v6: &str) -> Result<Self, VipStateError> {
        let ranges = Ranges { v4: range_v4.to_owned(), v6: range_v6.to_owned() };
        ranges.empty()?;
        let path = directory.join(file::NAME);
        match file::read(&path) {
            Ok(state) => Ok(Self { ranges, state: state.unwrap_or_default() }),
            Err(Unusable::Unreadable(source)) => Err(VipStateError::Read { path, source }),
            Err(Unusable::Wrong(reason)) => Err(VipStateError::Unusable { path, reason }),
        }
    }

    /// What [`VipState::allocate`] would give.
    pub fn preview(
        &self,
        requests: &[VipRequest],
        now: SystemTime,
    ) -> (VipAllocation, Vec<VipExhausted>) {
        let (_, allocation, exhausted) = self.ranges.plan(&self.state, requests, now);
        (allocation, exhausted)
    }
}

impl Ranges {
    /// What becomes of a state when these addresses are asked for.
    fn plan(
        &self,
        state: &StateFile,
        requests: &[VipRequest],
        now: SystemTime,
    ) -> (StateFile, VipAllocation, Vec<VipExhausted>) {
        // Checked when the state was read.
        let empty = self.empty().unwrap_or_default();
        plan::allocate(state, &empty, requests, now)
    }

    /// An allocation from these ranges that has given nothing yet.
    fn empty(&self) -> Result<VipAllocation, VipStateError> {
        VipAllocation::new(&self.v4, &self.v6)
            .ok_or_else(|| VipStateError::Ranges { v4: self.v4.clone(), v6: self.v6.clone() })
    }
}

#[cfg(test)]
mod tests;
