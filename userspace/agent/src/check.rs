//! `egressd check`: what Istio would say of every document, and what resources do not mean together.

use std::path::PathBuf;

use crate::{cli::Output, exit::Exit};

/// `egressd check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Files and directories to look at.
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

/// Looks at files and prints what is found.
pub(crate) fn check(_args: &Args) -> Exit {
    Exit::Impossible
}
