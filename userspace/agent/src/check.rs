//! `egressd check`: what Istio would say of every document, and what resources do not mean together.
//!
//! A document's verdict is its own. Findings across resources stand beside it and never change it.

mod documents;
mod input;
mod json;
mod render;

use std::{io, path::PathBuf};

use crate::{cli::Output, exit::Exit};

use input::Input;
pub(crate) use render::errors_for_people;

/// `egressd check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A directory with an egressd.yaml stands for that configuration: its resources are looked at as its node sees them. \
Otherwise the node is of the namespace `default`, answers names and allocates virtual addresses.

With --output json there is one object for each document, one a line: path, line, kind, namespace, name, verdict \
(accept, warn or reject) and diagnostics.

Exit status: 0 everything is accepted, 1 something is rejected, 2 something cannot be read.")]
pub(crate) struct Args {
    /// How findings are printed: for people, with the place in the text; or as JSON.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// MeshConfig to use in place of that of egressd.yaml.
    #[arg(long, value_name = "FILE")]
    mesh: Option<PathBuf>,
    /// Files and directories with Istio's YAML; `-` is standard input.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Looks at files and prints what is found.
pub(crate) fn check(args: &Args) -> Exit {
    let mut input = Input::read(&args.paths, args.mesh.as_deref());
    let across = input.across_resources();
    let checked = documents::distribute(&input, &across);
    let out = &mut io::stdout().lock();
    let printed = match args.output {
        Output::Text => render::print(&checked, &input, out),
        Output::Json => json::print(&checked, out),
    };
    for failure in &input.failures {
        complain(failure);
    }
    match printed {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("writing what was found: {error}"));
            Exit::Impossible
        }
        Err(_) | Ok(()) if !input.failures.is_empty() => Exit::Usage,
        Err(_) | Ok(()) if checked.iter().any(documents::Checked::is_rejected) => Exit::Wrong,
        Err(_) | Ok(()) => Exit::Fine,
    }
}

#[expect(clippy::print_stderr, reason = "this is how a command complains")]
fn complain(what: &str) {
    eprintln!("egressd: {what}");
}
