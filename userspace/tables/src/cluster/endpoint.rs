//! Endpoints and their groups.

use std::sync::Arc;

use egressd_model::value::{EndpointAddress, Labels, Locality};

/// One place a cluster's connections may go to. A name stands for all addresses it resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An IP address, a name or a Unix socket.
    pub address: EndpointAddress,
    /// The port; 0 for a Unix socket.
    pub port: u16,
    /// Share within its group, at least 1. Default 1.
    pub weight: u32,
    /// The labels subsets select by.
    pub labels: Arc<Labels>,
    /// The endpoint speaks mesh TLS: label `security.istio.io/tlsMode: istio`, or a service account
    /// without that label (semantics.md §1.3).
    pub mesh_tls: bool,
    /// The SPIFFE identity expected of it under mesh TLS.
    pub service_account: Option<Arc<str>>,
    /// The WorkloadEntry or Pod it comes from, `namespace/name`; nothing for an inline endpoint.
    pub workload: Option<Arc<str>>,
}

/// Endpoints of one locality and one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointGroup {
    /// Where they are.
    pub locality: Locality,
    /// 0 is used first; the next only as far as the ones before it are unhealthy.
    pub priority: u32,
    /// Share among the groups of one priority, if localities are weighted; the sum of the endpoints'
    /// weights unless `distribute` says otherwise.
    pub weight: u32,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}
