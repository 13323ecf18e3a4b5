//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Makes outgoing connections of every process on a Linux host obey Istio's ServiceEntry.
///
/// Exit status: 0 fine, 1 found something wrong, 2 wrong usage, 3 cannot do it here.
#[derive(Debug, Parser)]
#[command(name = "egressd", version, propagate_version = true)]
pub(crate) struct Cli {
    /// How the daemon's own log is written.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Capture connections and relay them, until SIGTERM.
    Run(Run),
    /// Say of every document whether it is accepted, and what will not do what was meant.
    Check(crate::check::Args),
    /// Say what becomes of a connection or request, and why.
    Explain(crate::explain::Args),
    /// Show the compiled configuration, in the columns of `istioctl proxy-config`.
    Config(crate::show::Args),
    /// Show what a running daemon does.
    Status(Status),
    /// Print a running daemon's metrics, in Prometheus' text format.
    Metrics(Metrics),
    /// Remove what a daemon has left pinned in the kernel: its programs are detached.
    Cleanup(Cleanup),
}

/// `egressd run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Capture the processes of this cgroup, in place of `capture.cgroups`; may be repeated.
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Vec<PathBuf>,
    /// Keep state here, in place of `stateDirectory`.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Serve administration on this socket, in place of `adminSocket`.
    #[arg(long, value_name = "PATH")]
    pub(crate) admin: Option<PathBuf>,
    /// Leave the programs attached at the end, as they are after SIGKILL, for the next daemon to
    /// adopt: needs `capture.pinDirectory` in a bpffs.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// `egressd cleanup`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 nothing is left, 3 a daemon runs, or it cannot be removed.")]
pub(crate) struct Cleanup {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Where it is pinned, in place of `capture.pinDirectory`.
    #[arg(long, value_name = "DIR")]
    pub(crate) pins: Option<PathBuf>,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// egressd.yaml, or a directory: its egressd.yaml if there is one, else every YAML file in it
    /// is a resource.
    #[arg(long, value_name = "FILE|DIR", default_value = "/etc/egressd")]
    pub(crate) config: PathBuf,
}

/// `egressd status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// The daemon's administration socket.
    #[arg(long, value_name = "PATH", default_value = "/run/egressd/admin.sock")]
    pub(crate) admin: PathBuf,
}

/// `egressd metrics`.
#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// The daemon's administration socket.
    #[arg(long, value_name = "PATH", default_value = "/run/egressd/admin.sock")]
    pub(crate) admin: PathBuf,
}

/// For whom something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs: JSON.
    Json,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn definition_is_sound() {
        super::Cli::command().debug_assert();
    }
}
