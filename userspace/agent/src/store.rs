//! The resources of a daemon: read from files, compiled into generations.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use egressd_dns::{VipState, VipStateError};
use egressd_model::{
    Diagnostic, Model, ParsedFile, Severity, parse_mesh_config, resource::MeshConfig,
    value::Locality,
};
use egressd_tables::{
    Compiler, DEFAULT_V4, DEFAULT_V6, IpFamilies, Node, Options, Tables, VipAllocation, requests,
};

use crate::{
    config::{Config, Resources},
    offline::DnsSwitches,
    resources::{self, ReadError},
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
    resources: Resources,
    node: Node,
    options: Options,
    mesh: MeshConfig,
    findings: Vec<Diagnostic>,
    /// `None` where hosts get no virtual addresses.
    vips: Option<VipState>,
    files: BTreeMap<PathBuf, ParsedFile>,
    /// Takes over what an edit leaves as it was.
    compiler: Compiler,
    /// A file could not be read since everything was read last.
    stale: bool,
}

impl Store {
    /// A store for a daemon's settings. Nothing is read yet.
    ///
    /// # Errors
    /// [`LoadError::Rejected`] for a `meshConfig` that is no good.
    pub(crate) fn new(
        config: &Config,
        families: IpFamilies,
        options: Options,
    ) -> Result<Self, LoadError> {
        let path = config.path.to_string_lossy();
        let (mut mesh, findings) =
            parse_mesh_config(&path, &config.text, &["meshConfig"]).map_err(LoadError::Rejected)?;
        if let Some(identity) = &config.tls.identity
            && mesh.trust_domain.is_empty()
        {
            // Endpoints are of the mesh that we are of.
            mesh.trust_domain = identity.trust_domain.to_string().into();
        }
        let node = Node {
            namespace: config.node.namespace.clone(),
            labels: config.node.labels.clone(),
            locality: Locality::parse(&config.node.locality),
            families,
        };
        let resources = config.resources.clone();
        let dns = DnsSwitches::of(&config.dns, &mesh);
        let answers = config.answers.into();
        let (dns_capture, strict) = (dns.capture, config.strict);
        let options = Options { dns_capture, strict, answers, ..options };
        let vips = match dns.capture && dns.allocate_vips {
            true => Some(open_vips(&config.state_directory)?),
            false => None,
        };
        let files = BTreeMap::new();
        let (compiler, stale) = (Compiler::default(), false);
        Ok(Self { resources, node, options, mesh, findings, vips, files, compiler, stale })
    }

    /// Reads every file and compiles what they say.
    pub(crate) fn load(&mut self) -> Result<Generation, LoadError> {
        let sources = resources::read(self.resources.to_read())?;
        self.files = sources.iter().map(|source| parse(&source.path, &source.text)).collect();
        self.stale = false;
        self.compile()
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
        if !resources::is_resource_file(path) {
            // Working copies and notes do not matter; folders and links to folders do.
            return Ok(!path.is_dir() && !self.files.keys().any(|file| file.starts_with(path)));
        }
        if !self.resources.to_read().iter().any(|root| path.starts_with(root)) {
            return Ok(true);
        }
        if path.exists() {
            let text = resources::read_file(path)?;
            let (path, file) = parse(path, &text);
            self.files.insert(path, file);
        } else {
            self.files.remove(path);
        }
        Ok(true)
    }

    fn compile(&mut self) -> Result<Generation, LoadError> {
        let model = Model::assemble(self.files.values()).map_err(LoadError::Rejected)?;
        let vips = self.allocate(&model);
        let Self { mesh, node, options, compiler, .. } = self;
        let tables = compiler.compile(&model, mesh, node, options, &vips);
        let files = self.files.values().flat_map(ParsedFile::diagnostics);
        let findings = self.findings.iter().chain(files).cloned().collect();
        let Node { namespace, labels, .. } = &self.node;
        let access_log = telemetry::access_log(&model, &self.mesh, namespace, labels);
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

    /// Whether queries for names are captured and answered.
    pub(crate) fn captures_dns(&self) -> bool {
        self.options.dns_capture
    }

    /// The files and folders that are read.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        self.resources.to_read()
    }
}

fn open_vips(directory: &Path) -> Result<VipState, LoadError> {
    let (vips, set_aside) = VipState::open(directory, DEFAULT_V4, DEFAULT_V6)?;
    if let Some(set_aside) = set_aside {
        tracing::error!(%set_aside, "the state of virtual addresses");
    }
    Ok(vips)
}

fn parse(path: &Path, text: &str) -> (PathBuf, ParsedFile) {
    (path.to_owned(), egressd_model::parse(&path.to_string_lossy(), text))
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}
