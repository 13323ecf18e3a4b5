//! The egressd daemon and command line.

mod admin;
mod cli;
mod config;
mod exit;
mod logging;
mod manual;
mod resources;
mod run;
mod status;
mod store;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.log_format);
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::status(&args),
    }
    .into()
}
