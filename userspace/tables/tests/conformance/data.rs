//! Finding the conformance data and compiling configurations from it.

use std::fs;
use std::path::{Path, PathBuf};

use egressd_model::resource::MeshConfig;
use egressd_model::{Model, parse, parse_mesh_config};
use egressd_tables::{Answers, IpFamilies, Node, Options, Tables, VipAllocation, requests};
use serde::Deserialize;

/// One configuration of `routing/`.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// Every folder below `routing/`, by name.
pub(crate) fn routing_cases(folder: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    for group in folders(&folder.join("routing")) {
        for folder in folders(&group) {
            let part = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            cases.push(Case { name: format!("{}/{}", part(&group), part(&folder)), folder });
        }
    }
    cases
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseOptions {
    #[serde(default)]
    pub(crate) allocate: bool,
    #[serde(default)]
    pub(crate) dns_capture: bool,
    #[serde(default)]
    pub(crate) http_proxy_port: Option<String>,
}

impl Case {
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// The tables as Istio would have them.
    pub(crate) fn compile(&self) -> Tables {
        let model = model(&self.read("config.yaml").unwrap_or_default());
        let mesh = self.read("mesh.yaml").map_or_else(MeshConfig::default, |text| mesh(&text));
        let options: CaseOptions = self
            .read("options.json")
            .map_or_else(CaseOptions::default, |text| serde_json::from_str(&text).unwrap());
        let vips = allocation(&model, options.allocate);
        let options = Options {
            dns_capture: options.dns_capture,
            http_proxy_port: options.http_proxy_port.map(|port| port.parse().unwrap()),
            answers: Answers::Istio,
            ..Options::default()
        };
        Tables::compile(&model, &mesh, &node(), &options, &vips)
    }
}

/// The node of the conformance data: namespace `default`, IPv4, nothing else.
pub(crate) fn node() -> Node {
    Node { families: IpFamilies::V4, ..Node::default() }
}

pub(crate) fn model(text: &str) -> Model {
    Model::assemble([&parse("config.yaml", text)]).unwrap()
}

pub(crate) fn mesh(text: &str) -> MeshConfig {
    parse_mesh_config("mesh.yaml", text, &[]).unwrap().0
}

pub(crate) fn allocation(model: &Model, allocate: bool) -> VipAllocation {
    let empty = VipAllocation::default();
    if !allocate {
        return empty;
    }
    let (vips, exhausted) = empty.allocate(&requests(model));
    assert!(exhausted.is_empty());
    vips
}
