//! `egressd explain`: what becomes of a connection or request, and why.

use crate::exit::Exit;

/// `egressd explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Explains.
pub(crate) fn explain(_args: &Args) -> Exit {
    Exit::Impossible
}
