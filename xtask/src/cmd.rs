//! Running other programs, and saying what they were.

use std::{
    env,
    ffi::OsString,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::paths;

/// Prints a line for the person who typed the command.
pub(crate) fn say(text: &str) {
    // A closed stdout (`cargo xtask lint | head`) is nobody's error.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// A program at the workspace's root, with the tools of [`crate::setup`] first in `PATH`.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(paths::root()).env("PATH", path_with_tools());
    command
}

/// `cargo` in the workspace, without the variables that `cargo run` set for this process: they
/// would make build scripts and rustup believe that they belong to the xtask crate.
pub(crate) fn cargo() -> Command {
    let mut cargo = command("cargo");
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        if ours || text == "CARGO_PRIMARY_PACKAGE" || text == "CARGO_CRATE_NAME" {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Runs to the end with output as it comes; a failure names the command line.
pub(crate) fn exec(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Runs to the end and gives its output; a failure names the command line and shows both streams.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}\n{}{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Standard output of [`output`] as text.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed what is not UTF-8", line(command)))
}

/// Builds a program with cargo and gives the path of the result, wherever the target folder is.
pub(crate) fn built_program(arguments: &[&str], name: &str) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--message-format", "json-render-diagnostics"]).args(arguments);
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", line(&cargo)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", line(&cargo), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter_map(|message| {
        let is_it = message["target"]["name"] == name;
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    programs.next().with_context(|| format!("`{}` built no {name}", line(&cargo)))
}

/// Builds the daemon, with arguments such as `--release`, and gives its path; `EGRESSD_BIN` names one
/// that exists.
pub(crate) fn daemon(arguments: &[&str]) -> Result<PathBuf> {
    if let Some(path) = env::var_os("EGRESSD_BIN") {
        return Ok(PathBuf::from(path));
    }
    let package = ["--package", "egressd", "--bin", "egressd"];
    built_program(&[&package, arguments].concat(), "egressd")
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

/// The file a program's name stands for in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&path_with_tools()).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn path_with_tools() -> OsString {
    let mut dirs = vec![paths::tools().join("bin")];
    dirs.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    // Debian keeps `ip`, `nft` and `nginx` where a plain user's PATH does not look.
    dirs.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    env::join_paths(dirs).unwrap_or_default()
}
