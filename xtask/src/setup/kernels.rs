//! Debian's cloud kernels for `cargo xtask test kernels`.
//!
//! They are fetched with apt, for its signatures, but with a configuration and state of their own
//! under `target/kernels/apt`, so that the host's apt knows nothing of them and any Debian will do.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{cmd, paths, setup::bring};

/// A kernel that must load every program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    /// Version as people say it; the folder's name.
    pub(crate) version: &'static str,
    /// The meta package that names the newest image of this version.
    meta: &'static str,
}

/// The floor, and the newest long-term kernel that Debian builds for bookworm.
pub(crate) const KERNELS: [Kernel; 2] = [
    Kernel { version: "6.1", meta: "linux-image-cloud-amd64" },
    Kernel { version: "6.12", meta: "linux-image-6.12-cloud-amd64" },
];

const SOURCES: &str = "\
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security bookworm-security main
";

impl Kernel {
    /// The bootable image.
    pub(crate) fn image(&self) -> PathBuf {
        paths::kernels().join(self.version).join("vmlinuz")
    }
}

/// Fetches the images that are not there.
pub(crate) fn bring_missing() -> Result<()> {
    let missing: Vec<_> = KERNELS.iter().filter(|kernel| !kernel.image().is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = Apt::new(&paths::kernels().join("apt"))?;
    bring("list of Debian's kernels", &mut apt.command("apt-get", &["--quiet", "update"]))?;
    for kernel in missing {
        let package = apt.newest_image(kernel.meta)?;
        bring(&package, apt.command("apt-get", &["--quiet", "download"]).arg(&package))?;
        let result = unpack(kernel, &apt.root, &package);
        result.with_context(|| format!("cannot unpack {package}"))?;
    }
    fs::remove_dir_all(&apt.root).with_context(|| format!("cannot remove {}", apt.root.display()))
}

/// An apt that keeps everything below one folder.
struct Apt {
    root: PathBuf,
}

impl Apt {
    fn new(root: &Path) -> Result<Self> {
        let at = |path: &str| root.join(path).display().to_string();
        let config = format!(
            "Dir::Etc::SourceList \"{}\";\nDir::Etc::SourceParts \"{}\";\n\
             Dir::State::Lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\n\
             APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\n",
            at("sources.list"),
            at("sources.d"),
            at("lists"),
            at("status"),
            at("cache"),
        );
        let make = || -> std::io::Result<()> {
            for dir in ["lists/partial", "cache/archives/partial", "sources.d"] {
                fs::create_dir_all(root.join(dir))?;
            }
            fs::write(root.join("status"), "")?;
            fs::write(root.join("sources.list"), SOURCES)?;
            fs::write(root.join("apt.conf"), config)
        };
        make().with_context(|| format!("cannot prepare {}", root.display()))?;
        Ok(Self { root: root.to_owned() })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = cmd::command(program);
        command.args(arguments).current_dir(&self.root);
        command.env("APT_CONFIG", self.root.join("apt.conf"));
        command
    }

    fn newest_image(&self, meta: &str) -> Result<String> {
        let text = cmd::stdout(self.command("apt-cache", &["depends", meta]).env("LC_ALL", "C"))?;
        let mut depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        match depends.find(|name| name.starts_with("linux-image-")) {
            Some(name) => Ok(name.to_owned()),
            None => bail!("{meta} names no image; apt-cache said:\n{text}"),
        }
    }
}

fn unpack(kernel: &Kernel, folder: &Path, package: &str) -> Result<()> {
    let archive = only_file(folder, &format!("{package}_"))?;
    let tree = folder.join("tree");
    cmd::output(cmd::command("dpkg-deb").arg("--extract").arg(&archive).arg(&tree))?;
    let image = only_file(&tree.join("boot"), "vmlinuz-")?;
    let target = kernel.image();
    fs::create_dir_all(target.parent().unwrap_or(folder))?;
    fs::rename(image, target)?;
    fs::remove_dir_all(tree)?;
    fs::remove_file(archive)?;
    Ok(())
}

fn only_file(folder: &Path, prefix: &str) -> Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            return Ok(path);
        }
    }
    bail!("no file in {} begins with {prefix}", folder.display())
}
