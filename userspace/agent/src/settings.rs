//! What a node is set to: egressd.yaml, MeshConfig and the command line, added up once. `run`, `check`,
//! `explain` and `config` go by the same settings, so that they agree.

mod mesh;

use std::path::PathBuf;

use egressd_model::{Diagnostic, resource::MeshConfig, value::Locality};
use egressd_tables::{Answers, IpFamilies, Node, Options};

use crate::config::{AccessLogSettings, Config, DnsCapture, DnsConfig};

pub(crate) use mesh::MeshError;

/// What the command line says in place of the files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// MeshConfig that replaces that of egressd.yaml.
    pub(crate) mesh: Option<PathBuf>,
    /// Whether names are answered; nothing: as egressd.yaml and MeshConfig say.
    pub(crate) dns_capture: Option<bool>,
    /// Whether hosts get virtual addresses; nothing: as egressd.yaml and MeshConfig say.
    pub(crate) allocate_vips: Option<bool>,
    /// Port of the explicit HTTP proxy; nothing: as MeshConfig says.
    pub(crate) http_proxy_port: Option<u16>,
    /// Whose answers are given where ours differ from Istio's; nothing: as egressd.yaml says.
    pub(crate) answers: Option<Answers>,
    /// The families the node can reach; nothing: as this machine can.
    pub(crate) families: Option<IpFamilies>,
}

/// Everything but the resources.
#[derive(Debug, Clone)]
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
    /// Where access records go.
    pub(crate) access_log: AccessLogSettings,
}

impl Settings {
    /// What the files and the command line add up to.
    ///
    /// # Errors
    /// When MeshConfig cannot be read or is rejected.
    pub(crate) fn new(config: Config, overrides: &Overrides) -> Result<Self, MeshError> {
        let (mut mesh, findings) = match &overrides.mesh {
            Some(path) => mesh::read(path)?,
            None => mesh::parse(&config.path, &config.text, &["meshConfig"])?,
        };
        if let Some(identity) = &config.tls.identity
            && mesh.trust_domain.is_empty()
        {
            // Endpoints are of the mesh that we are of.
            mesh.trust_domain = identity.trust_domain.to_string().into();
        }
        let dns = DnsSwitches::of(&config.dns, &mesh);
        let node = Node {
            namespace: config.node.namespace.clone(),
            labels: config.node.labels.clone(),
            locality: Locality::parse(&config.node.locality),
            families: overrides.families.unwrap_or_else(families_here),
        };
        let options = Options {
            strict: config.strict,
            path: config.path_mode,
            dns_capture: overrides.dns_capture.unwrap_or(dns.capture),
            http_proxy_port: overrides.http_proxy_port,
            answers: overrides.answers.unwrap_or(config.answers.into()),
            ..Options::default()
        };
        let allocate_vips = overrides.allocate_vips.unwrap_or(dns.allocate_vips);
        let access_log = config.access_log.with(&mesh);
        Ok(Self { config, mesh, findings, node, options, allocate_vips, access_log })
    }

    /// Whether hosts get virtual addresses that somebody learns.
    pub(crate) fn uses_vips(&self) -> bool {
        self.allocate_vips && self.options.dns_capture
    }
}

/// What `dns:` says; where it is silent, what MeshConfig's proxy metadata says; else yes (seeds.md 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DnsSwitches {
    /// Names are answered by us.
    capture: bool,
    /// Hosts without an address get one.
    allocate_vips: bool,
}

impl DnsSwitches {
    fn of(dns: &DnsConfig, mesh: &MeshConfig) -> Self {
        let written = dns.capture.as_ref().map(|capture| *capture != DnsCapture::Off);
        Self {
            capture: written.or(mesh.dns_capture()).unwrap_or(true),
            allocate_vips: dns.allocate_vips.or(mesh.dns_auto_allocate()).unwrap_or(true),
        }
    }
}

/// As the daemon would find them.
fn families_here() -> IpFamilies {
    match egressd_datapath::has_global_v6() {
        Ok(true) => IpFamilies::Dual,
        Ok(false) | Err(_) => IpFamilies::V4,
    }
}
