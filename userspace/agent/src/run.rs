//! `egressd run`: the daemon from start to end.

use crate::{cli, exit::Exit};

/// Runs until told to stop.
pub(crate) fn run(_args: &cli::Run) -> Exit {
    Exit::Impossible
}
