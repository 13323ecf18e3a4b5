//! `egressd cleanup`: removes what a daemon has left pinned in the kernel.

use std::path::PathBuf;

use crate::{cli, config::Config, exit::Exit};

/// Removes it, and says how much there was.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(crate) fn cleanup(args: &cli::Cleanup) -> Exit {
    let Some(pins) = directory(args) else {
        println!("nothing is pinned: capture.pinDirectory is empty");
        return Exit::Fine;
    };
    let at = pins.display();
    match egressd_datapath::cleanup(&pins) {
        Ok(0) => println!("nothing is pinned under {at}"),
        Ok(removed) => println!("removed {removed} pins under {at}"),
        Err(error) => {
            complain(&error);
            return Exit::Impossible;
        }
    }
    Exit::Fine
}

/// Where pins are. Without a file of the daemon's, or with a bad one, where they are by default: what
/// is left behind must not need a good configuration to go.
fn directory(args: &cli::Cleanup) -> Option<PathBuf> {
    let default = || Some(PathBuf::from(crate::config::PIN_DIRECTORY));
    args.pins.clone().or_else(|| match Config::load(&args.config.config) {
        Ok(config) => config.capture.pin_directory,
        Err(_) => default(),
    })
}

#[expect(clippy::print_stderr, reason = "this is how a command complains")]
fn complain(error: &egressd_datapath::Error) {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("egressd: {text}");
}
