//! The egressd daemon and command line.

mod admin;
mod check;
mod cleanup;
mod cli;
mod config;
mod exit;
mod explain;
mod logging;
mod manual;
mod memory;
mod metrics;
mod offline;
mod resources;
mod run;
mod settings;
mod show;
mod status;
mod store;
mod telemetry;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format);
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Config(args) => show::show(&args),
        Command::Status(args) => status::status(&args),
        Command::Metrics(args) => status::metrics(&args),
        Command::Cleanup(args) => cleanup::cleanup(&args),
    }
    .into()
}
