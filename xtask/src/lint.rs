//! `cargo xtask lint`: what can be said of the code without running it.
//!
//! Not here: security advisories. cargo-deny reads them from a database that is fetched over the
//! network at every run, and a lint must give the same answer twice. Run
//! `target/tools/bin/cargo-deny --config .deny.toml check advisories` by hand.

use anyhow::Result;

use crate::{cmd, paths};

mod edges;
mod tidy;

/// Runs every check; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    step("formatting");
    cmd::exec(cmd::cargo().args(["fmt", "--all", "--check"]))?;
    step("crate edges");
    edges::check()?;
    step("tidiness");
    tidy::check()?;
    step("licences, bans, sources");
    deny()?;
    step("clippy");
    let mut clippy = cmd::cargo();
    clippy.args(["clippy", "--quiet", "--workspace", "--exclude", "egressd-ebpf", "--all-targets"]);
    cmd::exec(clippy.args(["--", "--deny", "warnings"]))?;
    step("clippy of the eBPF programs");
    cmd::exec(&mut ebpf_clippy())?;
    step("rustdoc");
    let mut doc = cmd::cargo();
    doc.args(["doc", "--quiet", "--workspace", "--exclude", "egressd-ebpf", "--no-deps"]);
    doc.arg("--document-private-items").env("RUSTDOCFLAGS", "--deny warnings");
    cmd::exec(&mut doc)?;
    cmd::say("lint: all checks passed");
    Ok(())
}

fn step(what: &str) {
    cmd::say(&format!("lint: {what}"));
}

fn deny() -> Result<()> {
    let config = paths::root().join(".deny.toml");
    let mut deny = cmd::cargo();
    deny.args(["deny", "--log-level", "warn", "--config"]).arg(config);
    deny.args(["check", "licenses", "bans", "sources"]);
    cmd::exec(&mut deny)
}

/// Clippy for the BPF target, which has no prebuilt `core`; the flags are those of aya-build.
fn ebpf_clippy() -> std::process::Command {
    let mut clippy = cmd::cargo();
    clippy.args(["clippy", "--quiet", "--package", "egressd-ebpf", "--release"]);
    clippy.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    clippy.args(["--", "--deny", "warnings"]);
    clippy.env("RUSTC_BOOTSTRAP", "1");
    clippy.env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
    clippy
}
