//! The outbound traffic policy: what becomes of traffic that no service has (semantics.md §5).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use egressd_model::resource::{MeshConfig, MeshPolicyMode};

use crate::chain::{Chain, ChainAction, ChainIndex};
use crate::cluster::{
    BLACK_HOLE, Cluster, ClusterKind, ClusterRef, ConnectionPool, Discovery, LbPolicy,
    LoadBalancer, PASSTHROUGH, UpstreamHttp, UpstreamTls,
};
use crate::listener::{Bind, Listener, Sniff, VIRTUAL_OUTBOUND};
use crate::tcp::TcpRoute;

/// What becomes of traffic that no service has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Policy {
    /// It goes where it was dialled.
    AllowAny,
    /// It is refused.
    RegistryOnly,
}

impl Policy {
    pub(crate) fn of_mesh(mesh: &MeshConfig) -> Self {
        match mesh.outbound_traffic_policy.mode() {
            MeshPolicyMode::RegistryOnly => Self::RegistryOnly,
            MeshPolicyMode::AllowAny | MeshPolicyMode::AllowAnyDynamicDns => Self::AllowAny,
        }
    }

    /// The listener for destinations that no other one has.
    pub(crate) fn virtual_outbound(
        &self,
        clusters: &BTreeMap<Arc<str>, Arc<Cluster>>,
    ) -> Arc<Listener> {
        let chain = self.catch_all(clusters);
        Arc::new(Listener {
            name: Arc::from(VIRTUAL_OUTBOUND),
            bind: Bind::Wildcard,
            port: 0,
            sniff: Sniff::default(),
            chains: vec![Arc::clone(&chain)],
            default_chain: chain,
            services: Vec::new(),
            conflicts: Vec::new(),
            index: ChainIndex::default(),
        })
    }

    fn catch_all(&self, clusters: &BTreeMap<Arc<str>, Arc<Cluster>>) -> Arc<Chain> {
        let name: Arc<str> = Arc::from(match self {
            Self::AllowAny => PASSTHROUGH,
            Self::RegistryOnly => BLACK_HOLE,
        });
        let cluster = match clusters.get(&name) {
            Some(cluster) => ClusterRef::Known(Arc::clone(cluster)),
            None => ClusterRef::Missing(Arc::clone(&name)),
        };
        Arc::new(Chain {
            name,
            destinations: Vec::new(),
            server_names: Vec::new(),
            http_only: false,
            catch_all: true,
            service: None,
            action: ChainAction::Tcp(Arc::new(TcpRoute::to(cluster))),
            expected: None,
        })
    }
}

/// The clusters that always exist.
pub(crate) fn clusters(mesh: &MeshConfig) -> Vec<Arc<Cluster>> {
    let cluster = |name: &str, kind, discovery, policy| Cluster {
        name: Arc::from(name),
        kind,
        discovery,
        endpoints: Vec::new(),
        load_balancer: LoadBalancer {
            policy,
            locality_weighted: false,
            warmup: None,
            panic_threshold: 0.0,
            hash: None,
        },
        connect_timeout: mesh.connect_timeout(),
        pool: ConnectionPool {
            http_idle_timeout: Some(PASSTHROUGH_IDLE),
            ..ConnectionPool::default()
        },
        outlier: None,
        health_check: None,
        tls: UpstreamTls::Plaintext,
        http: UpstreamHttp::AsDownstream,
        tunnel: None,
        proxy_protocol: None,
    };
    let original = Discovery::OriginalDst { port: None };
    let passthrough =
        cluster(PASSTHROUGH, ClusterKind::Passthrough, original, LbPolicy::ClusterProvided);
    let black_hole =
        cluster(BLACK_HOLE, ClusterKind::BlackHole, Discovery::Static, LbPolicy::RoundRobin);
    vec![Arc::new(passthrough), Arc::new(black_hole)]
}

/// When an idle HTTP connection of PassthroughCluster is closed (semantics.md §4).
const PASSTHROUGH_IDLE: Duration = Duration::from_secs(300);
