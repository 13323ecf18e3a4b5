//! Finding cgroups, and living in one of our own.
//!
//! The loop guard exempts a socket when it carries our mark *and* its maker is in our own leaf
//! cgroup: the mark alone can be set by any container with CAP_NET_ADMIN in its own namespace.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// The leaf that is made when we are not alone in our cgroup.
const LEAF: &str = "egressd.self";

/// Where cgroup2 is mounted, found by the type of the mount: `/sys/fs/cgroup` on most hosts,
/// `/sys/fs/cgroup/unified` on hybrid ones.
pub fn cgroup2_root() -> Result<PathBuf, Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map_err(Error::io("reading the mounts of this process"))?;
    find_cgroup2(&mounts).ok_or(Error::NoCgroup2)
}

/// Whether this process is in a cgroup namespace of its own, as in most containers: what it takes for
/// the root is then only its own part of the hierarchy. Unknown counts as no.
pub(crate) fn is_private_namespace() -> bool {
    fs::metadata("/proc/self/ns/cgroup").is_ok_and(|namespace| namespace.ino() != INITIAL)
}

/// The number of the namespace that the kernel starts with (PROC_CGROUP_INIT_INO in linux/proc_ns.h).
const INITIAL: u64 = 0xeffffffb;

fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_cgroup2 = after.split(' ').next() == Some("cgroup2");
        // A bind mount of a part of the hierarchy is not the root of it.
        (is_cgroup2 && root == "/").then(|| PathBuf::from(unescape(point)))
    })
}

/// mountinfo writes blanks and backslashes in octal.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('\\') {
        out.push_str(head);
        let code = tail.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push('\\');
                rest = tail;
            }
        }
    }
    out + rest
}

/// The configured cgroups without those that lie inside another one: a program attached to an
/// ancestor runs for them already, and twice is once too often.
pub(crate) fn nearest_ancestors(paths: &[PathBuf], root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut real = Vec::with_capacity(paths.len());
    for path in paths {
        let not_a_cgroup = || Error::NotACgroup { path: path.clone(), root: root.to_owned() };
        let found = path.canonicalize().map_err(|_missing| not_a_cgroup())?;
        if !found.starts_with(root) || !found.join("cgroup.procs").exists() {
            return Err(not_a_cgroup());
        }
        real.push(found);
    }
    real.sort();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in real {
        if !kept.iter().any(|ancestor| path.starts_with(ancestor)) {
            kept.push(path);
        }
    }
    Ok(kept)
}

/// The cgroup this process lives in while it runs; removed on drop if it was made for it.
#[derive(Debug)]
pub(crate) struct OwnCgroup {
    path: PathBuf,
    id: u64,
    made_in: Option<PathBuf>,
}

impl OwnCgroup {
    /// Stays where the process is if it is alone there, else makes and enters a leaf.
    pub(crate) fn enter(root: &Path) -> Result<Self, Error> {
        let here = current(root)?;
        let alone = processes(&here)?.iter().all(|pid| *pid == std::process::id());
        if alone && here != root {
            return Self::at(here, None);
        }
        let leaf = make_leaf(&here)?;
        move_self(&leaf)?;
        Self::at(leaf, Some(here))
    }

    fn at(path: PathBuf, made_in: Option<PathBuf>) -> Result<Self, Error> {
        // kernfs numbers its directories, and that number is what bpf_get_current_cgroup_id tells.
        let id =
            fs::metadata(&path).map_err(Error::io(format!("looking at {}", path.display())))?.ino();
        Ok(Self { path, id, made_in })
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its identifier, as eBPF programs see it.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        if let Some(back) = &self.made_in {
            let gone = move_self(back).is_ok() && fs::remove_dir(&self.path).is_ok();
            if !gone {
                tracing::warn!(path = %self.path.display(), "own cgroup could not be removed");
            }
        }
    }
}

fn current(root: &Path) -> Result<PathBuf, Error> {
    let text = fs::read_to_string("/proc/self/cgroup")
        .map_err(Error::io("reading the cgroup of this process"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).ok_or(Error::NoCgroup2)?;
    Ok(root.join(path.trim_start_matches('/')))
}

/// Makes a leaf nobody else lives in. One left behind by a killed daemon is used again.
fn make_leaf(here: &Path) -> Result<PathBuf, Error> {
    let own = format!("{LEAF}.{}", std::process::id());
    for name in [LEAF, own.as_str()] {
        let leaf = here.join(name);
        match fs::create_dir(&leaf) {
            Ok(()) => return Ok(leaf),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if processes(&leaf)?.is_empty() {
                    return Ok(leaf);
                }
            }
            Err(error) => {
                return Err(Error::io(format!("making the cgroup {}", leaf.display()))(error));
            }
        }
    }
    Err(Error::Io {
        what: format!("making the cgroup {}", here.join(own).display()),
        source: io::Error::from(io::ErrorKind::AlreadyExists),
    })
}

fn processes(cgroup: &Path) -> Result<Vec<u32>, Error> {
    let path = cgroup.join("cgroup.procs");
    let text =
        fs::read_to_string(&path).map_err(Error::io(format!("reading {}", path.display())))?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

fn move_self(to: &Path) -> Result<(), Error> {
    let path = to.join("cgroup.procs");
    fs::write(&path, std::process::id().to_string())
        .map_err(Error::io(format!("entering the cgroup {}", to.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_by_type_of_mount() {
        let hybrid = "\
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
30 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
31 25 0:28 /part /mnt/part rw shared:4 - cgroup2 cgroup2 rw
32 25 0:28 / /sys/fs/my\\040cgroup rw shared:5 - cgroup2 cgroup2 rw
";
        assert_eq!(find_cgroup2(hybrid), Some(PathBuf::from("/sys/fs/my cgroup")));
        assert_eq!(find_cgroup2("25 20 0:22 / /sys rw - sysfs sysfs rw\n"), None);
    }

    #[test]
    fn nested_cgroups_are_attached_once() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let make = |name: &str| {
            let path = root.join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
            path
        };
        let (a, ab, ac) = (make("a"), make("a/b"), make("ac"));
        let kept = nearest_ancestors(&[ab, ac.clone(), a.clone()], &root).unwrap();
        assert_eq!(kept, vec![a, ac]);
        let outside = nearest_ancestors(&[PathBuf::from("/")], &root);
        assert!(matches!(outside, Err(Error::NotACgroup { .. })));
    }
}
