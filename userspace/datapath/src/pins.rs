//! What stays in the kernel when the daemon goes: files of a bpffs.
//!
//! Links, so that programs stay attached; the maps that hold connections, their counts and their records;
//! and the clusters and endpoints that those name. Everything else belongs to one daemon: its programs
//! keep what they need. The folder carries the layout's version. A daemon of another one begins afresh,
//! and removes the old folder when its own programs stand.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use egressd_abi::LAYOUT;
use nix::{
    fcntl::Flock,
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use crate::{error::Error, locks};

/// The maps that stay.
pub(crate) const MAPS: [&str; 13] = [
    "SOCKETS",
    "HANDOFFS",
    "DIRECT_SOCKETS",
    "DATAGRAMS",
    "CLUSTERS",
    "CLUSTER_NAMES",
    "VIEWS",
    "LEVELS",
    "ENDPOINT_ROWS",
    "ENDPOINTS",
    "FLOWS",
    "RECORDS",
    "COUNTS",
];
/// Names of links begin like this; those of maps do not.
const LINK: &str = "link_";

/// The folder of pins of this daemon. Dropping it removes everything, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    folder: PathBuf,
    /// Whether it goes with this daemon: what another one has left stays until this one's programs stand.
    own: bool,
    _lock: Flock<File>,
}

impl Pins {
    /// Opens or makes the folder. `None` where there is no bpffs: a warning says so.
    ///
    /// # Errors
    /// [`Error::PinsInUse`]: another daemon has it.
    pub(crate) fn open(root: &Path, cgroups: &[u64]) -> Result<Option<Self>, Error> {
        if !is_bpffs(root) {
            tracing::warn!(
                path = %root.display(),
                "no bpffs is mounted there (`mount -t bpf -o mode=0700 bpf /sys/fs/bpf`): nothing stays in the \
                 kernel when egressd ends, and direct connections are not counted from then on"
            );
            return Ok(None);
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(Error::io(format!("making {}", root.display())))?;
        let folder = root.join(format!("{LAYOUT:08x}-{}", number_of(cgroups)));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(Error::io(format!("making {}", folder.display())))?;
        if !(is_private(root) && is_private(&folder)) {
            tracing::warn!(
                path = %folder.display(),
                "not a directory of root's alone: nothing is pinned there; remove it, or set another \
                 capture.pinDirectory"
            );
            return Ok(None);
        }
        let lock = lock(&folder)?;
        let own = files(&folder).is_empty();
        Ok(Some(Self { root: root.to_owned(), folder, own, _lock: lock }))
    }

    /// Where a map is pinned.
    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where the link of a program to a cgroup is pinned.
    pub(crate) fn link(&self, program: &str, cgroup: u64) -> PathBuf {
        self.folder.join(format!("{LINK}{program}_{cgroup}"))
    }

    /// Keeps everything when the daemon ends.
    pub(crate) fn keep(&mut self) {
        self.own = false;
    }

    /// Says that everything goes with this daemon from now on.
    pub(crate) fn own(&mut self) {
        self.own = true;
    }

    /// Removes links of a daemon before this one that this one has no use for, and the folders of other
    /// layouts: to be done when what is attached stands.
    pub(crate) fn remove_others<'a>(&self, links: impl Iterator<Item = &'a Path>) {
        let links: Vec<&Path> = links.collect();
        for path in files(&self.folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(LINK) && !links.contains(&path.as_path()) {
                remove(&path);
            }
        }
        let cgroups = suffix(&self.folder);
        for folder in folders(&self.root) {
            if folder != self.folder && suffix(&folder) == cgroups {
                remove_folder(&folder);
            }
        }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.own {
            remove_folder(&self.folder);
            // Another one's folder may be in it.
            drop(fs::remove_dir(&self.root));
        }
    }
}

/// Removes everything that is pinned under a directory, so that its programs are detached; works when no
/// daemon runs. Gives the number of files.
///
/// # Errors
/// [`Error::PinsInUse`]: a daemon runs. What the file system says.
pub fn cleanup(root: &Path) -> Result<usize, Error> {
    if !is_bpffs(root) || !root.exists() {
        return Ok(0);
    }
    let mut removed = 0;
    for folder in folders(root) {
        let _lock = lock(&folder)?;
        removed += remove_folder(&folder);
    }
    // Something of somebody else's may be in it.
    drop(fs::remove_dir(root));
    Ok(removed)
}

/// The cgroups of a daemon, as a part of a name: daemons on different ones have nothing in common.
fn number_of(cgroups: &[u64]) -> String {
    let mix = |number: u64, cgroup: &u64| egressd_abi::mix(number ^ cgroup.wrapping_add(1));
    format!("{:08x}", cgroups.iter().fold(0, mix) as u32)
}

/// The part of a folder's name that tells its cgroups.
fn suffix(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?;
    name.split_once('-').map(|(_, cgroups)| cgroups.to_owned())
}

/// The folders that are ours by their names: eight digits, a dash, eight digits.
fn folders(root: &Path) -> Vec<PathBuf> {
    let is_number = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let parts = name.split_once('-');
        parts.is_some_and(|(layout, cgroups)| is_number(layout) && is_number(cgroups))
            && is_private(path)
    };
    files(root).into_iter().filter(is_ours).collect()
}

/// Whether this is a directory, and root's alone.
fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == 0 && found.mode() & 0o022 == 0)
}

/// Whether a file of a folder of ours is ours by its name.
fn is_pin(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(LINK) || MAPS.contains(&&*name)
}

/// Whether a directory is, or would be made, in a bpffs.
fn is_bpffs(root: &Path) -> bool {
    let existing = root.ancestors().find(|path| path.exists());
    existing
        .and_then(|path| statfs(path).ok())
        .is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// One daemon for each folder.
fn lock(root: &Path) -> Result<Flock<File>, Error> {
    let found = fs::metadata(root).map_err(Error::io(format!("looking at {}", root.display())))?;
    let name = format!("pins-{}-{}", found.dev(), found.ino());
    locks::lock(&name)?.ok_or_else(|| Error::PinsInUse { path: root.to_owned() })
}

/// Links first: nothing is counted in a map that goes.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort_by_key(|path| {
        !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LINK))
    });
    paths
}

fn remove_folder(folder: &Path) -> usize {
    let removed = files(folder).iter().filter(|path| is_pin(path) && remove(path)).count();
    if let Err(error) = fs::remove_dir(folder) {
        tracing::warn!(%error, path = %folder.display(), "a folder of pins could not be removed");
    }
    removed
}

fn remove(path: &Path) -> bool {
    match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "a pin could not be removed");
            false
        }
    }
}
