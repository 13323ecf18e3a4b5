//! `cargo xtask fuzz [TARGET]`: looks for inputs that break what must hold for any input, guided by
//! coverage (libFuzzer).
//!
//! Without a sanitizer: the code that is reached has no unsafe block of ours, and address checks
//! would halve the number of inputs that are tried. cargo-fuzz's options want a nightly compiler,
//! which `RUSTC_BOOTSTRAP` stands in for.
//!
//! What coverage has found stays in `target/fuzz/corpus` and is where the next run begins. An input
//! that breaks something is in `target/fuzz/found/TARGET`, with the command that repeats it on
//! stderr; commit it with the repair to `tests/fuzz/seeds/TARGET`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use crate::{cmd, paths};

/// Arguments of `cargo xtask fuzz`.
#[derive(Parser)]
pub(crate) struct Args {
    /// One target; all of them, one after the other, if there is none.
    target: Option<Target>,
    /// How long each target runs.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Any bytes, read as resources.
    Yaml,
    /// Resources made from any bytes, compiled, and connections decided.
    Compile,
    /// Any packet, answered by the DNS server.
    Dns,
}

/// Builds the targets and runs them; fails at the first input that breaks something.
pub(crate) fn run(args: &Args) -> Result<()> {
    cmd::exec(fuzz("build").args(BUILD))?;
    for target in Target::value_variants() {
        if args.target.is_none_or(|wanted| wanted.name() == target.name()) {
            target.run(args.seconds)?;
        }
    }
    Ok(())
}

/// Every target for half a minute: what a test run does.
///
/// A random search says something else each time, so what it finds is shown and kept for `cargo
/// xtask fuzz` to fail on, and does not fail a test run; the seeds, which unit tests read, do.
pub(crate) fn short() -> Result<()> {
    if let Err(error) = run(&Args { target: None, seconds: 30 }) {
        cmd::say(&format!(
            "fuzz: FOUND SOMETHING, see above and below; not a test failure: {error:#}"
        ));
    }
    Ok(())
}

impl Target {
    fn run(self, seconds: u32) -> Result<()> {
        let name = self.name();
        let (corpus, found) = (folder("corpus", name)?, folder("found", name)?);
        let mut fuzz = fuzz("run");
        // libFuzzer adds to the first folder and only reads the others.
        fuzz.args(BUILD).arg(name).arg(corpus).args(self.seeds()).arg("--");
        fuzz.args(LIMITS).arg(format!("-max_total_time={seconds}"));
        fuzz.arg(format!("-artifact_prefix={}/", found.display()));
        cmd::say(&format!("fuzz: {name} for {seconds} s"));
        let command = cmd::line(&fuzz);
        let output = fuzz.output().with_context(|| format!("cannot start `{command}`"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{name}: an input breaks it\n{}\nin {}", tail(&said), found.display());
        }
        let summary = said.lines().rfind(|line| line.contains("cov: "));
        cmd::say(&format!("fuzz: {name}: {}", summary.map_or("nothing found", str::trim)));
        Ok(())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Compile => "compile",
            Self::Dns => "dns",
        }
    }

    /// Folders that a run begins with.
    fn seeds(self) -> Vec<PathBuf> {
        let own = paths::root().join("tests/fuzz/seeds").join(self.name());
        match self {
            Self::Yaml | Self::Compile => vec![own, paths::root().join("tests/data/seeds")],
            Self::Dns => vec![own],
        }
    }
}

fn fuzz(verb: &str) -> Command {
    let mut cargo = cmd::cargo();
    cargo.args(["fuzz", verb, "--fuzz-dir", "tests/fuzz", "--features", "libfuzzer"]);
    cargo.arg("--target-dir").arg(paths::fuzz().join("build"));
    // Whole-program optimization takes minutes and finds nothing.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo
}

fn folder(what: &str, name: &str) -> Result<PathBuf> {
    let folder = paths::fuzz().join(what).join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The end of what libFuzzer said: the panic, the input, and the command that repeats it.
fn tail(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

const TAIL: usize = 40;
/// Debug assertions and overflow checks stay on, as cargo-fuzz has them.
const BUILD: [&str; 4] = ["--sanitizer", "none", "--codegen-units", "16"];
/// Per input: 16 KiB, 10 seconds, and 1 GiB of memory for the process.
const LIMITS: [&str; 4] =
    ["-max_len=16384", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=0"];
