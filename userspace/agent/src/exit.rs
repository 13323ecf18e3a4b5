//! Exit statuses, the same for every command.

use std::process::ExitCode;

/// What a command ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything is fine: 0.
    Fine,
    /// Something is wrong with what was given to look at: 1.
    Wrong,
    /// The command was used wrongly: 2, which clap gives by itself too.
    Usage,
    /// It cannot be done here: 3.
    Impossible,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Wrong => 1,
            Exit::Usage => 2,
            Exit::Impossible => 3,
        })
    }
}
