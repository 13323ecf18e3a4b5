//! `AUTO_PASSTHROUGH`: TLS between workloads of the mesh is passed on by the name that their proxies
//! give it, `outbound_.PORT_.SUBSET_.HOST`, without a rule.

use std::sync::Arc;

use egressd_model::value::HostPattern;

use crate::chain::{Chain, ChainAction};
use crate::cluster::{Cluster, ClusterRef, ClusterService, Discovery, UpstreamTls};
use crate::compile::clusters::ByName;
use crate::compile::context::Context;
use crate::compile::gateways::{Bound, chain};
use crate::tcp::TcpRoute;

/// A chain for each cluster of the services that the server's hosts cover. Their clusters, which
/// bear these names and carry the client's bytes as they are, are added to `made`.
pub(super) fn chains(
    context: &Context<'_, '_>,
    one: &Bound<'_, '_>,
    made: &mut ByName,
) -> Vec<Chain> {
    let served = context.clusters.values().filter_map(|cluster| {
        let of = cluster.service()?;
        (has_endpoints(cluster) && serves(one, of)).then(|| (name(of), cluster))
    });
    let mut served: Vec<_> = served.collect();
    // Their order in a map changes from run to run.
    served.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    served
        .into_iter()
        .map(|(name, cluster)| {
            let cluster = plain(&name, cluster, made);
            let route = TcpRoute::to(ClusterRef::Known(cluster));
            chain(&name, vec![HostPattern::new(&name)], ChainAction::Tcp(Arc::new(route)))
        })
        .collect()
}

/// What a client's proxy calls a cluster in its ClientHello; `outbound_.PORT_._.HOST` without a subset.
fn name(of: &ClusterService) -> String {
    format!("outbound_.{}_.{}_.{}", of.port, of.subset, of.host)
}

/// Whether a cluster leads somewhere by itself: a client's original destination is this gateway.
fn has_endpoints(cluster: &Cluster) -> bool {
    match cluster.discovery {
        Discovery::Static | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => true,
        Discovery::OriginalDst { .. } | Discovery::DynamicForwardProxy { .. } => false,
    }
}

/// Whether one of the server's hosts, `namespace/host`, covers a service.
fn serves(one: &Bound<'_, '_>, of: &ClusterService) -> bool {
    let own: &str = &one.gateway.meta.namespace;
    let host = HostPattern::new(&of.host);
    one.server.hosts.iter().any(|written| {
        let namespace = match written.namespace.as_deref() {
            None | Some("*") => true,
            Some(".") => *of.namespace == *own,
            Some(other) => *of.namespace == *other,
        };
        namespace && host.is_subset_of(&written.host)
    })
}

/// The same endpoints without TLS of our own: it is between the client and the endpoint.
fn plain(name: &str, cluster: &Cluster, made: &mut ByName) -> Arc<Cluster> {
    if let Some(known) = made.get(name) {
        return Arc::clone(known);
    }
    let name: Arc<str> = Arc::from(name);
    let (tls, tunnel) = (UpstreamTls::Plaintext, None);
    let plain = Arc::new(Cluster { name: Arc::clone(&name), tls, tunnel, ..cluster.clone() });
    made.insert(name, Arc::clone(&plain));
    plain
}
