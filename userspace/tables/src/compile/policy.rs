//! The outbound traffic policy: what becomes of traffic that no service has (semantics.md §5).

use std::sync::Arc;
use std::time::Duration;

use egressd_model::resource::{MeshConfig, MeshPolicyMode};
use egressd_model::value::IpRange;

use crate::chain::{Chain, ChainAction, ChainIndex};
use crate::cluster::{
    BLACK_HOLE, Cluster, ClusterKind, ClusterRef, ConnectionPool, DYNAMIC_DNS, Discovery, LbPolicy,
    LoadBalancer, PASSTHROUGH, UpstreamHttp, UpstreamTls,
};
use crate::compile::clusters::{self, ByName};
use crate::compile::scope::Outbound;
use crate::compile::short_names::ShortNames;
use crate::compile::{tls, vhosts};
use crate::host_map::HostMap;
use crate::listener::{Bind, Listener, ListenerRules, Sniff, VIRTUAL_OUTBOUND};
use crate::options::{Answers, Node, Options};
use crate::route::{
    ALLOW_ANY, BLOCK_ALL, Destination, Destinations, Domains, Forward, HeaderOps, PortRule,
    RouteAction, RouteTable, VhostOrigin, VirtualHost,
};
use crate::tcp::TcpRoute;

/// What becomes of traffic that no service has, compiled.
pub(crate) struct Policy {
    mode: MeshPolicyMode,
    /// Where connections go.
    connections: ClusterRef,
    /// Where requests go; nothing refuses them.
    requests: Option<ClusterRef>,
    black_hole: ClusterRef,
    /// The chain of every listener that has no better one.
    pub(crate) chain: Arc<Chain>,
}

impl Policy {
    pub(crate) fn new(outbound: &Outbound<'_>, names: &ShortNames, known: &ByName) -> Self {
        let cluster = |name: &str| match known.get(name) {
            Some(cluster) => ClusterRef::Known(Arc::clone(cluster)),
            None => ClusterRef::Missing(Arc::from(name)),
        };
        let proxy = outbound.egress_proxy.map(|(to, namespace)| {
            let host = names.resolve_text(&to.host, namespace);
            cluster(&clusters::name(to.port_number().unwrap_or(0), &to.subset, &host))
        });
        let (connections, requests) = match (outbound.mode, proxy) {
            (MeshPolicyMode::RegistryOnly, _) => (cluster(BLACK_HOLE), None),
            (MeshPolicyMode::AllowAny | MeshPolicyMode::AllowAnyDynamicDns, Some(proxy)) => {
                (proxy.clone(), Some(proxy))
            }
            (MeshPolicyMode::AllowAny, None) => (cluster(PASSTHROUGH), Some(cluster(PASSTHROUGH))),
            (MeshPolicyMode::AllowAnyDynamicDns, None) => {
                (cluster(PASSTHROUGH), Some(cluster(DYNAMIC_DNS)))
            }
        };
        let route = ChainAction::Tcp(Arc::new(TcpRoute::to(connections.clone())));
        let chain = Arc::new(catch_all_chain(connections.name(), Vec::new(), route));
        Self { mode: outbound.mode, connections, requests, black_hole: cluster(BLACK_HOLE), chain }
    }

    /// Whether unknown destinations are refused.
    pub(crate) fn denies(&self) -> bool {
        self.mode == MeshPolicyMode::RegistryOnly
    }

    /// Whether unknown destinations need the proxy: they are neither refused nor simply let through.
    pub(crate) fn needs_proxy(&self) -> bool {
        let plain = [PASSTHROUGH, BLACK_HOLE];
        !plain.contains(&&**self.connections.name()) || self.resolves_requests()
    }

    /// Whether plain HTTP is resolved by its Host.
    fn resolves_requests(&self) -> bool {
        self.requests.as_ref().is_some_and(|cluster| **cluster.name() == *DYNAMIC_DNS)
    }

    /// The virtual host of requests that no other one has.
    pub(crate) fn virtual_host(&self) -> Arc<VirtualHost> {
        let name = if self.requests.is_some() { ALLOW_ANY } else { BLOCK_ALL };
        self.named_virtual_host(name, name)
    }

    fn named_virtual_host(&self, name: &str, route: &str) -> Arc<VirtualHost> {
        let action = match &self.requests {
            None => RouteAction::Respond { status: 502, body: Arc::from([]) },
            Some(cluster) => RouteAction::Forward(Box::new(Forward {
                destinations: Destinations::Single(Destination {
                    cluster: cluster.clone(),
                    weight: 1,
                    request_headers: HeaderOps::default(),
                    response_headers: HeaderOps::default(),
                    authority: None,
                }),
                // Neither timeout nor retries (semantics.md §5).
                timeout: None,
                retry: None,
                rewrite: None,
                authority: None,
                mirrors: Vec::new(),
                hash: Vec::new(),
            })),
        };
        Arc::new(VirtualHost {
            name: Arc::from(name),
            domains: vec![Arc::from("*")],
            routes: Arc::from([Arc::new(vhosts::default_route(Arc::from(route), action))]),
            origin: VhostOrigin::CatchAll,
        })
    }

    /// The listener for destinations that no other one has.
    pub(crate) fn virtual_outbound(
        &self,
        options: &Options,
        timeout: Option<Duration>,
    ) -> Listener {
        let mut chains = Vec::new();
        if self.resolves_requests() {
            chains.push(Arc::new(Chain { http_only: true, ..self.inline_chain() }));
        }
        let http = !chains.is_empty();
        chains.push(Arc::clone(&self.chain));
        let rules = ListenerRules {
            name: Some(Arc::from(VIRTUAL_OUTBOUND)),
            is_socket: false,
            sniff: Sniff { tls: http, http, timeout: timeout.filter(|_| http) },
            default_chain: Arc::clone(&self.chain),
            index: ChainIndex::of(&chains),
            chains: chains.into(),
            services: Box::default(),
            conflicts: Box::default(),
            reserved: match options.answers {
                Answers::Ours => None,
                Answers::Istio => Some(self.reserved_chain()),
            },
        };
        Listener { bind: Bind::Wildcard, port: 0, rules: Arc::new(rules) }
    }

    /// Requests to destinations without a listener, under ALLOW_ANY_DYNAMIC_DNS.
    fn inline_chain(&self) -> Chain {
        let vhost = self.named_virtual_host(ALLOW_ANY, "");
        let mut domains = HostMap::default();
        domains.insert("*", Arc::clone(&vhost));
        let table = RouteTable {
            name: Arc::from(""),
            virtual_hosts: vec![vhost],
            domains: PortRule::Ignored(Domains(domains)),
            expected: None,
        };
        catch_all_chain(DYNAMIC_DNS, Vec::new(), ChainAction::Http(Arc::new(table)))
    }

    /// Istio's own ports lead nowhere.
    fn reserved_chain(&self) -> Arc<Chain> {
        let route = ChainAction::Tcp(Arc::new(TcpRoute::to(self.black_hole.clone())));
        Arc::new(catch_all_chain(BLACK_HOLE, Vec::new(), route))
    }
}

fn catch_all_chain(name: &str, destinations: Vec<IpRange>, action: ChainAction) -> Chain {
    Chain {
        name: Arc::from(name),
        destinations,
        server_names: Vec::new(),
        http_only: false,
        catch_all: true,
        service: None,
        action,
        terminate: None,
        expected: None,
    }
}

/// The clusters that exist without any service.
pub(crate) fn clusters(mesh: &MeshConfig, node: &Node, mode: MeshPolicyMode, into: &mut ByName) {
    let connections = |name: &str, kind, discovery, policy| Cluster {
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
        verify_destination: None,
        rules: Vec::new(),
    };
    let original = Discovery::OriginalDst { port: None };
    let mut all = vec![
        connections(PASSTHROUGH, ClusterKind::Passthrough, original, LbPolicy::ClusterProvided),
        connections(BLACK_HOLE, ClusterKind::BlackHole, Discovery::Static, LbPolicy::RoundRobin),
    ];
    if mode == MeshPolicyMode::AllowAnyDynamicDns {
        let discovery = Discovery::DynamicForwardProxy { port: 80, families: node.families };
        let policy = LbPolicy::ClusterProvided;
        let mut cluster = connections(DYNAMIC_DNS, ClusterKind::DynamicDns, discovery, policy);
        let settings = mesh.outbound_traffic_policy.tls.as_ref().map(|tls| &tls.value);
        cluster.tls = tls::of_unknown(settings);
        all.push(cluster);
    }
    into.extend(all.into_iter().map(|cluster| (Arc::clone(&cluster.name), Arc::new(cluster))));
}

/// When an idle HTTP connection of PassthroughCluster is closed (semantics.md §4).
const PASSTHROUGH_IDLE: Duration = Duration::from_secs(300);
