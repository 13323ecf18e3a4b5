//! Writes the archive a kernel unpacks as its first file system: cpio in the `newc` format.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::cmd;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    /// Paths that are in it, without a leading slash.
    seen: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// Adds an empty directory, and those above it.
    pub(crate) fn directory(&mut self, path: &str) {
        let path = Path::new(path.trim_start_matches('/'));
        for above in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if above != Path::new("") && self.seen.insert(above.to_owned()) {
                self.entry(&above.to_string_lossy(), DIRECTORY, &[]);
            }
        }
    }

    /// Adds a text file.
    pub(crate) fn text(&mut self, path: &str, text: &str) {
        self.add(path, FILE, text.as_bytes());
    }

    /// Adds a script or program with the given bytes.
    pub(crate) fn script(&mut self, path: &str, text: &str) {
        self.add(path, PROGRAM, text.as_bytes());
    }

    /// Adds a program of the host as `path`, with the shared objects it is linked to.
    pub(crate) fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        let read =
            |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        self.add(path, PROGRAM, &read(source)?);
        for object in shared_objects(source)? {
            self.add(&object.to_string_lossy(), PROGRAM, &read(&object)?);
        }
        Ok(())
    }

    /// The archive's bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        let name = path.trim_start_matches('/');
        if let Some(above) = Path::new(name).parent() {
            self.directory(&above.to_string_lossy());
        }
        if self.seen.insert(PathBuf::from(name)) {
            self.entry(name, mode, content);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        // Inode numbers only have to differ: equal ones would be hard links.
        let inode = self.seen.len();
        let fields = [
            inode,
            mode as usize,
            0, // uid
            0, // gid
            1, // links
            0, // mtime: equal input gives equal bytes
            content.len(),
            0, // device, major
            0, // device, minor
            0, // special file, major
            0, // special file, minor
            name.len() + 1,
            0, // checksum, not used by this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Header with name, and content, each end at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// What `ldd` lists, the loader included; nothing for a static program.
fn shared_objects(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start `ldd`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.lines().filter_map(|line| {
        line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from)
    });
    let objects: Vec<_> = words.collect();
    let is_static = text.contains("statically linked") || !output.status.success();
    if objects.is_empty() && !is_static {
        anyhow::bail!("`{}` printed no path:\n{text}", cmd::line(Command::new("ldd").arg(program)));
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_ends_at_a_multiple_of_four() {
        let mut archive = Initramfs::default();
        archive.text("/etc/some/name", "odd");
        archive.script("/init", "#!/bin/sh\n");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let names: Vec<_> = text.matches("070701").collect();
        // etc, etc/some, etc/some/name, init, trailer.
        assert_eq!(names.len(), 5);
    }
}
