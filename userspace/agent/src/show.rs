//! `egressd config`: the compiled configuration, in the columns of `istioctl proxy-config`.

mod clusters;
mod endpoints;
mod filter;
mod listeners;
mod programs;
mod routes;
mod running;
mod table;
mod vips;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    cli::Output,
    exit::Exit,
    offline::{self, Compiled},
};

use filter::Filter;
use table::Table;

/// `egressd config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Compiles the configuration as `egressd run` would and prints a part of it. Filters that a part has no column for do \
not count there.

Examples:
  egressd config clusters --fqdn api.example.com
  egressd config endpoints --port 443 --output json
  egressd config routes --name 80
  egressd config vips --admin
  egressd config programs --measure 10

Exit status: 0 printed, 1 the configuration is rejected, 2 wrong usage, 3 no daemon answers.")]
pub(crate) struct Args {
    /// What is shown.
    #[arg(value_enum)]
    part: Part,
    #[command(flatten)]
    offline: offline::Args,
    #[command(flatten)]
    filter: Filter,
    /// Show the hosts and addresses that a running daemon has put into the kernel, for `vips`. Asks
    /// at its administration socket, and compiles nothing.
    #[arg(
        long, value_name = "PATH", num_args = 0..=1, conflicts_with = "configuration",
        default_missing_value = "/run/egressd/admin.sock"
    )]
    admin: Option<PathBuf>,
    /// How long the programs are measured, in seconds, for `programs`: what they do in that time is
    /// shown. 0 shows what was measured since they were loaded, if kernel.bpf_stats_enabled is set.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    measure: u64,
    /// How it is printed: as columns for people; or as JSON, one array.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// A part of the compiled configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The rule sets that connections meet, and their filter chains.
    Listeners,
    /// The pools of endpoints, with everything that governs connections to them.
    Clusters,
    /// The places behind the clusters, before names are resolved.
    Endpoints,
    /// The route tables of HTTP, with their virtual hosts and rules.
    Routes,
    /// The addresses that stand for hosts: written, and allocated.
    Vips,
    /// The programs in the kernel of a running daemon: how often they ran and for how long.
    Programs,
    /// Everything, as JSON.
    Dump,
}

/// Shows a part.
pub(crate) fn show(args: &Args) -> Exit {
    if args.part == Part::Programs {
        let default = PathBuf::from("/run/egressd/admin.sock");
        let socket = args.admin.as_ref().unwrap_or(&default);
        return programs::show(socket, args.measure, args.output);
    }
    if let Some(socket) = &args.admin {
        return match args.part {
            Part::Vips => running::vips(socket, &args.filter, args.output),
            Part::Listeners
            | Part::Clusters
            | Part::Endpoints
            | Part::Routes
            | Part::Programs
            | Part::Dump => only_vips(),
        };
    }
    let compiled = match args.offline.request().compile() {
        Ok(compiled) => compiled,
        Err(error) => return offline::complain(&error),
    };
    match print(args, &compiled) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Impossible,
        Ok(()) | Err(_) => Exit::Fine,
    }
}

#[expect(clippy::print_stderr, reason = "this is how a command complains")]
fn only_vips() -> Exit {
    eprintln!(
        "egressd: a running daemon shows its `vips` and `programs` only; leave --admin out for the others"
    );
    Exit::Usage
}

fn print(args: &Args, compiled: &Compiled) -> io::Result<()> {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    let (tables, filter) = (&compiled.tables, &args.filter);
    match (args.part, args.output) {
        (Part::Dump | Part::Programs, _) => json_lines(&dump(compiled, filter), out)?,
        (Part::Listeners, Output::Text) => listeners::table(tables, filter).print(out)?,
        (Part::Listeners, Output::Json) => json_lines(&listeners::json(tables, filter), out)?,
        (Part::Clusters, Output::Text) => clusters::table(tables, filter).print(out)?,
        (Part::Clusters, Output::Json) => json_lines(&clusters::json(tables, filter), out)?,
        (Part::Endpoints, Output::Text) => endpoints::table(tables, filter).print(out)?,
        (Part::Endpoints, Output::Json) => json_lines(&endpoints::json(tables, filter), out)?,
        (Part::Routes, Output::Text) => routes::table(tables, filter).print(out)?,
        (Part::Routes, Output::Json) => json_lines(&routes::json(tables, filter), out)?,
        (Part::Vips, Output::Text) => vips::table(tables, filter).print(out)?,
        (Part::Vips, Output::Json) => json_lines(&vips::json(tables, filter), out)?,
    }
    out.flush()
}

fn dump(compiled: &Compiled, filter: &Filter) -> Value {
    let (tables, node) = (&compiled.tables, &compiled.settings.node);
    json!({
        "node": {
            "namespace": node.namespace,
            "labels": node.labels,
            "locality": node.locality.to_string(),
        },
        "strict": tables.is_strict(),
        "listeners": listeners::json(tables, filter),
        "clusters": clusters::json(tables, filter),
        "endpoints": endpoints::json(tables, filter),
        "routes": routes::json(tables, filter),
        "vips": vips::json(tables, filter),
    })
}

fn json_lines(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}
