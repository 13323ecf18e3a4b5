//! What `check` looks at: files, the settings they are looked at with, and what could not be read.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use egressd_model::{Diagnostic, Model, ParsedFile, Verdict, parse_bytes};
use egressd_tables::{
    IpFamilies,
    analysis::{Subject, analyse},
};

use crate::{
    config::{Config, ConfigError, FILE_NAME},
    offline::{Compiled, Vips},
    resources,
    settings::{MeshError, Overrides, Settings},
};

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The resource files.
    pub(super) files: Vec<ParsedFile>,
    /// Their texts, for showing places. What is not UTF-8 is replaced.
    pub(super) texts: BTreeMap<String, String>,
    /// Findings about egressd.yaml and MeshConfig.
    pub(super) settings: Vec<Diagnostic>,
    /// Why something could not be read at all, a sentence each.
    pub(super) failures: Vec<String>,
    config: Option<Config>,
    mesh: Option<PathBuf>,
}

/// The name of standard input in findings, and how it is asked for.
const STDIN: (&str, &str) = ("<stdin>", "-");

impl Input {
    /// Reads files, directories and configurations.
    pub(super) fn read(paths: &[PathBuf], mesh: Option<&Path>) -> Self {
        let mut input = Self { mesh: mesh.map(Path::to_owned), ..Self::default() };
        for path in paths {
            if path.as_os_str() == STDIN.1 {
                input.read_stdin();
            } else if path.join(FILE_NAME).is_file() || is_config(path) {
                input.read_config(path);
            } else {
                input.read_resources(std::slice::from_ref(path));
            }
        }
        input
    }

    fn read_stdin(&mut self) {
        let mut bytes = Vec::new();
        match std::io::stdin().lock().read_to_end(&mut bytes) {
            Ok(_) => self.add(STDIN.0, &bytes),
            Err(error) => self.failures.push(format!("reading standard input: {error}")),
        }
    }

    fn read_config(&mut self, path: &Path) {
        match Config::load(path) {
            Ok(config) => {
                self.texts.insert(config.path.to_string_lossy().into_owned(), config.text.clone());
                self.read_resources(config.resources.to_read());
                if let Some(first) = self.config.replace(config) {
                    let first = first.path.display();
                    self.failures
                        .push(format!("{first} and {} are two configurations", path.display()));
                }
            }
            Err(ConfigError::Rejected(findings)) => {
                for path in findings.iter().map(|finding| &*finding.path) {
                    let text = std::fs::read_to_string(path).unwrap_or_default();
                    self.texts.insert(path.to_owned(), text);
                }
                self.settings.extend(findings);
            }
            Err(error @ ConfigError::Read { .. }) => self.failures.push(error.to_string()),
        }
    }

    fn read_resources(&mut self, paths: &[PathBuf]) {
        let found = match resources::list(paths) {
            Ok(found) => found,
            Err(error) => return self.failures.push(error.to_string()),
        };
        for path in found.iter().filter(|path| !is_config(path)) {
            match resources::read_bytes(path) {
                Ok(bytes) => self.add(&path.to_string_lossy(), &bytes),
                Err(error) => self.failures.push(error.to_string()),
            }
        }
    }

    fn add(&mut self, path: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        // A file that is named twice is looked at once.
        if self.texts.insert(path.to_owned(), text).is_none() {
            self.files.push(parse_bytes(path, bytes));
        }
    }

    /// Findings across resources, as far as these are valid, and about the settings.
    pub(super) fn across_resources(&mut self) -> Vec<Diagnostic> {
        let (model, mut findings) = Model::accepted(&self.files);
        let Some(settings) = self.load_settings() else { return findings };
        let compiled = Compiled::new(settings, &Vips::Fresh, model);
        let settings = &compiled.settings;
        findings.extend(analyse(&Subject {
            model: &compiled.model,
            mesh: &settings.mesh,
            node: &settings.node,
            tables: &compiled.tables,
            vips: settings.uses_vips().then_some(&compiled.vips),
            exhausted: &compiled.exhausted,
            complete: self.files.iter().all(|file| file.verdict() != Verdict::Reject),
            file_exists: &|path| path.exists(),
        }));
        findings
    }

    fn load_settings(&mut self) -> Option<Settings> {
        let config = match self.config.take() {
            Some(config) => config,
            None => Config::of_resources(Vec::new()).ok()?,
        };
        let (mesh, families) = (self.mesh.clone(), Some(IpFamilies::V4));
        let overrides = Overrides { mesh, families, ..Overrides::default() };
        match Settings::new(config, &overrides) {
            Ok(settings) => {
                self.settings.extend(settings.findings.iter().cloned());
                Some(settings)
            }
            Err(MeshError::Rejected(findings)) => {
                self.settings.extend(findings);
                None
            }
            Err(error @ MeshError::Read(_)) => {
                self.failures.push(error.to_string());
                None
            }
        }
    }
}

fn is_config(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == FILE_NAME)
}
