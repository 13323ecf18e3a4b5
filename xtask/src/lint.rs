//! `cargo xtask lint`: what can be said of the code without running it.
//!
//! Not here: security advisories. cargo-deny reads them from a database that is fetched over the
//! network at every run, and a lint must give the same answer twice. Run
//! `target/tools/bin/cargo-deny --config .deny.toml check advisories` by hand.

use anyhow::{Result, bail};

use crate::{cmd, paths};

mod edges;
mod tidy;

type Check = fn() -> Result<()>;

/// Checks and their names, from cheap to dear.
const CHECKS: [(&str, Check); 7] = [
    ("formatting", formatting),
    ("crate edges", edges::check),
    ("tidiness", tidy::check),
    ("licences, bans, sources", deny),
    ("clippy", clippy),
    ("clippy of the eBPF programs", ebpf_clippy),
    ("rustdoc", doc),
];

/// Runs every check, and names those that failed.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        cmd::say(&format!("lint: {name}"));
        if let Err(error) = check() {
            cmd::say(&format!("lint: {name}: FAILED: {error:#}"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint: {} of {} checks failed: {}", failed.len(), CHECKS.len(), failed.join("; "));
    }
    cmd::say(&format!("lint: ok. {} passed; 0 failed", CHECKS.len()));
    Ok(())
}

fn formatting() -> Result<()> {
    // The names are enough: `cargo fmt --all` mends them.
    cmd::exec(cmd::cargo().args(["fmt", "--all", "--check", "--", "--files-with-diff"]))
}

fn deny() -> Result<()> {
    let config = paths::root().join(".deny.toml");
    let mut deny = cmd::cargo();
    deny.args(["deny", "--log-level", "warn", "--config"]).arg(config);
    cmd::exec(deny.args(["check", "licenses", "bans", "sources"]))
}

fn clippy() -> Result<()> {
    let mut clippy = cmd::cargo();
    clippy.args(["clippy", "--quiet", "--workspace", "--exclude", "egressd-ebpf", "--all-targets"]);
    cmd::exec(clippy.args(["--", "--deny", "warnings"]))
}

/// Clippy for the BPF target, which has no prebuilt `core`; the flags are those of aya-build.
fn ebpf_clippy() -> Result<()> {
    let mut clippy = cmd::cargo();
    clippy.args(["clippy", "--quiet", "--package", "egressd-ebpf", "--release"]);
    clippy.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    clippy.args(["--", "--deny", "warnings"]);
    clippy.env("RUSTC_BOOTSTRAP", "1");
    clippy.env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
    cmd::exec(&mut clippy)
}

fn doc() -> Result<()> {
    let mut doc = cmd::cargo();
    doc.args(["doc", "--quiet", "--workspace", "--exclude", "egressd-ebpf", "--no-deps"]);
    cmd::exec(doc.arg("--document-private-items").env("RUSTDOCFLAGS", "--deny warnings"))
}
