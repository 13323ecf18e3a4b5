//! `egressd.yaml`: the file as it is written, and the settings that come of it.
//!
//! Every key has a default, and an empty file is valid. Command-line flags override keys.

mod access_log;
mod cache;
mod capture;
mod dns;
mod duration;
mod fault;
mod file;
mod http;
mod identity;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use egressd_proxy::{HttpSettings, Sources};
use egressd_tables::PathMode;
use serde::Deserialize;

pub(crate) use self::{
    access_log::{AccessLogConfig, AccessLogSettings, LogEncoding},
    capture::{CaptureConfig, Namespaces, OnProxyDown, PIN_DIRECTORY},
    dns::{DnsCapture, DnsConfig},
    fault::ConfigError,
};
use self::{fault::Faults, file::File};

/// The name of the daemon's file in a configuration directory.
pub(crate) const FILE_NAME: &str = "egressd.yaml";

/// The settings of a daemon.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The file they come from, or the directory if it has none.
    pub(crate) path: PathBuf,
    /// Who this node is.
    pub(crate) node: NodeConfig,
    /// Files and directories with Istio's YAML.
    pub(crate) resources: Resources,
    /// Where state is kept.
    pub(crate) state_directory: PathBuf,
    /// Programs stay attached when the daemon is told to end: `--keep`.
    pub(crate) keep: bool,
    /// The administration socket.
    pub(crate) admin_socket: PathBuf,
    /// Where metrics are read by TCP; nowhere by default.
    pub(crate) metrics_address: Option<SocketAddr>,
    /// What is captured, and how.
    pub(crate) capture: CaptureConfig,
    /// How connections reach endpoints where no annotation says otherwise.
    pub(crate) path_mode: PathMode,
    /// The hardened answers of semantics.md §9.
    pub(crate) strict: bool,
    /// Whose answers are given where ours differ from Istio's on purpose.
    pub(crate) answers: Answers,
    /// How long flows may go on after SIGTERM.
    pub(crate) drain_timeout: Duration,
    /// What the file says of access records; MeshConfig has a say in it, too.
    pub(crate) access_log: AccessLogConfig,
    /// DNS capture and virtual addresses.
    pub(crate) dns: DnsConfig,
    /// Where mesh TLS and named credentials find their files.
    pub(crate) tls: Sources,
    /// Habits of the HTTP path.
    pub(crate) http: HttpSettings,
    /// The file's text, which holds `meshConfig` with its places.
    pub(crate) text: String,
}

/// The folder of resources beside egressd.yaml, where that names none.
const DEFAULT_RESOURCES: &str = "resources";

/// `resources:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resources {
    /// The key is left out: this folder, which need not be there.
    Default(PathBuf),
    /// Files and directories somebody has named, which must be there.
    Named(Vec<PathBuf>),
}

impl Resources {
    /// What is to be read, at this moment.
    pub(crate) fn to_read(&self) -> &[PathBuf] {
        match self {
            Self::Default(folder) if !folder.exists() => &[],
            Self::Default(folder) => std::slice::from_ref(folder),
            Self::Named(paths) => paths,
        }
    }

    /// What may hold resources, at this moment or later.
    pub(crate) fn to_watch(&self) -> &[PathBuf] {
        match self {
            Self::Default(folder) => std::slice::from_ref(folder),
            Self::Named(paths) => paths,
        }
    }
}

/// `node:`: who we are to exportTo, Sidecar and sourceLabels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// The namespace of this node. Default: `default`.
    pub(crate) namespace: String,
    /// Its labels. Default: none.
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    /// `region/zone/subzone`. Default: empty, no locality.
    pub(crate) locality: String,
}

/// `answers:`: what a configuration means where Istio's own answer does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answers {
    /// Ours, listed in the manual's decisions. The default.
    #[default]
    Egressd,
    /// Istio's, bug for bug.
    Istio,
}

impl From<Answers> for egressd_tables::Answers {
    fn from(answers: Answers) -> Self {
        match answers {
            Answers::Egressd => Self::Ours,
            Answers::Istio => Self::Istio,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            labels: std::collections::BTreeMap::new(),
            locality: String::new(),
        }
    }
}

impl Config {
    /// Reads a file, or a directory: its `egressd.yaml` if it has one, else every YAML file in it is
    /// a resource and every key has its default.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(read)?;
        if !metadata.is_dir() {
            return Self::parse(path, &fs::read_to_string(path).map_err(read)?);
        }
        let file = path.join(FILE_NAME);
        match fs::read_to_string(&file) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut config = Self::parse(&file, "")?;
                config.path = path.to_owned();
                config.resources = Resources::Named(vec![path.to_owned()]);
                Ok(config)
            }
            Err(source) => Err(ConfigError::Read { path: file, source }),
        }
    }

    /// The default of every key, for resources that are looked at without a file of the daemon's.
    pub(crate) fn of_resources(paths: Vec<PathBuf>) -> Result<Self, ConfigError> {
        let config = Self::parse(Path::new(FILE_NAME), "")?;
        Ok(Self { resources: Resources::Named(paths), ..config })
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut faults = Faults::new(path, text);
        let file = match serde_yaml::from_str::<Option<File>>(text) {
            Ok(file) => file.unwrap_or_default(),
            Err(error) => return Err(faults.of_yaml(&error)),
        };
        let base = path.parent().unwrap_or(Path::new("."));
        let drain_timeout = duration::parse(&file.drain_timeout).unwrap_or_else(|| {
            let text = &file.drain_timeout;
            faults.add("drainTimeout", format!("`{text}` is not a duration like 30s or 1m30s"));
            Duration::ZERO
        });
        let capture = file.capture.finish(&mut faults);
        let dns = file.dns.finish(&mut faults);
        let http = file.http.finish(&mut faults);
        let identity = file.identity.finish(base, &mut faults);
        faults.finish()?;
        Ok(Self {
            path: path.to_owned(),
            node: file.node,
            resources: match file.resources {
                None => Resources::Default(base.join(DEFAULT_RESOURCES)),
                Some(paths) => Resources::Named(paths.iter().map(|path| base.join(path)).collect()),
            },
            state_directory: file.state_directory,
            admin_socket: file.admin_socket,
            metrics_address: file.metrics_address,
            capture,
            keep: false,
            path_mode: file.path.into(),
            strict: file.strict,
            answers: file.answers,
            drain_timeout,
            access_log: file.access_log,
            dns,
            http,
            tls: identity::sources(identity, base.join(&file.credentials)),
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/etc/egressd/egressd.yaml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn empty_is_valid() {
        let config = parse("").unwrap();
        assert_eq!(config.resources, Resources::Default("/etc/egressd/resources".into()));
        assert_eq!(config.capture.port, 15001);
        assert_eq!(config.drain_timeout, Duration::from_secs(30));
        for empty in ["# only a comment\n", "{}"] {
            let text = String::new();
            assert_eq!(Config { text, ..parse(empty).unwrap() }, config);
        }
    }

    #[test]
    fn everything_of_the_design_is_accepted() {
        let config = parse(
            "node: {namespace: egress, labels: {app: x}, locality: a/b}\n\
             resources: [more, /abs]\n\
             stateDirectory: /tmp/s\n\
             adminSocket: /tmp/a\n\
             metricsAddress: 127.0.0.1:15090\n\
             capture: {cgroups: [/sys/fs/cgroup/x], onProxyDown: reject, excludeCidrs: [10.0.0.0/8], excludePorts: [22], port: 16001, namespaces: all, pinDirectory: /sys/fs/bpf/x}\n\
             path: auto\n\
             strict: true\n\
             answers: istio\n\
             drainTimeout: 1m30s\n\
             identity: {certificate: \"\", key: \"\", ca: \"\", trustDomain: cluster.local}\n\
             credentials: /run/secrets\n\
             dns: {capture: resolv.conf, upstreams: [1.1.1.1], allocateVips: false, cache: {maxStale: 1h}}\n\
             accessLog: {path: /tmp/log, encoding: JSON}\n\
             http: {envoyHeaders: true, requestHeadersTimeout: 5s, idleTimeout: 1m, streamIdleTimeout: 0s}\n\
             meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n",
        )
        .unwrap();
        assert_eq!(config.capture.on_proxy_down, OnProxyDown::Reject);
        assert_eq!(config.drain_timeout, Duration::from_secs(90));
        let paths = ["/etc/egressd/more", "/abs"].map(PathBuf::from);
        assert_eq!(config.resources, Resources::Named(paths.to_vec()));
        assert!(config.text.contains("REGISTRY_ONLY"));
        let credentials = Some(PathBuf::from("/run/secrets"));
        assert_eq!(config.tls, Sources { identity: None, credentials });
    }

    #[test]
    fn mistakes_have_a_place_and_a_key() {
        let said = |text| parse(text).unwrap_err();
        let at = |place: &str, rest: &str| {
            format!("/etc/egressd/egressd.yaml:{place}: error[invalid-config]: {rest}")
        };
        let unknown = said("node:\n  namspace: x\n");
        let expected = at("2:3", "node: unknown field `namspace`");
        assert!(unknown.starts_with(&expected), "{unknown}");
        assert_eq!(
            said("capture:\n  port: 65530\n  excludeCidrs: [10.1.0.0/16, 10.0.0.0/33]\n"),
            [
                at("2:9", "capture.port: 65530 is not between 1 and 65468"),
                at(
                    "3:31",
                    "capture.excludeCidrs[1]: `10.0.0.0/33` is not an address or network like \
                     10.0.0.0/8"
                ),
            ]
            .join("\n")
        );
        assert_eq!(
            said("# why\nidentity: {certificate: c}\n"),
            [
                at("2:1", "identity.key: an identity needs `certificate`, `key` and `ca`; this one is missing"),
                at("2:1", "identity.ca: an identity needs `certificate`, `key` and `ca`; this one is missing"),
            ]
            .join("\n")
        );
        let soon = at("2:15", "drainTimeout: `soon` is not a duration like 30s or 1m30s");
        assert_eq!(said("strict: true\ndrainTimeout: soon\n"), soon);
        let upstream = said("dns:\n  upstreams:\n  - 1.1.1.1\n  - nonsense\n");
        assert!(upstream.starts_with(&at("4:5", "dns.upstreams[1]: ")), "{upstream}");
        let mode = said("capture:\n  onProxyDown: perhaps\n");
        assert!(mode.starts_with(&at("2:16", "capture.onProxyDown: unknown variant")), "{mode}");
        let syntax = said("node: [\n");
        assert!(syntax.starts_with("/etc/egressd/egressd.yaml:"), "{syntax}");
    }
}
