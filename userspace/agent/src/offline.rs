//! A configuration that is compiled without a daemon, for the commands that look at one.

mod args;
mod mesh;

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use egressd_dns::VipState;

use egressd_model::{Diagnostic, Model, ParsedFile, resource::MeshConfig, value::Locality};
use egressd_tables::{
    Answers, DEFAULT_V4, DEFAULT_V6, IpFamilies, Node, Options, Tables, VipAllocation,
    VipExhausted, VipRequest, requests,
};

use crate::{
    config::{Config, ConfigError, DnsCapture, DnsConfig, FILE_NAME},
    resources::{self, ReadError},
};

pub(crate) use args::{Args, complain};
pub(crate) use mesh::MeshError;

/// Where a configuration is, as the command line names it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// egressd.yaml, a directory, or a file of resources.
    pub(crate) config: PathBuf,
    /// MeshConfig that replaces that of egressd.yaml.
    pub(crate) mesh: Option<PathBuf>,
    /// Whether names are answered; nothing: as egressd.yaml and MeshConfig say.
    pub(crate) dns_capture: Option<bool>,
    /// Whether hosts get virtual addresses; nothing: as egressd.yaml and MeshConfig say.
    pub(crate) allocate_vips: Option<bool>,
    /// Port of the explicit HTTP proxy; nothing: as MeshConfig says.
    pub(crate) http_proxy_port: Option<u16>,
    /// Whose answers are given where ours differ from Istio's.
    pub(crate) answers: Answers,
    /// The families the node can reach; nothing: as this machine can.
    pub(crate) families: Option<IpFamilies>,
    /// Whose virtual addresses are shown.
    pub(crate) vips: Vips,
}

/// Where virtual addresses come from.
#[derive(Debug, Clone, Default)]
pub(crate) enum Vips {
    /// They are given anew.
    #[default]
    Fresh,
    /// As the daemon with this configuration has given them, as far as its state can be read.
    OfDaemon,
    /// As the daemon with this state directory has given them.
    OfState(PathBuf),
}

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfflineError {
    /// The daemon's own file is no good.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// MeshConfig is no good.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A resource is rejected; every finding is here.
    #[error("nothing is loaded: {} of the findings are errors", errors(.0))]
    Rejected(Vec<Diagnostic>),
}

/// Everything but the resources.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The daemon's settings.
    pub(crate) config: Config,
    /// The mesh.
    pub(crate) mesh: MeshConfig,
    /// Findings about the mesh that are no errors.
    pub(crate) findings: Vec<Diagnostic>,
    /// Who the node is.
    pub(crate) node: Node,
    /// How tables are compiled.
    pub(crate) options: Options,
    /// Whether hosts get virtual addresses.
    pub(crate) allocate_vips: bool,
    /// The directory of a daemon whose virtual addresses are shown.
    state: Option<PathBuf>,
}

/// Resources with everything that comes of them.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// Where they come from.
    pub(crate) settings: Settings,
    /// The resources.
    pub(crate) model: Model,
    /// The addresses that hosts got.
    pub(crate) vips: VipAllocation,
    /// Hosts that no address was left for.
    pub(crate) exhausted: Vec<VipExhausted>,
    /// What becomes of connections.
    pub(crate) tables: Tables,
}

impl Request {
    /// Reads and compiles.
    ///
    /// # Errors
    /// When something cannot be read or is rejected.
    pub(crate) fn compile(&self) -> Result<Compiled, OfflineError> {
        let settings = self.settings(self.load_config()?)?;
        let mesh = self.mesh.as_ref().and_then(|path| fs::canonicalize(path).ok());
        let is_mesh = |path: &Path| mesh.is_some() && fs::canonicalize(path).ok() == mesh;
        let mut files = Vec::new();
        for path in resources::list(settings.config.resources.to_read())? {
            if !is_mesh(&path) {
                files.push(parse(&path)?);
            }
        }
        let model = Model::assemble(&files).map_err(OfflineError::Rejected)?;
        Ok(settings.compile(model))
    }

    /// Reads egressd.yaml, or takes its defaults where resources are named instead.
    fn load_config(&self) -> Result<Config, OfflineError> {
        let path = &self.config;
        if !path.is_dir() && is_resource_file(&parse(path)?) {
            return Ok(Config::of_resources(vec![path.clone()])?);
        }
        Ok(Config::load(path)?)
    }

    /// What egressd.yaml, MeshConfig and the command line add up to.
    ///
    /// # Errors
    /// When MeshConfig cannot be read or is rejected.
    pub(crate) fn settings(&self, config: Config) -> Result<Settings, OfflineError> {
        let (mesh, findings) = match &self.mesh {
            Some(path) => mesh::read(path)?,
            None => mesh::parse(&config.path, &config.text, &["meshConfig"])?,
        };
        let dns = DnsSwitches::of(&config.dns, &mesh);
        let node = Node {
            namespace: config.node.namespace.clone(),
            labels: config.node.labels.clone(),
            locality: Locality::parse(&config.node.locality),
            families: self.families.unwrap_or_else(families_here),
        };
        let options = Options {
            strict: config.strict,
            dns_capture: self.dns_capture.unwrap_or(dns.capture),
            http_proxy_port: self.http_proxy_port,
            answers: match self.answers {
                Answers::Istio => Answers::Istio,
                Answers::Ours => config.answers.into(),
            },
            ..Options::default()
        };
        let allocate_vips = self.allocate_vips.unwrap_or(dns.allocate_vips);
        let state = match &self.vips {
            Vips::Fresh => None,
            Vips::OfDaemon => Some(config.state_directory.clone()),
            Vips::OfState(directory) => Some(directory.clone()),
        };
        Ok(Settings { config, mesh, findings, node, options, allocate_vips, state })
    }
}

impl Settings {
    /// Compiles resources.
    pub(crate) fn compile(self, model: Model) -> Compiled {
        let (vips, exhausted) = match self.allocate_vips {
            true => self.allocate(&requests(&model)),
            false => (VipAllocation::default(), Vec::new()),
        };
        let tables = Tables::compile(&model, &self.mesh, &self.node, &self.options, &vips);
        Compiled { settings: self, model, vips, exhausted, tables }
    }
}

impl Settings {
    /// As the daemon would give them; its state is read and left as it is.
    fn allocate(&self, requests: &[VipRequest]) -> (VipAllocation, Vec<VipExhausted>) {
        let state = self.state.as_ref().filter(|directory| directory.join(VIP_FILE).exists());
        let state = state.and_then(|directory| {
            VipState::open(directory, DEFAULT_V4, DEFAULT_V6).ok().map(|(state, _)| state)
        });
        match state {
            Some(state) => state.preview(requests, SystemTime::now()),
            None => VipAllocation::default().allocate(requests),
        }
    }
}

/// The daemon's file of virtual addresses in its state directory.
const VIP_FILE: &str = "vips.json";

/// What `dns:` says; where it is silent, what MeshConfig's proxy metadata says; else yes (seeds.md 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DnsSwitches {
    /// Names are answered by us.
    pub(crate) capture: bool,
    /// Hosts without an address get one.
    pub(crate) allocate_vips: bool,
}

impl DnsSwitches {
    /// The switches of a configuration.
    pub(crate) fn of(dns: &DnsConfig, mesh: &MeshConfig) -> Self {
        let written = dns.capture.as_ref().map(|capture| *capture != DnsCapture::Off);
        Self {
            capture: written.or(mesh.dns_capture()).unwrap_or(true),
            allocate_vips: dns.allocate_vips.or(mesh.dns_auto_allocate()).unwrap_or(true),
        }
    }
}

/// Reads one file, whatever is in it.
pub(crate) fn parse(path: &Path) -> Result<ParsedFile, ReadError> {
    let bytes = resources::read_bytes(path)?;
    Ok(egressd_model::parse_bytes(&path.to_string_lossy(), &bytes))
}

/// Whether a file holds resources rather than the daemon's settings.
pub(crate) fn is_resource_file(file: &ParsedFile) -> bool {
    let named = Path::new(&**file.path()).file_name().is_some_and(|name| name == FILE_NAME);
    let is_resource = |document: &egressd_model::Document| {
        !document.kind.is_empty() || !document.api_version.is_empty()
    };
    !named && file.documents().iter().any(is_resource)
}

/// As the daemon would find them.
fn families_here() -> IpFamilies {
    match egressd_datapath::has_global_v6() {
        Ok(true) => IpFamilies::Dual,
        Ok(false) | Err(_) => IpFamilies::V4,
    }
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|one| one.severity == egressd_model::Severity::Error).count()
}
