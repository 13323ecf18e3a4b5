//! Going before others: a benchmark in a session of its own.

use std::{env, process::Command};

use anyhow::{Context as _, Result};

use crate::cmd;

/// Set for the run in a session of its own.
const SESSION: &str = "EGRESSD_BENCH_SESSION";

/// Raises the priority as far as the kernel lets it, and becomes the program.
const GO_FIRST: &str = "renice -n -15 -p $$ >/dev/null; \
                        echo -15 2>/dev/null >/proc/self/autogroup; exec \"$0\" \"$@\"";

/// Whether this process goes before others already.
pub(super) fn has_priority() -> bool {
    env::var_os(SESSION).is_some()
}

/// Runs this command again in a session of its own that goes before others: where the kernel groups
/// processes by session, priority counts between sessions.
pub(super) fn again_with_priority() -> Result<()> {
    let program = env::current_exe().context("cannot tell what program this is")?;
    let mut again = Command::new("setsid");
    again.args(["--wait", "sh", "-c", GO_FIRST]).arg(program).args(env::args_os().skip(1));
    cmd::exec(again.env(SESSION, "1"))
}
