//! One generation of compiled configuration.

use std::net::IpAddr;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::{MeshConfig, PathMode, PathNormalization};
use egressd_model::value::IpRange;

use crate::cluster::{Cluster, ClusterRef};
use crate::compile;
use crate::decide::Original;
use crate::fast::FastMap;
use crate::gateway::GatewayServer;
use crate::listener::{Listener, ListenerRules};
use crate::names::NameTable;
use crate::options::{Node, Options};
use crate::rows::KernelRows;
use crate::service::{Service, ServiceId};
use crate::vip::VipAllocation;

/// Everything that the proxy, the kernel and DNS need to know, compiled from one [`Model`].
///
/// Equal for the same resources, whatever the order of files. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// Every service the node sees, by host and namespace.
    pub(crate) services: Arc<Vec<Arc<Service>>>,
    /// Listeners bound to an address.
    pub(crate) addresses: Arc<FastMap<(IpAddr, u16), Arc<ListenerRules>>>,
    /// Listeners bound to every address.
    pub(crate) wildcards: FastMap<u16, Listener>,
    /// The listener for everything else.
    pub(crate) virtual_outbound: Listener,
    /// Clusters by name.
    pub(crate) clusters: Arc<FastMap<Arc<str>, Arc<Cluster>>>,
    /// What "the original destination" means for each allocated VIP.
    pub(crate) vips: Arc<FastMap<IpAddr, Original>>,
    /// Where allocated VIPs come from; empty if none are used.
    pub(crate) vip_ranges: Vec<IpRange>,
    pub(crate) names: Arc<NameTable>,
    pub(crate) rows: Arc<KernelRows>,
    pub(crate) gateways: Vec<GatewayServer>,
    pub(crate) strict: bool,
    pub(crate) path: PathMode,
    pub(crate) path_normalization: PathNormalization,
}

impl Tables {
    /// Compiles. A function: the same arguments give equal tables.
    pub fn compile(
        model: &Model,
        mesh: &MeshConfig,
        node: &Node,
        options: &Options,
        vips: &VipAllocation,
    ) -> Self {
        compile::compile(model, mesh, node, options, vips, &compile::Memo::default()).0
    }

    /// What becomes of the paths of requests before anything looks at them; see
    /// [`crate::normalize_path`].
    pub fn path_normalization(&self) -> PathNormalization {
        self.path_normalization
    }

    /// Every listener: those of addresses, those of ports, [`crate::VIRTUAL_OUTBOUND`] last.
    pub fn listeners(&self) -> Vec<Listener> {
        let addresses = self.addresses.iter();
        let addresses = addresses.map(|((ip, port), rules)| Listener::at(*ip, *port, rules));
        let mut all: Vec<_> = addresses.chain(self.wildcards.values().cloned()).collect();
        all.sort_by_key(|listener| (listener.bind, listener.port));
        all.push(self.virtual_outbound.clone());
        all
    }

    /// The listeners that need a real socket of the proxy: the explicit HTTP proxy, and Sidecar
    /// listeners with `captureMode: NONE`.
    pub fn sockets(&self) -> impl Iterator<Item = Listener> {
        let real = |listener: &Listener| matches!(listener.bind, crate::Bind::Socket(_));
        self.listeners().into_iter().filter(real)
    }

    /// Every cluster, by name. Sorts them each time.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let mut all: Vec<_> = self.clusters.values().collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.into_iter()
    }

    /// The cluster of this name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// A way to the cluster of this name, whether it exists or not.
    pub fn cluster_ref(&self, name: &str) -> ClusterRef {
        match self.clusters.get(name) {
            Some(cluster) => ClusterRef::Known(Arc::clone(cluster)),
            None => ClusterRef::Missing(Arc::from(name)),
        }
    }

    /// Every service the node sees. A [`ServiceId`] is a place in this list.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.services
    }

    /// One service.
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(usize::try_from(id.0).ok()?)
    }

    /// What DNS answers.
    pub fn names(&self) -> &NameTable {
        &self.names
    }

    /// What the kernel must know.
    pub fn kernel_rows(&self) -> &KernelRows {
        &self.rows
    }

    /// The servers that this node opens as an egress gateway.
    pub fn gateway_servers(&self) -> &[GatewayServer] {
        &self.gateways
    }

    /// Whether the hardened answers are given.
    pub fn is_strict(&self) -> bool {
        self.strict
    }
}
