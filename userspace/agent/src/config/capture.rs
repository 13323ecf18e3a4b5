//! `capture:`: what is captured, and how.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;

use super::fault::Faults;

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
    /// Where programs, counts and connections are pinned, so that they outlive the daemon's sudden
    /// end; nothing: nowhere.
    pub(crate) pin_directory: Option<PathBuf>,
}

/// Where pins are by default: a folder of bpffs.
pub(crate) const PIN_DIRECTORY: &str = "/sys/fs/bpf/egressd";

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

/// The key, as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CaptureFile {
    cgroups: Vec<PathBuf>,
    on_proxy_down: OnProxyDown,
    exclude_cidrs: Vec<String>,
    exclude_ports: Vec<u16>,
    port: u16,
    namespaces: Namespaces,
    pin_directory: PathBuf,
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
            pin_directory: PathBuf::from(PIN_DIRECTORY),
        }
    }
}

impl CaptureFile {
    /// Its settings; what is wrong goes to `faults`.
    pub(super) fn finish(self, faults: &mut Faults<'_>) -> CaptureConfig {
        if self.port == 0 || self.port > HIGHEST_PORT {
            let why = format!("{} is not between 1 and {HIGHEST_PORT}", self.port);
            faults.add("capture.port", why);
        }
        let mut exclude_cidrs = Vec::new();
        for (index, text) in self.exclude_cidrs.iter().enumerate() {
            match parse_cidr(text) {
                Some(cidr) => exclude_cidrs.push(cidr),
                None => faults.add(
                    &format!("capture.excludeCidrs[{index}]"),
                    format!("`{text}` is not an address or network like 10.0.0.0/8"),
                ),
            }
        }
        CaptureConfig {
            cgroups: self.cgroups,
            on_proxy_down: self.on_proxy_down,
            exclude_cidrs,
            exclude_ports: self.exclude_ports,
            port: self.port,
            namespaces: self.namespaces,
            pin_directory: Some(self.pin_directory).filter(|path| !path.as_os_str().is_empty()),
        }
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
