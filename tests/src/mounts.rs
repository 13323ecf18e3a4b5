//! Finds the cgroup2 hierarchy by its type: its place differs between hosts.

use std::{fs, path::PathBuf};

/// The mount point of the cgroup2 file system.
pub fn cgroup2_root() -> PathBuf {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    find_cgroup2(&text).expect("a cgroup2 file system is mounted")
}

/// In a line of mountinfo the mount point is the fifth word and the type follows the lone dash.
fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        right.starts_with("cgroup2 ").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_beside_version_1() {
        let text = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    }
}
