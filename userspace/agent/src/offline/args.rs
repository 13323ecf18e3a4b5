//! What the commands that compile a configuration have in common on the command line.

use std::path::PathBuf;

use clap::ValueEnum;
use egressd_dns::VipStateError;
use egressd_tables::IpFamilies;

use super::{OfflineError, Request, Vips};
use crate::{
    check,
    config::ConfigError,
    exit::Exit,
    settings::{MeshError, Overrides},
};

/// The configuration that is looked at.
#[derive(Debug, clap::Args)]
#[group(id = "configuration")]
pub(crate) struct Args {
    /// egressd.yaml; a directory, with an egressd.yaml or with resources; or a file of resources.
    #[arg(long, value_name = "PATH", default_value = "/etc/egressd")]
    pub(crate) config: PathBuf,
    /// MeshConfig to use in place of that of egressd.yaml.
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh: Option<PathBuf>,
    /// Show the virtual addresses that the daemon with this state directory has given, in place of
    /// `stateDirectory`. Nothing is written to it.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Give virtual addresses to hosts that have no address, whatever egressd.yaml says.
    #[arg(long)]
    pub(crate) allocate_vips: bool,
    /// Answer names, whatever egressd.yaml says: allocated addresses are used only then.
    #[arg(long)]
    pub(crate) dns_capture: bool,
    /// The address families that the node can reach. Default: those of this machine.
    #[arg(long, value_enum, value_name = "FAMILIES")]
    pub(crate) ip_families: Option<Families>,
    /// Port of the explicit HTTP proxy, in place of MeshConfig's `proxyHttpPort`.
    #[arg(long, value_name = "PORT")]
    pub(crate) http_proxy_port: Option<u16>,
}

/// Address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

impl Args {
    /// What is asked for: as the daemon would have it, but for what is said otherwise.
    pub(crate) fn request(&self) -> Request {
        let overrides = Overrides {
            mesh: self.mesh.clone(),
            dns_capture: self.dns_capture.then_some(true),
            allocate_vips: self.allocate_vips.then_some(true),
            http_proxy_port: self.http_proxy_port,
            families: self.ip_families.map(|families| match families {
                Families::V4 => IpFamilies::V4,
                Families::V6 => IpFamilies::V6,
                Families::Dual => IpFamilies::Dual,
            }),
            ..Overrides::default()
        };
        let vips = self.state.clone().map_or(Vips::OfDaemon, Vips::OfState);
        Request { config: self.config.clone(), overrides, vips }
    }
}

/// Says on standard error that virtual addresses are shown without the daemon's state.
pub(super) fn warn(error: &VipStateError) {
    say(&format!("egressd: {error}; virtual addresses are shown as if none were given yet\n"));
}

/// Says on standard error why there is nothing to look at.
pub(crate) fn complain(error: &OfflineError) -> Exit {
    match error {
        OfflineError::Rejected(findings) | OfflineError::Mesh(MeshError::Rejected(findings)) => {
            say(&check::errors_for_people(findings));
            say(&format!("egressd: {error}\n"));
            Exit::Wrong
        }
        OfflineError::Config(ConfigError::Rejected(findings)) => {
            say(&check::errors_for_people(findings));
            say("egressd: egressd.yaml is no good\n");
            Exit::Wrong
        }
        OfflineError::Config(ConfigError::Read { .. })
        | OfflineError::Read(_)
        | OfflineError::Mesh(MeshError::Read(_)) => {
            say(&format!("egressd: {error}; see --config\n"));
            Exit::Usage
        }
    }
}

#[expect(clippy::print_stderr, reason = "this is how a command complains")]
fn say(text: &str) {
    eprint!("{text}");
}
