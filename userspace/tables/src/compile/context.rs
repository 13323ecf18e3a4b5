//! What rules are compiled against: names, services, clusters and policies.

use std::sync::Arc;

use egressd_model::resource::{Destination, MeshConfig};
use egressd_model::value::Labels;
use egressd_model::{Spanned, value::selects};

use crate::cluster::{ClusterRef, HashPolicy};
use crate::compile::balance;
use crate::compile::clusters::{self, ByName, Made};
use crate::compile::destination_rules::DestinationRules;
use crate::compile::memo::{ClustersOf, Memo};
use crate::compile::services::Directory;
use crate::compile::short_names::ShortNames;
use crate::options::{Answers, Node, Options};
use crate::service::{Service, ServiceId};

/// Everything a rule may refer to.
pub(crate) struct Context<'a, 'm> {
    pub(crate) mesh: &'m MeshConfig,
    pub(crate) node: &'m Node,
    pub(crate) options: &'a Options,
    pub(crate) names: &'a ShortNames,
    pub(crate) services: &'a Directory,
    pub(crate) clusters: &'a ByName,
    /// The same by service.
    pub(crate) made: &'a Made,
    pub(crate) rules: &'a DestinationRules<'m>,
    pub(crate) memo: &'a Memo,
}

impl Context<'_, '_> {
    /// A way to the cluster of this name.
    pub(crate) fn cluster(&self, name: &str) -> ClusterRef {
        match self.clusters.get(name) {
            Some(cluster) => ClusterRef::Known(Arc::clone(cluster)),
            None => ClusterRef::Missing(Arc::from(name)),
        }
    }

    /// All clusters of a service, where no other service has clusters of the same names.
    pub(crate) fn clusters_of(&self, id: ServiceId) -> Option<&ClustersOf> {
        self.made.of(id)
    }

    /// The way to a service's own cluster for a port.
    pub(crate) fn own_cluster(&self, id: ServiceId, host: &str, port: u16) -> ClusterRef {
        let mine = self.made.of(id).and_then(|all| {
            all.iter().find(|cluster| {
                let of = cluster.service();
                of.is_some_and(|of| of.port == port && of.subset.is_empty())
            })
        });
        match mine {
            Some(cluster) => ClusterRef::Known(Arc::clone(cluster)),
            None => self.cluster(&clusters::name(port, "", host)),
        }
    }

    /// The service that owns a host.
    pub(crate) fn service(&self, host: &str) -> Option<&Service> {
        self.services.get(self.services.owner(host)?).map(|service| &**service)
    }

    /// The cluster that a tls or tcp rule means: the port written, else the service's only one, else
    /// the listener's.
    pub(crate) fn destination(
        &self,
        destination: &Destination,
        namespace: &str,
        listener_port: u16,
    ) -> ClusterRef {
        let host = self.names.resolve_text(&destination.host, namespace);
        let port = destination.port_number().or_else(|| self.only_port(&host));
        let port = port.unwrap_or(listener_port);
        self.cluster(&clusters::name(port, &destination.subset, &host))
    }

    /// The same for an http rule. Istio's code looks at the services of the listener's port alone,
    /// so that a service whose only port is another one is not found; its answers keep that.
    pub(crate) fn http_destination(
        &self,
        destination: &Destination,
        namespace: &str,
        listener_port: u16,
    ) -> ClusterRef {
        match self.options.answers {
            Answers::Ours => self.destination(destination, namespace, listener_port),
            Answers::Istio => {
                let host = self.names.resolve_text(&destination.host, namespace);
                let port = destination.port_number().unwrap_or(listener_port);
                self.cluster(&clusters::name(port, &destination.subset, &host))
            }
        }
    }

    fn only_port(&self, host: &str) -> Option<u16> {
        match self.service(host)?.ports.as_slice() {
            [only] => Some(only.number),
            _ => None,
        }
    }

    /// What consistent hashing looks at for a service's own route.
    pub(crate) fn hash_of_service(&self, service: &Service, port: u16) -> Option<HashPolicy> {
        let rule = self.rules.find(&service.host, &service.namespace)?;
        rule.for_port(port).load_balancer.and_then(balance::hash)
    }

    /// The same for a destination of an http rule.
    pub(crate) fn hash_of_destination(
        &self,
        destination: &Destination,
        namespace: &str,
        listener_port: u16,
    ) -> Option<HashPolicy> {
        let host = self.names.resolve_text(&destination.host, namespace);
        let service = self.service(&host)?;
        let rule = self.rules.find(&service.host, &service.namespace)?;
        let port = destination.port_number().unwrap_or(listener_port);
        let policy = match rule.subset(&destination.subset) {
            Some(subset) => rule.for_subset(subset, port),
            None => rule.for_port(port),
        };
        policy.load_balancer.and_then(balance::hash)
    }

    /// Whether static conditions on the client hold for this node, on the gateway `gateway`.
    pub(crate) fn is_client(
        &self,
        gateway: &GatewayName<'_>,
        gateways: &[Spanned<String>],
        labels: &Labels,
        namespace: &str,
    ) -> bool {
        (gateways.is_empty() || gateways.iter().any(|name| gateway.is(name)))
            && selects(labels, &self.node.labels)
            && (namespace.is_empty() || namespace == self.node.namespace)
    }
}

/// The gateway that rules are compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GatewayName<'a> {
    /// `mesh`: captured connections.
    Mesh,
    /// A Gateway, by namespace and name, as seen from the namespace of the rule.
    Named {
        /// The Gateway's namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
        /// The rule's namespace, which a name without one belongs to.
        from: &'a str,
    },
}

impl GatewayName<'_> {
    /// Whether a rule's `gateways` entry means it.
    pub(crate) fn is(&self, written: &str) -> bool {
        match self {
            Self::Mesh => written == "mesh",
            Self::Named { namespace, name, from } => match written.split_once('/') {
                Some((".", rest)) => rest == *name && from == namespace,
                Some((other, rest)) => rest == *name && other == *namespace,
                None => written == *name && from == namespace,
            },
        }
    }
}
