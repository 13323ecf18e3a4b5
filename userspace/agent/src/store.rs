//! The resources of a daemon: read from files, compiled into generations.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use egressd_dns::{VipState, VipStateError};
use egressd_model::{Diagnostic, Model, ParsedFile, Severity};
use egressd_tables::{
    Compiler, DEFAULT_V4, DEFAULT_V6, Node, PathMode, Tables, VipAllocation,
    analysis::impossible_paths, requests,
};

use crate::{
    config::{Config, ConfigError},
    resources::{self, ReadError},
    settings::Settings,
    telemetry,
    watch::Changed,
};

/// Why there is no new generation. The one in force stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something is rejected; every finding is here.
    #[error("{} of the findings are errors", errors(.0))]
    Rejected(Vec<Diagnostic>),
    /// The virtual addresses given out cannot be kept.
    #[error(transparent)]
    State(#[from] VipStateError),
    /// The daemon's own file, which says which path is taken, is no good any more.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// One compiled configuration, and what was found on the way to it.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    /// What the proxy, the kernel and DNS work by.
    pub(crate) tables: Arc<Tables>,
    /// Whether resources switch the access log; `None` if they do not speak of it.
    pub(crate) access_log: Option<bool>,
    /// Warnings and infos.
    pub(crate) findings: Vec<Diagnostic>,
}

/// Every resource file as it was last read.
pub(crate) struct Store {
    settings: Settings,
    /// `None` where hosts get no virtual addresses.
    vips: Option<VipState>,
    files: BTreeMap<PathBuf, ParsedFile>,
    /// Takes over what an edit leaves as it was.
    compiler: Compiler,
    /// A file could not be read since everything was read last.
    stale: bool,
}

impl Store {
    /// A store for a daemon's settings. No resource is read yet.
    ///
    /// # Errors
    /// The virtual addresses given out cannot be kept.
    pub(crate) fn new(settings: Settings) -> Result<Self, LoadError> {
        let vips = match settings.uses_vips() {
            true => Some(open_vips(&settings.config.state_directory)?),
            false => None,
        };
        let (files, compiler) = (BTreeMap::new(), Compiler::default());
        Ok(Self { settings, vips, files, compiler, stale: false })
    }

    /// Reads every file and compiles what they say.
    pub(crate) fn load(&mut self) -> Result<Generation, LoadError> {
        self.read_path()?;
        let mut files = BTreeMap::new();
        for path in resources::list(self.paths())? {
            let file = resources::parse(&path)?;
            files.insert(path, file);
        }
        self.files = files;
        self.stale = false;
        self.compile()
    }

    /// Reads `path` of egressd.yaml, the one key of it that holds from a reload on.
    fn read_path(&mut self) -> Result<(), LoadError> {
        let settings = &mut self.settings;
        let path = match Config::load(&settings.config.path) {
            Ok(config) => config.path_mode,
            // Every key had its default without a file; a file that was there is another matter.
            Err(ConfigError::Read { .. }) if settings.config.text.is_empty() => PathMode::Auto,
            Err(error) => return Err(error.into()),
        };
        if path != settings.options.path {
            tracing::info!(?path, "egressd.yaml says another path");
            (settings.options.path, settings.config.path_mode) = (path, path);
        }
        Ok(())
    }

    /// Reads what has changed and compiles. A file that is rejected counts until it is repaired: as
    /// long as there is one, nothing else takes effect either.
    pub(crate) fn reload(&mut self, changed: &Changed) -> Result<Generation, LoadError> {
        let Changed::Paths(paths) = changed else { return self.load() };
        // Until everything has been read, only reading everything can tell what holds.
        let stale = std::mem::replace(&mut self.stale, true);
        if stale {
            return self.load();
        }
        for path in paths {
            if !self.refresh(path)? {
                return self.load();
            }
        }
        self.stale = false;
        self.compile()
    }

    /// Brings one path up to date; `false` if only reading everything can tell.
    fn refresh(&mut self, path: &Path) -> Result<bool, LoadError> {
        if path == self.settings.config.path {
            return Ok(false);
        }
        if !resources::is_resource_file(path) {
            // Working copies and notes do not matter; folders and links to folders do.
            return Ok(!path.is_dir() && !self.files.keys().any(|file| file.starts_with(path)));
        }
        if !self.paths().iter().any(|root| path.starts_with(root)) {
            return Ok(true);
        }
        if path.exists() {
            self.files.insert(path.to_owned(), resources::parse(path)?);
        } else {
            self.files.remove(path);
        }
        Ok(true)
    }

    fn compile(&mut self) -> Result<Generation, LoadError> {
        let model = Model::assemble(self.files.values()).map_err(LoadError::Rejected)?;
        let vips = self.allocate(&model);
        let Settings { mesh, node, options, .. } = &self.settings;
        let tables = self.compiler.compile(&model, mesh, node, options, &vips);
        let impossible = impossible_paths(&model, &tables);
        if !impossible.is_empty() {
            return Err(LoadError::Rejected(impossible));
        }
        let access_log = telemetry::access_log(&model, mesh, &node.namespace, &node.labels);
        let files = self.files.values().flat_map(ParsedFile::diagnostics);
        let findings = self.settings.findings.iter().chain(files).cloned().collect();
        Ok(Generation { tables: Arc::new(tables), access_log, findings })
    }

    /// Gives virtual addresses to the hosts that need them; none where nobody would learn them.
    fn allocate(&mut self, model: &Model) -> VipAllocation {
        let Some(vips) = &mut self.vips else { return VipAllocation::default() };
        let allocated = vips.allocate(&requests(model), SystemTime::now());
        for error in &allocated.exhausted {
            tracing::error!(%error, "the host resolves upstream instead");
        }
        if let Err(error) = &allocated.saved {
            tracing::error!(%error, "virtual addresses hold until the daemon ends");
        }
        allocated.allocation
    }

    /// Who we are.
    pub(crate) fn node(&self) -> &Node {
        &self.settings.node
    }

    /// Whether queries for names are captured and answered.
    pub(crate) fn captures_dns(&self) -> bool {
        self.settings.options.dns_capture
    }

    /// The files and folders that are read, or will be once they are there.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        let config = &self.settings.config;
        let resources = config.resources.to_watch().iter().cloned();
        resources.chain(Some(config.path.clone())).collect()
    }

    /// How far apart attempts to resolve a name are at most, after failures.
    pub(crate) fn dns_refresh_rate(&self) -> Duration {
        self.settings.mesh.dns_refresh_rate()
    }

    /// The files and folders that are read.
    fn paths(&self) -> &[PathBuf] {
        self.settings.config.resources.to_read()
    }
}

fn open_vips(directory: &Path) -> Result<VipState, LoadError> {
    let (vips, set_aside) = VipState::open(directory, DEFAULT_V4, DEFAULT_V6)?;
    if let Some(set_aside) = set_aside {
        tracing::error!(%set_aside, "the state of virtual addresses");
    }
    Ok(vips)
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}
