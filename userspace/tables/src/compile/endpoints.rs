//! The endpoints of a service port (semantics.md §1.3, §1.4).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::{
    MeshConfig, Pod, Resolution, Resource, ServiceEntry, ServicePort, WorkloadEntry,
};
use egressd_model::value::{EndpointAddress, HostPattern, Labels, Locality, selects};

use crate::cluster::Endpoint;

/// An endpoint and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) endpoint: Endpoint,
    pub(crate) locality: Locality,
}

/// Standalone workloads by namespace.
pub(crate) struct Workloads<'m> {
    entries: HashMap<&'m str, Vec<&'m Resource<WorkloadEntry>>>,
    pods: HashMap<&'m str, Vec<&'m Resource<Pod>>>,
    trust_domain: &'m str,
}

/// The label that says whether a workload speaks mesh TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";
/// The label that says where a workload is, if its entry does not.
const LOCALITY: &str = "istio-locality";
/// The annotation of a WorkloadEntry whose health somebody else checks.
const HEALTH_CHECKED: &str = "proxy.istio.io/health-checks-enabled";

impl<'m> Workloads<'m> {
    pub(crate) fn new(model: &'m Model, mesh: &'m MeshConfig) -> Self {
        let mut entries: HashMap<_, Vec<_>> = HashMap::new();
        for entry in model.workload_entries() {
            entries.entry(&*entry.meta.namespace).or_default().push(&**entry);
        }
        let mut pods: HashMap<_, Vec<_>> = HashMap::new();
        for pod in model.pods() {
            pods.entry(&*pod.meta.namespace).or_default().push(&**pod);
        }
        Self { entries, pods, trust_domain: mesh.trust_domain() }
    }

    /// The endpoints that one ServiceEntry gives to a port of its host.
    pub(crate) fn of(
        &self,
        entry: &Resource<ServiceEntry>,
        host: &HostPattern,
        port: &ServicePort,
    ) -> Vec<Located> {
        let resolution = entry.resolution.value;
        let target =
            if port.target_port.value == 0 { port.number.value } else { port.target_port.value };
        if let Some(selector) = &entry.workload_selector {
            return self.selected(entry, &selector.labels, port, target);
        }
        if entry.endpoints.is_empty() {
            let by_name = matches!(resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            return by_name.then(|| named(host, target)).into_iter().collect();
        }
        let namespace: &str = &entry.meta.namespace;
        entry
            .endpoints
            .iter()
            .filter(|endpoint| usable(resolution, &endpoint.address))
            .map(|endpoint| {
                self.located(endpoint, endpoint.labels.clone(), namespace, None, port, target)
            })
            .collect()
    }

    /// WorkloadEntries and Pods of the entry's own namespace that its selector selects.
    fn selected(
        &self,
        entry: &Resource<ServiceEntry>,
        selector: &Labels,
        port: &ServicePort,
        target: u16,
    ) -> Vec<Located> {
        let namespace: &str = &entry.meta.namespace;
        let mut found = Vec::new();
        for workload in self.entries.get(namespace).into_iter().flatten() {
            // Labels of the metadata go over those of the spec.
            let mut labels = workload.labels.clone();
            labels.extend(workload.meta.labels.clone());
            if selects(selector, &labels)
                && usable(entry.resolution.value, &workload.address)
                && is_healthy(workload)
            {
                let name = Some(Arc::from(workload.meta.key().to_string()));
                found.push(self.located(workload, labels, namespace, name, port, target));
            }
        }
        for pod in self.pods.get(namespace).into_iter().flatten() {
            if selects(selector, &pod.meta.labels) {
                found.extend(pod.ips.first().map(|ip| self.pod(pod, *ip, port, target)));
            }
        }
        found
    }

    fn located(
        &self,
        workload: &WorkloadEntry,
        labels: Labels,
        namespace: &str,
        name: Option<Arc<str>>,
        port: &ServicePort,
        target: u16,
    ) -> Located {
        let locality = match labels.get(LOCALITY) {
            Some(label) if workload.locality.is_empty() => Locality::parse_label(label),
            Some(_) | None => workload.locality.value.clone(),
        };
        let own = workload.ports.get(port.name.as_str()).map(|own| own.value);
        let unix = matches!(workload.address.value, EndpointAddress::Unix(_));
        let account = workload.service_account.as_str();
        let network = Some(workload.network.as_str()).filter(|network| !network.is_empty());
        Located {
            endpoint: Endpoint {
                address: workload.address.value.clone(),
                port: if unix { 0 } else { own.filter(|own| *own > 0).unwrap_or(target) },
                weight: workload.effective_weight(),
                mesh_tls: match labels.get(TLS_MODE) {
                    Some(mode) => mode == "istio",
                    None => !account.is_empty(),
                },
                service_account: self.identity(namespace, account),
                labels: Arc::new(with_topology(labels, &locality, network)),
                workload: name,
            },
            locality,
        }
    }

    fn pod(&self, pod: &Resource<Pod>, ip: IpAddr, port: &ServicePort, target: u16) -> Located {
        let labels = pod.meta.labels.clone();
        let locality = labels.get(LOCALITY).map(|label| Locality::parse_label(label));
        let locality = locality.unwrap_or_default();
        Located {
            endpoint: Endpoint {
                address: EndpointAddress::Ip(ip),
                port: pod.ports.get(port.name.as_str()).copied().unwrap_or(target),
                weight: 1,
                mesh_tls: labels.get(TLS_MODE).is_some_and(|mode| mode == "istio"),
                service_account: self.identity(&pod.meta.namespace, &pod.service_account),
                labels: Arc::new(with_topology(labels, &locality, None)),
                workload: Some(Arc::from(pod.meta.key().to_string())),
            },
            locality,
        }
    }

    fn identity(&self, namespace: &str, account: &str) -> Option<Arc<str>> {
        let name = || format!("spiffe://{}/ns/{namespace}/sa/{account}", self.trust_domain);
        (!account.is_empty()).then(|| Arc::from(name()))
    }
}

/// STATIC needs addresses; a workload without one is behind a gateway of another network.
fn usable(resolution: Resolution, address: &EndpointAddress) -> bool {
    match address {
        EndpointAddress::Ip(_) | EndpointAddress::Unix(_) => true,
        EndpointAddress::Name(_) => resolution != Resolution::Static,
        EndpointAddress::Unset => false,
    }
}

/// A checked workload counts only once its condition says so, which files never do.
fn is_healthy(workload: &Resource<WorkloadEntry>) -> bool {
    workload.meta.annotations.get(HEALTH_CHECKED).is_none_or(|value| value != "true")
}

/// The host itself as the one endpoint of a DNS service without others.
fn named(host: &HostPattern, port: u16) -> Located {
    Located {
        endpoint: Endpoint {
            address: EndpointAddress::Name(host.to_arc()),
            port,
            weight: 1,
            labels: Arc::new(Labels::new()),
            mesh_tls: false,
            service_account: None,
            workload: None,
        },
        locality: Locality::default(),
    }
}

/// The labels that Istio derives from where a workload is: failover priorities may name them.
fn with_topology(mut labels: Labels, locality: &Locality, network: Option<&str>) -> Labels {
    let derived = [
        ("topology.kubernetes.io/region", locality.region.as_str()),
        ("topology.kubernetes.io/zone", locality.zone.as_str()),
        ("topology.istio.io/subzone", locality.subzone.as_str()),
        ("topology.istio.io/network", network.unwrap_or_default()),
    ];
    for (name, value) in derived.into_iter().filter(|(_, value)| !value.is_empty()) {
        labels.insert(name.to_owned(), value.to_owned());
    }
    labels
}
