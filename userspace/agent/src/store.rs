//! The resources of a daemon: read from files, compiled into generations.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use egressd_model::{Diagnostic, Model, ParsedFile, resource::MeshConfig};
use egressd_tables::{Node, Options, Tables, VipAllocation};

use crate::{
    config::Config,
    resources::{self, ReadError},
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
}

/// One generation, and what was found on the way to it.
#[derive(Debug, Clone)]
pub(crate) struct Generation {
    /// What the proxy, the kernel and DNS work by.
    pub(crate) tables: Arc<Tables>,
    /// Warnings and infos.
    pub(crate) findings: Vec<Diagnostic>,
}

/// Every resource file as it was last read.
#[derive(Debug)]
pub(crate) struct Store {
    paths: Vec<PathBuf>,
    node: Node,
    options: Options,
    mesh: MeshConfig,
    files: BTreeMap<PathBuf, ParsedFile>,
}

impl Store {
    /// A store for a daemon's settings. Nothing is read yet.
    pub(crate) fn new(config: &Config, mesh: MeshConfig) -> Self {
        let node = Node { namespace: config.node.namespace.clone(), ..Node::default() };
        let options = Options { strict: config.strict, ..Options::default() };
        Self { paths: config.resources.clone(), node, options, mesh, files: BTreeMap::new() }
    }

    /// Reads every file and compiles what they say.
    pub(crate) fn load(&mut self) -> Result<Generation, LoadError> {
        let sources = resources::read(&self.paths)?;
        self.files = sources.into_iter().map(|source| parse(&source.path, &source.text)).collect();
        self.compile()
    }

    fn compile(&self) -> Result<Generation, LoadError> {
        let model = Model::assemble(self.files.values()).map_err(LoadError::Rejected)?;
        let vips = VipAllocation::default();
        let tables = Tables::compile(&model, &self.mesh, &self.node, &self.options, &vips);
        let findings = self.files.values().flat_map(ParsedFile::diagnostics).cloned().collect();
        Ok(Generation { tables: Arc::new(tables), findings })
    }
}

fn parse(path: &Path, text: &str) -> (PathBuf, ParsedFile) {
    (path.to_owned(), egressd_model::parse(&path.to_string_lossy(), text))
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|f| f.severity == egressd_model::Severity::Error).count()
}
