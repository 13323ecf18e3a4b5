//! Measures what resources cost: to read, to compile, to decide by, and to change.
//!
//! `cargo xtask bench tables` runs it, once for each measurement, so that each has a process of its
//! own and the peak of its memory is its own as well:
//!
//! ```text
//! egressd-bench-tables write FOLDER ENTRIES RULES
//! egressd-bench-tables cold|decide|change FOLDER
//! ```
//!
//! It prints a line `NAME VALUE` for each figure: nanoseconds of this thread's processor time, or
//! bytes. Nothing here starts a thread, so that is the time on one processor that has nothing else
//! to do, whatever this machine does beside.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};

mod calls;
mod clock;
mod measure;
mod node;
mod resources;

fn main() -> Result<()> {
    let mut words = env::args().skip(1);
    let mut next = |what: &str| words.next().with_context(|| format!("the {what} is missing"));
    let command = next("command")?;
    let folder = PathBuf::from(next("folder")?);
    let figures = match command.as_str() {
        "write" => {
            let entries = next("number of ServiceEntries")?.parse()?;
            resources::write(&folder, entries, next("number of VirtualServices")?.parse()?)?;
            Vec::new()
        }
        "cold" => measure::cold(&folder)?,
        "decide" => measure::decide(&folder)?,
        "change" => measure::change(&folder)?,
        _ => bail!("there is no command {command}"),
    };
    let mut out = io::stdout().lock();
    for (name, value) in figures {
        writeln!(out, "{name} {value}")?;
    }
    Ok(())
}
