//! Who the node is and how its tables are compiled.

use std::time::Duration;

use egressd_model::resource::PathMode;
use egressd_model::value::{Labels, Locality};

/// Who we are to `exportTo`, Sidecar selection, `sourceLabels`, `sourceNamespace` and locality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The namespace the node counts as. Default `default`.
    pub namespace: String,
    /// The labels selectors look at. Default none.
    pub labels: Labels,
    /// Where the node is. Default unknown: localities then have no effect.
    pub locality: Locality,
    /// The address families the node can reach.
    pub families: IpFamilies,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            labels: Labels::new(),
            locality: Locality::default(),
            families: IpFamilies::V4,
        }
    }
}

/// The address families a node can reach: which of a pair of VIPs is used, and which records a name
/// is asked for (semantics.md §1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IpFamilies {
    /// IPv4 alone.
    #[default]
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

impl IpFamilies {
    /// Whether IPv4 is among them.
    pub fn v4(self) -> bool {
        matches!(self, Self::V4 | Self::Dual)
    }

    /// Whether IPv6 is among them.
    pub fn v6(self) -> bool {
        matches!(self, Self::V6 | Self::Dual)
    }
}

/// How tables are compiled, beside what the resources say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `strict: true`: SNI and Host are checked on VIP listeners too, and the destination of a
    /// `resolution: NONE` service must be one that its host resolves to. Default off, as Istio.
    pub strict: bool,
    /// Names are answered by us. Allocated VIPs are used only then (semantics.md §2). Default off.
    pub dns_capture: bool,
    /// Port of the explicit HTTP proxy on loopback. `None`: as `meshConfig.proxyHttpPort` says.
    pub http_proxy_port: Option<u16>,
    /// Which answers are given where ours differ from Istio's on purpose.
    pub answers: Answers,
    /// How long sniffing may wait for the first bytes. `None`: as
    /// `meshConfig.protocolDetectionTimeout` says, whose default 0 means for ever.
    pub detection_timeout: Option<Duration>,
    /// How connections reach endpoints where no annotation says otherwise. Default
    /// [`PathMode::Auto`].
    pub path: PathMode,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strict: false,
            dns_capture: false,
            http_proxy_port: None,
            answers: Answers::Ours,
            detection_timeout: None,
            path: PathMode::Auto,
        }
    }
}

/// Whose answer is given where egressd deliberately does better than Istio (semantics.md §9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Answers {
    /// Ours: a short destination name is literal if a service has that very name, and the explicit
    /// proxy heeds the port of the authority.
    #[default]
    Ours,
    /// Istio's, bug for bug: short names are always expanded (with an empty cluster domain), and the
    /// explicit proxy ignores the port of the authority.
    Istio,
}
