//! Developer commands: `cargo xtask COMMAND`.
//!
//! One file per command. Every command first brings what it needs ([`setup`]), so that a machine
//! with rustup, apt and root needs nothing else. A command that cannot do all of its work fails; it
//! never skips a part and reports success.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod chaos;
mod cmd;
mod demo;
mod fuzz;
mod lint;
mod origin;
mod paths;
mod setup;
mod soak;
mod test;

/// Developer commands of egressd.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring what is missing: rust-src, bpf-linker, cargo-deny, Debian packages, kernels.
    Setup,
    /// Measure, side by side in one run; fails if a goal is missed.
    Bench(bench::Args),
    /// Show capture at work: services, a Unix socket, both policies; needs root.
    Demo,
    /// Look for inputs that break what must hold for any input.
    Fuzz(fuzz::Args),
    /// Formatting, clippy, rustdoc, dependencies' licences, crate edges, tidiness.
    Lint,
    /// Thousands of connections under one reload a second; needs root.
    Soak(soak::Args),
    /// Endpoints that fail and change, reloads and restarts, on the direct path: 10 minutes.
    Chaos(chaos::Args),
    /// Everything, or one tier of it.
    Test(test::Args),
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cmd::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    setup::bring_missing()?;
    match command {
        Command::Setup => {
            cmd::say("setup: complete");
            Ok(())
        }
        Command::Bench(args) => bench::run(&args),
        Command::Demo => demo::run(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Lint => lint::run(),
        Command::Soak(args) => soak::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Test(args) => test::run(&args),
    }
}
