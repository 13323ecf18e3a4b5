//! Running the program, and finding what the tests need.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `egressd` with nothing on its standard input.
pub(crate) fn egressd(args: &[&str]) -> Run {
    run(command().args(args))
}

/// Runs `egressd` in a folder, so that paths in its output are short and the same everywhere.
pub(crate) fn egressd_in(folder: &Path, args: &[&str]) -> Run {
    run(command().current_dir(folder).args(args))
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressd"));
    command.stdin(Stdio::null()).env_remove("COLUMNS").env_remove("RUST_LOG");
    command
}

fn run(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// The folders in a folder, by name.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    all.sort();
    all
}
