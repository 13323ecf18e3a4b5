//! What a node does with resource files, in the steps of the daemon.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use egressd_model::{Diagnostic, Model, ParsedFile, parse, resource::MeshConfig};
use egressd_tables::{Compiler, Node, Options, Tables, VipAllocation, requests};

use crate::clock::timed;

/// A node with its files, and the nanoseconds that each step took last.
#[derive(Default)]
pub(crate) struct Large {
    files: Vec<(PathBuf, ParsedFile)>,
    vips: VipAllocation,
    compiler: Compiler,
    pub(crate) steps: Steps,
}

/// Nanoseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Steps {
    pub(crate) parse: u64,
    pub(crate) assemble: u64,
    pub(crate) allocate: u64,
    pub(crate) compile: u64,
}

impl Steps {
    pub(crate) fn total(self) -> u64 {
        self.parse + self.assemble + self.allocate + self.compile
    }
}

impl Large {
    /// Reads every file of a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = entries.collect::<Result<Vec<_>, _>>()?;
        paths.sort();
        let mut large = Self::default();
        let (files, time) = timed(|| paths.into_iter().map(read).collect::<Result<_>>())?;
        large.files = files?;
        large.steps.parse = time;
        Ok(large)
    }

    /// Reads one file anew.
    pub(crate) fn refresh(&mut self, path: PathBuf) -> Result<()> {
        let (read, time) = timed(|| read(path))?;
        let (path, file) = read?;
        match self.files.binary_search_by(|(other, _)| other.cmp(&path)) {
            Ok(index) => self.files[index].1 = file,
            Err(_) => bail!("{} is new", path.display()),
        }
        self.steps.parse = time;
        Ok(())
    }

    /// Compiles what the files say.
    pub(crate) fn compile(&mut self) -> Result<Tables> {
        let (model, time) = timed(|| Model::assemble(self.files.iter().map(|(_, file)| file)))?;
        self.steps.assemble = time;
        let model = model.map_err(|found| refused(&found))?;
        let (vips, time) = timed(|| self.vips.allocate(&requests(&model)).0)?;
        (self.vips, self.steps.allocate) = (vips, time);
        let (mesh, node, options) = settings();
        let (compiler, vips) = (&mut self.compiler, &self.vips);
        let (tables, time) = timed(|| compiler.compile(&model, &mesh, &node, &options, vips))?;
        self.steps.compile = time;
        Ok(tables)
    }

    /// Fails unless these are the tables that everything, compiled from nothing, gives: a short way
    /// that goes wrong must not look fast.
    pub(crate) fn verify(&self, tables: &Tables) -> Result<()> {
        let files = self.files.iter().map(|(_, file)| file);
        let model = Model::assemble(files).map_err(|found| refused(&found))?;
        let (mesh, node, options) = settings();
        if Tables::compile(&model, &mesh, &node, &options, &self.vips) != *tables {
            bail!("the tables of a changed file are not those of a fresh start");
        }
        Ok(())
    }
}

/// Where every benchmark compiles for.
fn settings() -> (MeshConfig, Node, Options) {
    let options = Options { dns_capture: true, ..Options::default() };
    (MeshConfig::default(), Node::default(), options)
}

fn read(path: PathBuf) -> Result<(PathBuf, ParsedFile)> {
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = parse(&path.to_string_lossy(), &text);
    Ok((path, file))
}

fn refused(found: &[Diagnostic]) -> anyhow::Error {
    let first = found.first().map(ToString::to_string).unwrap_or_default();
    anyhow::anyhow!("the resources are rejected: {first}")
}
