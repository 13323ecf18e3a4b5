//! `egressd.yaml` as it is written, key by key.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{
    AccessLogConfig, Answers, NodeConfig, capture::CaptureFile, dns::DnsFile, http::HttpFile,
    identity::IdentityFile,
};

/// The file, key by key.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub(super) node: NodeConfig,
    pub(super) resources: Option<Vec<PathBuf>>,
    pub(super) state_directory: PathBuf,
    pub(super) admin_socket: PathBuf,
    pub(super) metrics_address: Option<SocketAddr>,
    pub(super) capture: CaptureFile,
    pub(super) path: PathMode,
    pub(super) strict: bool,
    pub(super) answers: Answers,
    pub(super) drain_timeout: String,
    pub(super) identity: IdentityFile,
    pub(super) credentials: PathBuf,
    pub(super) dns: DnsFile,
    pub(super) access_log: AccessLogConfig,
    pub(super) http: HttpFile,
    /// Read from the text by the model, which keeps the places of what it finds.
    pub(super) mesh_config: serde_yaml::Value,
}

impl From<PathMode> for egressd_tables::PathMode {
    fn from(mode: PathMode) -> Self {
        match mode {
            PathMode::Auto => Self::Auto,
            PathMode::Proxy => Self::Proxy,
            PathMode::Direct => Self::Direct,
        }
    }
}

/// `path:`: how connections reach their endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(super) enum PathMode {
    #[default]
    Auto,
    Proxy,
    Direct,
}

impl Default for File {
    fn default() -> Self {
        Self {
            node: NodeConfig::default(),
            resources: None,
            state_directory: PathBuf::from("/var/lib/egressd"),
            metrics_address: None,
            admin_socket: PathBuf::from("/run/egressd/admin.sock"),
            capture: CaptureFile::default(),
            path: PathMode::default(),
            strict: false,
            answers: Answers::default(),
            drain_timeout: "30s".to_owned(),
            identity: IdentityFile::default(),
            credentials: PathBuf::from("credentials"),
            dns: DnsFile::default(),
            access_log: AccessLogConfig::default(),
            http: HttpFile::default(),
            mesh_config: serde_yaml::Value::Null,
        }
    }
}
