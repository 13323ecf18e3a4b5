//! `egressd.yaml`: the file as it is written, and the settings that come of it.
//!
//! Every key has a default, and an empty file is valid. Command-line flags override keys.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use egressd_dns::Upstream;
use egressd_proxy::Sources;
use serde::Deserialize;

use self::identity::IdentityFile;

mod duration;
mod identity;

/// The name of the daemon's file in a configuration directory.
pub(crate) const FILE_NAME: &str = "egressd.yaml";

/// Why the daemon's own file is no good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file or directory cannot be read.
    #[error("reading {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    /// The text is not what it should be; serde_yaml says where.
    #[error("{path}:{line}:{column}: {message}")]
    Parse { path: PathBuf, line: usize, column: usize, message: String },
    /// A value is outside its limits.
    #[error("{path}: {key}: {message}")]
    Value { path: PathBuf, key: &'static str, message: String },
}

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
    /// The administration socket.
    pub(crate) admin_socket: PathBuf,
    /// What is captured, and how.
    pub(crate) capture: CaptureConfig,
    /// The hardened answers of semantics.md §9.
    pub(crate) strict: bool,
    /// Whose answers are given where ours differ from Istio's on purpose.
    pub(crate) answers: Answers,
    /// How long flows may go on after SIGTERM.
    pub(crate) drain_timeout: Duration,
    /// Where access records go.
    pub(crate) access_log: AccessLogConfig,
    /// DNS capture and virtual addresses.
    pub(crate) dns: DnsConfig,
    /// Where mesh TLS and named credentials find their files.
    pub(crate) tls: Sources,
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

/// `capture:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CaptureConfig {
    /// The cgroups whose processes are captured; none means the cgroup2 root.
    pub(crate) cgroups: Vec<PathBuf>,
    /// What happens to a connection where the proxy does not listen.
    pub(crate) on_proxy_down: OnProxyDown,
    /// Destinations that are left alone: address and length of the prefix.
    pub(crate) exclude_cidrs: Vec<(IpAddr, u8)>,
    /// Ports that are left alone.
    pub(crate) exclude_ports: Vec<u16>,
    /// The proxy's port on its spread addresses; the fifteen after it are used on `::1` too.
    pub(crate) port: u16,
    /// In which network namespaces connections are captured.
    pub(crate) namespaces: Namespaces,
}

/// `capture.namespaces`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Namespaces {
    /// The daemon's own. The default: what is captured elsewhere leaves by our namespace, so that a
    /// sandbox without a network would get one.
    #[default]
    Own,
    /// Every one that a captured process connects in.
    All,
}

impl CaptureConfig {
    /// The DNS server's port on its spread addresses; the fifteen after it are used on `::1` too.
    pub(crate) fn dns_port(&self) -> u16 {
        self.port + DNS_PORT_OFFSET
    }
}

/// How far the DNS server's port is above the proxy's: 15053 above 15001, as Istio has them.
const DNS_PORT_OFFSET: u16 = 52;
/// The highest port of the proxy that leaves room for all the others.
const HIGHEST_PORT: u16 = u16::MAX - DNS_PORT_OFFSET - 15;

/// `capture.onProxyDown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnProxyDown {
    /// The connection goes where it was going. The default.
    #[default]
    Passthrough,
    /// ECONNREFUSED.
    Reject,
}

/// `accessLog:`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessLogConfig {
    /// A file, `/dev/stdout`, or empty for none. Default: `/dev/stdout`.
    pub(crate) path: String,
    /// `TEXT` (the default) or `JSON`.
    pub(crate) encoding: LogEncoding,
}

/// `accessLog.encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum LogEncoding {
    /// Istio's default line.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `dns:`. Keys left out fall back to what MeshConfig says, then to the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DnsConfig {
    /// Whose queries are captured.
    pub(crate) capture: Option<DnsCapture>,
    /// Servers to ask instead of those of resolv.conf.
    pub(crate) upstreams: Vec<Upstream>,
    /// Whether services without an address get one. Default: true.
    pub(crate) allocate_vips: Option<bool>,
}

/// `dns.capture`: the servers whose queries are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DnsCapture {
    /// `resolv.conf`: those that programs ask by default, and those behind a local stub.
    ResolvConf,
    /// `all`: every server.
    All,
    /// `none`: DNS is left alone.
    Off,
    /// A list of addresses.
    Listed(Vec<IpAddr>),
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct DnsFile {
    capture: Option<CaptureWord>,
    upstreams: Vec<String>,
    allocate_vips: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`dns.capture` is `resolv.conf`, `all`, `none`, or a list of addresses"
)]
enum CaptureWord {
    Word(CaptureMode),
    Servers(Vec<IpAddr>),
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum CaptureMode {
    #[serde(rename = "resolv.conf")]
    ResolvConf,
    #[serde(rename = "all")]
    All,
    #[serde(rename = "none")]
    Off,
}

/// `path:`: how connections reach their endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum PathMode {
    #[default]
    Auto,
    Proxy,
    Direct,
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

/// The file, key by key.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct File {
    node: NodeConfig,
    resources: Option<Vec<PathBuf>>,
    state_directory: PathBuf,
    admin_socket: PathBuf,
    capture: CaptureFile,
    path: PathMode,
    strict: bool,
    answers: Answers,
    #[serde(deserialize_with = "duration::deserialize")]
    drain_timeout: Duration,
    identity: IdentityFile,
    credentials: PathBuf,
    dns: DnsFile,
    access_log: AccessLogConfig,
    /// Read from the text by the model, which keeps the places of what it finds.
    mesh_config: serde_yaml::Value,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct CaptureFile {
    cgroups: Vec<PathBuf>,
    on_proxy_down: OnProxyDown,
    exclude_cidrs: Vec<String>,
    exclude_ports: Vec<u16>,
    port: u16,
    namespaces: Namespaces,
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

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { path: "/dev/stdout".to_owned(), encoding: LogEncoding::Text }
    }
}

impl Default for CaptureFile {
    fn default() -> Self {
        Self {
            cgroups: Vec::new(),
            on_proxy_down: OnProxyDown::default(),
            exclude_cidrs: Vec::new(),
            exclude_ports: Vec::new(),
            port: 15001,
            namespaces: Namespaces::default(),
        }
    }
}

impl Default for File {
    fn default() -> Self {
        Self {
            node: NodeConfig::default(),
            resources: None,
            state_directory: PathBuf::from("/var/lib/egressd"),
            admin_socket: PathBuf::from("/run/egressd/admin.sock"),
            capture: CaptureFile::default(),
            path: PathMode::default(),
            strict: false,
            answers: Answers::default(),
            drain_timeout: Duration::from_secs(30),
            identity: IdentityFile::default(),
            credentials: PathBuf::from("credentials"),
            dns: DnsFile::default(),
            access_log: AccessLogConfig::default(),
            mesh_config: serde_yaml::Value::Null,
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
        let file: Option<File> = serde_yaml::from_str(text).map_err(|error| {
            let at = error.location();
            ConfigError::Parse {
                path: path.to_owned(),
                line: at.as_ref().map_or(1, serde_yaml::Location::line),
                column: at.as_ref().map_or(1, serde_yaml::Location::column),
                message: error.to_string(),
            }
        })?;
        let file = file.unwrap_or_default();
        let value = |key, message| ConfigError::Value { path: path.to_owned(), key, message };
        let base = path.parent().unwrap_or(Path::new("."));
        if file.capture.port == 0 || file.capture.port > HIGHEST_PORT {
            let limits = format!("{} is not between 1 and {HIGHEST_PORT}", file.capture.port);
            return Err(value("capture.port", limits));
        }
        if file.path == PathMode::Direct {
            let why = "`direct` is not available: use `auto` or `proxy`".to_owned();
            return Err(value("path", why));
        }
        let identity = file.identity.finish(base).map_err(|(key, why)| value(key, why))?;
        let exclude_cidrs = file
            .capture
            .exclude_cidrs
            .iter()
            .map(|text| {
                parse_cidr(text).ok_or_else(|| {
                    let message = format!("`{text}` is not an address or network like 10.0.0.0/8");
                    value("capture.excludeCidrs", message)
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            path: path.to_owned(),
            node: file.node,
            resources: match file.resources {
                None => Resources::Default(base.join(DEFAULT_RESOURCES)),
                Some(paths) => Resources::Named(paths.iter().map(|path| base.join(path)).collect()),
            },
            state_directory: file.state_directory,
            admin_socket: file.admin_socket,
            capture: CaptureConfig {
                cgroups: file.capture.cgroups,
                on_proxy_down: file.capture.on_proxy_down,
                exclude_cidrs,
                exclude_ports: file.capture.exclude_ports,
                port: file.capture.port,
                namespaces: file.capture.namespaces,
            },
            strict: file.strict,
            answers: file.answers,
            drain_timeout: file.drain_timeout,
            access_log: file.access_log,
            dns: file.dns.into_config().map_err(|text| value("dns.upstreams", text))?,
            tls: identity::sources(identity, base.join(&file.credentials)),
            text: text.to_owned(),
        })
    }
}

impl DnsFile {
    fn into_config(self) -> Result<DnsConfig, String> {
        let capture = self.capture.map(|capture| match capture {
            CaptureWord::Word(CaptureMode::ResolvConf) => DnsCapture::ResolvConf,
            CaptureWord::Word(CaptureMode::All) => DnsCapture::All,
            CaptureWord::Word(CaptureMode::Off) => DnsCapture::Off,
            CaptureWord::Servers(servers) => DnsCapture::Listed(servers),
        });
        let upstream = |text: &String| text.parse().map_err(|error| format!("{error}"));
        let upstreams = self.upstreams.iter().map(upstream).collect::<Result<_, String>>()?;
        Ok(DnsConfig { capture, upstreams, allocate_vips: self.allocate_vips })
    }
}

/// An address, or an address and the length of a prefix.
fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(all);
    (bits <= all).then_some((address, bits))
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
             capture: {cgroups: [/sys/fs/cgroup/x], onProxyDown: reject, excludeCidrs: [10.0.0.0/8], excludePorts: [22], port: 16001, namespaces: all}\n\
             path: auto\n\
             strict: true\n\
             answers: istio\n\
             drainTimeout: 1m30s\n\
             identity: {certificate: \"\", key: \"\", ca: \"\", trustDomain: cluster.local}\n\
             credentials: /run/secrets\n\
             dns: {capture: resolv.conf, upstreams: [1.1.1.1], allocateVips: false}\n\
             accessLog: {path: /tmp/log, encoding: JSON}\n\
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
    fn mistakes_have_a_place() {
        let said = |text| parse(text).unwrap_err();
        let unknown = said("node:\n  namspace: x\n");
        assert!(unknown.starts_with("/etc/egressd/egressd.yaml:2:3: "), "{unknown}");
        assert!(unknown.contains("unknown field `namspace`"), "{unknown}");
        assert!(said("capture: {excludeCidrs: [10.0.0.0/33]}").contains("capture.excludeCidrs"));
        assert!(said("capture: {port: 65530}").contains("between 1 and 65468"));
        assert!(said("identity: {certificate: c}").contains("identity.key: an identity needs"));
        assert!(said("drainTimeout: soon").contains("`soon` is not a duration like 30s"));
    }
}
