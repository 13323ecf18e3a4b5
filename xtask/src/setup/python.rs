//! Servers and clients from PyPI, in an environment of their own.

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{cmd, paths, setup::bring};

/// What is installed, pinned; their own lists name the rest.
const WANTED: [(&str, &str); 7] = [
    ("grpcio", "1.85.1"),
    ("gunicorn", "27.0.1"),
    ("h2", "4.4.1"),
    ("httpbin", "0.10.4"),
    ("httpx", "0.28.1"),
    ("requests", "2.34.2"),
    ("websockets", "17.4"),
];

/// Makes the environment if something is missing in it.
pub(super) fn bring_missing() -> Result<()> {
    if WANTED.iter().all(|(name, version)| is_installed(name, version)) {
        return Ok(());
    }
    let python = folder().join("bin/python3");
    if !python.is_file() {
        let mut make = cmd::command("/usr/bin/python3");
        bring("an environment for Python", make.args(["-m", "venv"]).arg(folder()))?;
    }
    let mut install = cmd::command(&python.to_string_lossy());
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    bring(
        "what tests use of PyPI",
        install.args(WANTED.map(|(name, version)| format!("{name}=={version}"))),
    )
}

fn is_installed(name: &str, version: &str) -> bool {
    let Ok(pythons) = fs::read_dir(folder().join("lib")) else { return false };
    let record = format!("site-packages/{name}-{version}.dist-info");
    pythons.flatten().any(|python| python.path().join(&record).is_dir())
}

fn folder() -> PathBuf {
    paths::tools().join("python")
}
