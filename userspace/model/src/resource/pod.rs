//! Pod manifests, as far as a ServiceEntry's workloadSelector needs them: labels are in the metadata.

use std::net::IpAddr;

/// A Pod. Fields that are not listed are accepted and not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// `status.podIPs`, or `status.podIP` alone. Without one the Pod is no endpoint.
    pub ips: Vec<IpAddr>,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `spec.nodeName`.
    pub node_name: String,
    /// Named container ports, for service ports that name them.
    pub ports: std::collections::BTreeMap<String, u16>,
}
