//! What a node sees: the Sidecar that holds for it and its egress listeners (semantics.md §1.5).

use std::net::IpAddr;

use egressd_model::Model;
use egressd_model::resource::{
    CaptureMode, Destination, EgressListener, MeshConfig, MeshPolicyMode,
    OutboundTrafficPolicyMode, Resource, Sidecar,
};
use egressd_model::value::{HostPattern, NamespacedHost, Protocol, selects};

use crate::options::Node;

/// The outbound traffic policy in force for the node.
#[derive(Clone, Debug)]
pub(crate) struct Outbound<'m> {
    pub(crate) mode: MeshPolicyMode,
    /// Where unknown traffic goes under ALLOW_ANY, and the namespace that names it.
    pub(crate) egress_proxy: Option<(&'m Destination, &'m str)>,
}

/// One egress listener: what traffic sees on one port, or on all others.
#[derive(Clone, Debug)]
pub(crate) struct Egress<'m> {
    pub(crate) port: Option<EgressPort>,
    imports: Vec<&'m NamespacedHost>,
    everything: bool,
    namespace: &'m str,
}

/// The port of an egress listener that has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EgressPort {
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
    /// Where it is bound, if the resource says so.
    pub(crate) bind: Option<IpAddr>,
    /// Whether it is a real socket.
    pub(crate) socket: bool,
}

/// The Sidecar that holds for the node: one whose selector matches before one without, in the node's
/// namespace before the root namespace, oldest first.
pub(crate) fn sidecar<'m>(
    model: &'m Model,
    mesh: &MeshConfig,
    node: &Node,
) -> Option<&'m Resource<Sidecar>> {
    let own =
        || model.sidecars().iter().filter(|sidecar| *sidecar.meta.namespace == node.namespace);
    let root = || {
        model.sidecars().iter().filter(|sidecar| *sidecar.meta.namespace == *mesh.root_namespace())
    };
    let selected = own().find(|sidecar| {
        sidecar.workload_selector.as_ref().is_some_and(|s| selects(&s.labels, &node.labels))
    });
    selected
        .or_else(|| own().find(|sidecar| sidecar.workload_selector.is_none()))
        .or_else(|| root().find(|sidecar| sidecar.workload_selector.is_none()))
        .map(|sidecar| &**sidecar)
}

/// The policy: the Sidecar's, else the mesh's.
pub(crate) fn outbound<'m>(
    sidecar: Option<&'m Resource<Sidecar>>,
    mesh: &MeshConfig,
) -> Outbound<'m> {
    match sidecar.and_then(|s| s.outbound_traffic_policy.as_ref().map(|policy| (policy, s))) {
        None => Outbound { mode: mesh.outbound_traffic_policy.mode(), egress_proxy: None },
        Some((policy, sidecar)) => match policy.mode.value {
            OutboundTrafficPolicyMode::RegistryOnly => {
                Outbound { mode: MeshPolicyMode::RegistryOnly, egress_proxy: None }
            }
            OutboundTrafficPolicyMode::AllowAny => Outbound {
                mode: MeshPolicyMode::AllowAny,
                egress_proxy: policy
                    .egress_proxy
                    .as_ref()
                    .map(|to| (&to.value, &*sidecar.meta.namespace)),
            },
        },
    }
}

/// The egress listeners: those of the Sidecar, or one for everything.
pub(crate) fn egress<'m>(
    sidecar: Option<&'m Resource<Sidecar>>,
    node: &'m Node,
) -> Vec<Egress<'m>> {
    let written = sidecar.map(|sidecar| sidecar.egress.as_slice()).unwrap_or_default();
    if written.is_empty() {
        return vec![Egress {
            port: None,
            imports: Vec::new(),
            everything: true,
            namespace: &node.namespace,
        }];
    }
    written.iter().map(|listener| Egress::new(listener, node)).collect()
}

impl<'m> Egress<'m> {
    fn new(listener: &'m EgressListener, node: &'m Node) -> Self {
        let socket = listener.capture_mode.value == CaptureMode::None;
        let port = listener.port.as_ref().map(|port| EgressPort {
            number: port.number.value,
            protocol: port.protocol.value,
            bind: listener.bind.parse().ok(),
            socket,
        });
        let imports = listener.hosts.iter().map(|host| &host.value).collect();
        Self { port, imports, everything: false, namespace: &node.namespace }
    }

    /// Whether a service is seen.
    pub(crate) fn imports(&self, namespace: &str, host: &HostPattern) -> bool {
        self.sees(namespace, |import| host.is_subset_of(import))
    }

    /// Whether a VirtualService acts: one of its hosts and an import overlap.
    pub(crate) fn imports_rule<'h>(
        &self,
        namespace: &str,
        mut hosts: impl Iterator<Item = &'h HostPattern>,
    ) -> bool {
        self.everything || hosts.any(|host| self.sees(namespace, |import| host.overlaps(import)))
    }

    fn sees(&self, namespace: &str, covers: impl Fn(&HostPattern) -> bool) -> bool {
        if self.everything {
            return true;
        }
        let is_in = |pattern: &str| match pattern {
            "*" => true,
            "." => namespace == self.namespace,
            name => namespace == name,
        };
        // An entry that begins with `~` takes away: `~/HOST` everywhere, `~NAMESPACE/HOST` there.
        let taken_away = |entry: &NamespacedHost| {
            let from = entry.namespace.as_deref().and_then(|from| from.strip_prefix('~'));
            from.is_some_and(|from| (from.is_empty() || is_in(from)) && covers(&entry.host))
        };
        let given = |entry: &NamespacedHost| {
            entry.namespace.as_deref().is_none_or(is_in) && covers(&entry.host)
        };
        !self.imports.iter().any(|entry| taken_away(entry))
            && self.imports.iter().any(|entry| given(entry))
    }
}
