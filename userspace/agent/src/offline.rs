//! A configuration that is compiled without a daemon, for the commands that look at one.

mod args;

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use egressd_dns::VipSnapshot;
use egressd_model::{Diagnostic, Model, ParsedFile};
use egressd_tables::{
    DEFAULT_V4, DEFAULT_V6, Tables, VipAllocation, VipExhausted, VipRequest, requests,
};

use crate::{
    config::{Config, ConfigError, FILE_NAME},
    resources::{self, ReadError},
    settings::{MeshError, Overrides, Settings},
};

pub(crate) use args::{Args, complain};

/// Where a configuration is, as the command line names it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// egressd.yaml, a directory, or a file of resources.
    pub(crate) config: PathBuf,
    /// What the command line says in place of the files.
    pub(crate) overrides: Overrides,
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
        let settings = Settings::new(self.load_config()?, &self.overrides)?;
        let mesh = self.overrides.mesh.as_ref().and_then(|path| fs::canonicalize(path).ok());
        let is_mesh = |path: &Path| mesh.is_some() && fs::canonicalize(path).ok() == mesh;
        let mut files = Vec::new();
        for path in resources::list(settings.config.resources.to_read())? {
            if !is_mesh(&path) {
                files.push(resources::parse(&path)?);
            }
        }
        let model = Model::assemble(&files).map_err(OfflineError::Rejected)?;
        Ok(Compiled::new(settings, &self.vips, model))
    }

    /// Reads egressd.yaml, or takes its defaults where resources are named instead.
    fn load_config(&self) -> Result<Config, OfflineError> {
        let path = &self.config;
        if !path.is_dir() && is_resource_file(&resources::parse(path)?) {
            return Ok(Config::of_resources(vec![path.clone()])?);
        }
        Ok(Config::load(path)?)
    }
}

impl Compiled {
    /// Compiles resources.
    pub(crate) fn new(settings: Settings, vips: &Vips, model: Model) -> Self {
        let (vips, exhausted) = match settings.allocate_vips {
            true => vips.allocate(&settings.config, &requests(&model)),
            false => (VipAllocation::default(), Vec::new()),
        };
        let Settings { mesh, node, options, .. } = &settings;
        let tables = Tables::compile(&model, mesh, node, options, &vips);
        Self { settings, model, vips, exhausted, tables }
    }
}

impl Vips {
    /// As the daemon would give them; its state is read and left as it is.
    fn allocate(
        &self,
        config: &Config,
        requests: &[VipRequest],
    ) -> (VipAllocation, Vec<VipExhausted>) {
        let directory = match self {
            Self::Fresh => None,
            Self::OfDaemon => Some(&config.state_directory),
            Self::OfState(directory) => Some(directory),
        };
        let read = |directory: &PathBuf| VipSnapshot::read(directory, DEFAULT_V4, DEFAULT_V6);
        match directory.map(read) {
            Some(Ok(state)) => state.preview(requests, SystemTime::now()),
            // As a daemon would: it sets the file aside and begins anew.
            Some(Err(error)) => {
                args::warn(&error);
                VipAllocation::default().allocate(requests)
            }
            None => VipAllocation::default().allocate(requests),
        }
    }
}

/// Whether a file holds resources rather than the daemon's settings.
pub(crate) fn is_resource_file(file: &ParsedFile) -> bool {
    let named = Path::new(&**file.path()).file_name().is_some_and(|name| name == FILE_NAME);
    let is_resource = |document: &egressd_model::Document| {
        !document.kind.is_empty() || !document.api_version.is_empty()
    };
    !named && file.documents().iter().any(is_resource)
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|one| one.severity == egressd_model::Severity::Error).count()
}
