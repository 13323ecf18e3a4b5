//! `egressd config`: the compiled configuration.

use crate::exit::Exit;

/// `egressd config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Shows.
pub(crate) fn show(_args: &Args) -> Exit {
    Exit::Impossible
}
