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
//!
//! `--record` puts what a run did into `tests/fuzz/RESULTS.md`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

use crate::{cmd, origin, paths};

/// Arguments of `cargo xtask fuzz`.
#[derive(Parser)]
pub(crate) struct Args {
    /// One target; all of them, one after the other, if there is none.
    target: Option<Target>,
    /// How long each target runs.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Put what the run did into `tests/fuzz/RESULTS.md`, in the place of what was there.
    #[arg(long)]
    record: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// Any bytes, read as resources.
    Yaml,
    /// Resources made from any bytes, compiled, and connections decided.
    Compile,
    /// Any packet, answered by the DNS server.
    Dns,
    /// Any bytes, as the first of a connection.
    Sniff,
}

/// Builds the targets and runs them; fails at the first input that breaks something.
pub(crate) fn run(args: &Args) -> Result<()> {
    cmd::exec(fuzz("build").args(BUILD))?;
    for target in Target::value_variants() {
        if args.target.is_none_or(|wanted| wanted.name() == target.name()) {
            let done = target.run(args.seconds)?;
            if args.record {
                target.record(&done)?;
            }
        }
    }
    Ok(())
}

/// Every target for half a minute: what a test run does.
///
/// A random search says something else each time, so what it finds is shown and kept for `cargo
/// xtask fuzz` to fail on, and does not fail a test run; the seeds, which unit tests read, do.
pub(crate) fn short() -> Result<()> {
    if let Err(error) = run(&Args { target: None, seconds: 30, record: false }) {
        cmd::say(&format!(
            "fuzz: FOUND SOMETHING, see above and below; not a test failure: {error:#}"
        ));
    }
    Ok(())
}

/// What a run did that found nothing.
#[derive(Debug, PartialEq)]
struct Done {
    /// Inputs that were tried.
    runs: u64,
    seconds: u64,
    /// Inputs that are kept, as each reaches something that the others do not.
    corpus: usize,
}

impl Done {
    /// Reads libFuzzer's last line: `Done 123 runs in 45 second(s)`.
    fn read(said: &str, corpus: usize) -> Option<Self> {
        let line = said.lines().rev().find_map(|line| line.strip_prefix("Done "))?;
        let (runs, rest) = line.split_once(" runs in ")?;
        let (seconds, _) = rest.split_once(' ')?;
        Some(Self { runs: runs.parse().ok()?, seconds: seconds.parse().ok()?, corpus })
    }
}

impl Target {
    fn run(self, seconds: u32) -> Result<Done> {
        let name = self.name();
        let (corpus, found) = (folder("corpus", name)?, folder("found", name)?);
        let mut fuzz = fuzz("run");
        // libFuzzer adds to the first folder and only reads the others.
        fuzz.args(BUILD).arg(name).arg(&corpus).args(self.seeds()).arg("--");
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
        let kept =
            fs::read_dir(&corpus).with_context(|| format!("reading {}", corpus.display()))?;
        Done::read(&said, kept.count())
            .with_context(|| format!("{name}: libFuzzer did not say what it did\n{}", tail(&said)))
    }

    /// Puts a run into the table of results, in the place of the one before.
    fn record(self, done: &Done) -> Result<()> {
        let path = paths::root().join(RESULTS);
        let old =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Done { runs, seconds, corpus } = done;
        let (name, date, commit) = (self.name(), origin::date()?, origin::commit()?);
        let row =
            format!("| {name} | {seconds} | {runs} | {corpus} | nothing | {date} | {commit} |");
        let first = format!("| {name} |");
        let mut lines: Vec<_> = old.lines().filter(|line| !line.starts_with(&first)).collect();
        lines.push(&row);
        fs::write(&path, lines.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Compile => "compile",
            Self::Dns => "dns",
            Self::Sniff => "sniff",
        }
    }

    /// Folders that a run begins with.
    fn seeds(self) -> Vec<PathBuf> {
        let own = paths::root().join("tests/fuzz/seeds").join(self.name());
        match self {
            Self::Yaml | Self::Compile => vec![own, paths::root().join("tests/data/seeds")],
            Self::Dns | Self::Sniff => vec![own],
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
/// Where runs are recorded, from the root.
const RESULTS: &str = "tests/fuzz/RESULTS.md";
/// Debug assertions and overflow checks stay on, as cargo-fuzz has them.
const BUILD: [&str; 4] = ["--sanitizer", "none", "--codegen-units", "16"];
/// Per input: 16 KiB, 10 seconds, and 1 GiB of memory for the process.
const LIMITS: [&str; 4] =
    ["-max_len=16384", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=0"];

#[cfg(test)]
mod tests {
    use super::Done;

    #[test]
    fn the_last_line_says_what_was_done() {
        let said = "#2 INITED cov: 7\nDone 8 runs in 1 second(s)\nDone 123 runs in 45 second(s)\n";
        assert_eq!(Done::read(said, 6), Some(Done { runs: 123, seconds: 45, corpus: 6 }));
        assert_eq!(Done::read("#2 INITED cov: 7\n", 6), None);
    }
}
