//! One cluster for each port of each service, and one for each subset (semantics.md §1.2, §4).

use std::sync::Arc;

use egressd_model::resource::{
    Key, Location, MeshConfig, ProxyProtocolVersion, Resolution, ServiceEntry, SimpleLoadBalancer,
    Subset, TunnelProtocol,
};
use egressd_model::value::{Protocol, selects};

use crate::cluster::{
    Cluster, ClusterKind, ClusterService, Discovery, LbPolicy, ProxyProtocol, Tunnel,
};
use crate::compile::destination_rules::{DestinationRules, Effective, Merged};
use crate::compile::endpoints::{Located, Workloads};
use crate::compile::memo::{ClustersOf, Id, KnownClusters, Memo};
use crate::compile::services::{Part, Services};
use crate::compile::{balance, extensions, locality, outlier, pool, tls};
use crate::fast::FastMap;
use crate::options::{Node, Options};
use crate::service::{Port, Service, ServiceId};

/// What clusters are made of.
pub(crate) struct Clusters<'a, 'm> {
    pub(crate) mesh: &'m MeshConfig,
    pub(crate) node: &'m Node,
    pub(crate) options: &'a Options,
    pub(crate) rules: &'a DestinationRules<'m>,
    pub(crate) workloads: &'a Workloads<'m>,
    pub(crate) memo: &'a Memo,
}

/// The clusters of each service, by its place; nothing where a cluster may be another service's.
#[derive(Clone, Debug)]
pub(crate) struct Made(Arc<Vec<Option<ClustersOf>>>);

impl Made {
    /// Puts other clusters in the place of a service's.
    pub(crate) fn set(&mut self, id: ServiceId, clusters: ClustersOf) {
        let place = usize::try_from(id.0).ok();
        if let Some(slot) = place.and_then(|place| Arc::make_mut(&mut self.0).get_mut(place)) {
            *slot = Some(clusters);
        }
    }

    /// The clusters of a service.
    pub(crate) fn of(&self, id: ServiceId) -> Option<&ClustersOf> {
        self.0.get(usize::try_from(id.0).ok()?)?.as_ref()
    }
}

/// Clusters by name.
pub(crate) type ByName = FastMap<Arc<str>, Arc<Cluster>>;

/// `outbound|PORT|SUBSET|HOST`.
pub(crate) fn name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

impl<'m> Clusters<'_, 'm> {
    /// The clusters of all services. Where two namespaces have the same host, the first listener's
    /// choice stands.
    pub(crate) fn build(&self, services: &Services<'m>, into: &mut ByName) -> Made {
        let all = &services.directory.all;
        into.reserve(all.len());
        let mut made = vec![None; all.len()];
        for seen in &services.seen {
            for view in &seen.views {
                let place = usize::try_from(view.service.0).unwrap_or(usize::MAX);
                if made.get(place).is_none_or(Option::is_some) {
                    continue;
                }
                let (service, parts) = (all.get(place), services.parts.get(place));
                let (Some(service), Some(parts)) = (service, parts) else { continue };
                let clusters = self.of(service, parts);
                for cluster in clusters.iter() {
                    into.entry(Arc::clone(&cluster.name)).or_insert_with(|| Arc::clone(cluster));
                }
                if let Some(slot) = made.get_mut(place) {
                    *slot = Some(clusters);
                }
            }
        }
        // Where a second listener may have another service of the same name, only names tell.
        Made(Arc::new(if services.seen.len() == 1 { made } else { Vec::new() }))
    }

    /// The clusters of a service: those of the compilation before, if nothing of them has changed.
    fn of(&self, service: &Arc<Service>, parts: &[Part<'m>]) -> ClustersOf {
        let rule = self.rules.find(&service.host, &service.namespace);
        let selects = parts.iter().any(|(_, entry)| entry.workload_selector.is_some());
        let holds = |known: &KnownClusters| {
            Arc::ptr_eq(&known.service, service)
                && (self.memo.same_workloads || !selects)
                && rule.map_or(known.rules.is_empty(), |rule| rule.is(&known.rules))
        };
        let id = Id::of(&**service);
        if let Some(known) = self.memo.clusters.get(&id, holds) {
            return known.clusters;
        }
        let clusters: ClustersOf = self.make(service, parts, rule).into();
        let known = KnownClusters {
            service: Arc::clone(service),
            rules: rule.map(Merged::ids).unwrap_or_default(),
            clusters: Arc::clone(&clusters),
        };
        self.memo.clusters.keep(id, known);
        clusters
    }

    /// Makes the clusters of a service.
    pub(crate) fn make(
        &self,
        service: &Service,
        parts: &[Part<'m>],
        rule: Option<&Merged<'m>>,
    ) -> Vec<Arc<Cluster>> {
        let mut made = Vec::with_capacity(service.ports.len());
        let rules = rule.map(Merged::keys).unwrap_or_default();
        for port in &service.ports {
            // Istio builds nothing for datagrams; the direct path does.
            if port.protocol == Protocol::Udp && service.wants_direct(self.options.path).is_err() {
                continue;
            }
            let resolution = resolution(port, parts).unwrap_or(service.resolution);
            let found = self.endpoints(port, resolution, parts);
            let base = Base { service, port, resolution, parts, found: &found, rules: &rules };
            let policy = rule.map(|rule| rule.for_port(port.number)).unwrap_or_default();
            made.extend(self.cluster(&base, None, policy));
            if resolution == Resolution::DynamicDns {
                continue;
            }
            for subset in rule.iter().flat_map(|rule| &rule.subsets) {
                let policy = rule.map(|rule| rule.for_subset(subset, port.number));
                made.extend(self.cluster(&base, Some(subset), policy.unwrap_or_default()));
            }
        }
        made.into_iter().map(Arc::new).collect()
    }

    fn endpoints(&self, port: &Port, resolution: Resolution, parts: &[Part<'m>]) -> Vec<Located> {
        let mut found = Vec::new();
        for (host, entry) in parts {
            let mine = entry.ports.iter().find(|known| known.number.value == port.number);
            if let Some(mine) = mine.filter(|_| entry.resolution.value == resolution) {
                found.extend(self.workloads.of(entry, host, mine));
                // Only the first entry gives a round robin service its name.
                if resolution == Resolution::DnsRoundRobin && !found.is_empty() {
                    found.truncate(1);
                    break;
                }
            }
        }
        found
    }

    fn cluster(
        &self,
        base: &Base<'_, 'm>,
        subset: Option<&Subset>,
        policy: Effective<'m>,
    ) -> Option<Cluster> {
        let Base { service, port, .. } = base;
        let subset_name = subset.map_or("", |subset| subset.name.as_str());
        let found: Vec<_> = match subset {
            None => base.found.to_vec(),
            Some(subset) => {
                let mine = |one: &&Located| selects(&subset.labels, &one.endpoint.labels);
                base.found.iter().filter(mine).cloned().collect()
            }
        };
        let to_dialled = policy.load_balancer.is_some_and(|balancer| {
            balancer.simple.as_deref() == Some(&SimpleLoadBalancer::Passthrough)
        });
        let families = self.node.families;
        let discovery = match base.resolution {
            Resolution::None => Discovery::OriginalDst { port: base.port_override() },
            Resolution::DynamicDns => {
                Discovery::DynamicForwardProxy { port: port.number, families }
            }
            _ if to_dialled => Discovery::OriginalDst { port: None },
            Resolution::Static => Discovery::Static,
            // A name that nothing resolves to is no cluster at all.
            Resolution::Dns | Resolution::DnsRoundRobin if found.is_empty() => return None,
            Resolution::Dns => Discovery::StrictDns(families),
            Resolution::DnsRoundRobin => Discovery::LogicalDns(families),
        };
        let listed = !matches!(
            discovery,
            Discovery::OriginalDst { .. } | Discovery::DynamicForwardProxy { .. }
        );
        let outlier = outlier::build(policy.outlier, self.mesh);
        let mut load_balancer = balance::build(policy.load_balancer);
        load_balancer.panic_threshold = outlier::panic_threshold(policy.outlier, self.mesh);
        if !listed {
            load_balancer.policy = LbPolicy::ClusterProvided;
        }
        let setting = locality::Setting {
            balancer: policy.load_balancer,
            mesh: self.mesh,
            node: self.node,
            ejects: outlier.is_some(),
            distribution: base.traffic_distribution(),
        };
        let groups = setting.group(if listed { found } else { Vec::new() });
        load_balancer.locality_weighted = setting.is_weighted();
        Some(Cluster {
            name: Arc::from(name(port.number, subset_name, &service.host)),
            kind: ClusterKind::Service(ClusterService {
                host: Arc::clone(&service.host),
                namespace: Arc::clone(&service.namespace),
                port: port.number,
                port_name: Arc::clone(&port.name),
                subset: Arc::from(subset_name),
                external: service.location == Location::MeshExternal,
            }),
            discovery,
            endpoints: groups,
            load_balancer,
            connect_timeout: pool::connect_timeout(policy.pool, self.mesh),
            pool: pool::build(policy.pool, policy.retry_budget, self.mesh),
            outlier,
            health_check: policy
                .health_check
                .map(|check| extensions::health_check(check, port.protocol.is_tls())),
            http: pool::upstream_http(port.protocol, policy.pool, self.mesh),
            tls: tls::build(&tls::Inputs {
                settings: policy.tls,
                mesh: self.mesh,
                host: &service.host,
                inside: service.location == Location::MeshInternal,
                port: port.number,
                subset: subset_name,
                names: base.subject_alt_names(),
                http: pool::upstream_http(port.protocol, policy.pool, self.mesh),
                original: matches!(discovery, Discovery::OriginalDst { .. }),
            }),
            tunnel: policy.tunnel.map(tunnel),
            proxy_protocol: policy.proxy_protocol.map(|header| match header.version.value {
                ProxyProtocolVersion::V1 => ProxyProtocol::V1,
                ProxyProtocolVersion::V2 => ProxyProtocol::V2,
            }),
            verify_destination: (self.options.strict && base.resolution == Resolution::None)
                .then(|| service.addresses.clone()),
            rules: base.rules.to_vec(),
        })
    }
}

/// What the clusters of one port have in common.
struct Base<'a, 'm> {
    service: &'a Service,
    port: &'a Port,
    resolution: Resolution,
    parts: &'a [Part<'m>],
    found: &'a [Located],
    rules: &'a [Key],
}

impl Base<'_, '_> {
    /// NONE with a `targetPort` goes to that port of the address dialled.
    fn port_override(&self) -> Option<u16> {
        Some(self.port.target).filter(|target| *target != 0)
    }

    fn subject_alt_names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for name in self.parts.iter().flat_map(|(_, entry)| &entry.subject_alt_names) {
            if !names.iter().any(|known| **known == *name.as_str()) {
                names.push(Arc::from(name.as_str()));
            }
        }
        names
    }

    fn traffic_distribution(&self) -> Option<&str> {
        const ANNOTATION: &str = "networking.istio.io/traffic-distribution";
        let (_, oldest) = self.parts.first()?;
        oldest.meta.annotations.get(ANNOTATION).map(String::as_str)
    }
}

/// The resolution of the entry that declares the port.
fn resolution(port: &Port, parts: &[Part<'_>]) -> Option<Resolution> {
    let declares =
        |entry: &ServiceEntry| entry.ports.iter().any(|known| known.number.value == port.number);
    parts.iter().find(|(_, entry)| declares(entry)).map(|(_, entry)| entry.resolution.value)
}

pub(crate) fn tunnel(tunnel: &egressd_model::resource::Tunnel) -> Tunnel {
    Tunnel {
        post: tunnel.protocol.value == TunnelProtocol::Post,
        host: tunnel.target_host.to_arc(),
        port: tunnel.target_port.value,
    }
}
