//! `dns:`: whose queries are answered, and whether hosts get addresses.

use std::net::IpAddr;

use egressd_dns::Upstream;
use serde::Deserialize;

use super::{
    cache::{CacheFile, DnsCache},
    fault::Faults,
};

/// `dns:`. Keys left out fall back to what MeshConfig says, then to the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DnsConfig {
    /// Whose queries are captured.
    pub(crate) capture: Option<DnsCapture>,
    /// Servers to ask instead of those of resolv.conf.
    pub(crate) upstreams: Vec<Upstream>,
    /// Whether services without an address get one. Default: true.
    pub(crate) allocate_vips: Option<bool>,
    /// Whether names that requests bring, and ports that nobody has declared, may lead to what only
    /// this node, its link or its cloud can reach, or to this node. Default: false.
    pub(crate) allow_local_addresses: bool,
    /// How long answers are good for the proxy.
    pub(crate) cache: DnsCache,
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

/// The key, as it is written.
#[derive(Debug, Deserialize, Default)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DnsFile {
    capture: Option<CaptureWord>,
    upstreams: Vec<String>,
    allocate_vips: Option<bool>,
    allow_local_addresses: bool,
    cache: CacheFile,
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

impl DnsFile {
    /// Its settings; what is wrong goes to `faults`.
    pub(super) fn finish(self, faults: &mut Faults<'_>) -> DnsConfig {
        let capture = self.capture.map(|capture| match capture {
            CaptureWord::Word(CaptureMode::ResolvConf) => DnsCapture::ResolvConf,
            CaptureWord::Word(CaptureMode::All) => DnsCapture::All,
            CaptureWord::Word(CaptureMode::Off) => DnsCapture::Off,
            CaptureWord::Servers(servers) => DnsCapture::Listed(servers),
        });
        let mut upstreams = Vec::new();
        for (index, text) in self.upstreams.iter().enumerate() {
            match text.parse() {
                Ok(upstream) => upstreams.push(upstream),
                Err(error) => faults.add(&format!("dns.upstreams[{index}]"), format!("{error}")),
            }
        }
        let Self { allocate_vips, allow_local_addresses, cache, .. } = self;
        let cache = cache.finish(faults);
        DnsConfig { capture, upstreams, allocate_vips, allow_local_addresses, cache }
    }
}
