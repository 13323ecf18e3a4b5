//! Sidecar: what a namespace's (or a workload's) proxies see, and their outbound policy.

use crate::Spanned;
use crate::decode::{names, object};
use crate::resource::gateway::ServerTlsSettings;
use crate::resource::service_entry::WorkloadSelector;
use crate::resource::traffic_policy::ConnectionPool;
use crate::resource::virtual_service::Destination;
use crate::value::{NamespacedHost, Protocol};

object! {
    /// Settings for the proxies it selects.
    pub struct Sidecar {
        /// The workloads it concerns; absent: all of the namespace.
        workload_selector: Option<Spanned<WorkloadSelector>> = "workloadSelector",
        /// Inbound listeners; never act on a node's outbound side.
        ingress: Vec<Spanned<IngressListener>> = "ingress",
        /// What outbound traffic sees; empty: everything exported to the namespace.
        egress: Vec<Spanned<EgressListener>> = "egress",
        /// Limits on inbound connections.
        inbound_connection_pool: Option<Spanned<ConnectionPool>> = "inboundConnectionPool",
        /// What happens to unknown destinations; absent: the mesh's.
        outbound_traffic_policy: Option<Spanned<OutboundTrafficPolicy>> = "outboundTrafficPolicy",
    }
}

object! {
    /// An inbound listener.
    pub struct IngressListener {
        /// The port.
        port: Option<Spanned<SidecarPort>> = "port" required,
        /// Address to listen on.
        bind: Spanned<String> = "bind",
        /// How traffic gets there.
        capture_mode: Spanned<CaptureMode> = "captureMode",
        /// Where it goes.
        default_endpoint: Spanned<String> = "defaultEndpoint",
        /// TLS towards clients.
        tls: Option<Spanned<ServerTlsSettings>> = "tls",
        /// Limits on connections.
        connection_pool: Option<Spanned<ConnectionPool>> = "connectionPool",
    }
}

object! {
    /// What outbound traffic sees, for one port or for all that no other listener has.
    pub struct EgressListener {
        /// The port; absent: every other one.
        port: Option<Spanned<SidecarPort>> = "port",
        /// Address to listen on.
        bind: Spanned<String> = "bind",
        /// How traffic gets there.
        capture_mode: Spanned<CaptureMode> = "captureMode",
        /// `namespace/host`, and exclusions beginning with `~`; at least one.
        hosts: Vec<Spanned<NamespacedHost>> = "hosts" required,
    }
}

object! {
    /// A port of a Sidecar listener.
    pub struct SidecarPort {
        /// 1 to 65535; 0 with a Unix socket.
        number: Spanned<u16> = "number",
        /// What is spoken on it.
        protocol: Spanned<Protocol> = "protocol",
        /// Name for logs.
        name: Spanned<String> = "name",
        /// Deprecated and ignored, as in Istio.
        target_port: Spanned<u16> = "targetPort",
    }
}

names! {
    /// How traffic gets to a listener.
    pub enum CaptureMode {
        /// As the environment has it.
        #[default]
        Default = "DEFAULT",
        /// Captured.
        Iptables = "IPTABLES",
        /// Dialled by the application.
        None = "NONE",
    }
}

object! {
    /// What happens to unknown destinations.
    pub struct OutboundTrafficPolicy {
        /// Which policy.
        mode: Spanned<OutboundTrafficPolicyMode> = "mode",
        /// Where unknown traffic goes under ALLOW_ANY; needs a port.
        egress_proxy: Option<Spanned<Destination>> = "egressProxy",
    }
}

names! {
    /// Which policy holds for unknown destinations. The API's zero value is REGISTRY_ONLY.
    pub enum OutboundTrafficPolicyMode {
        /// They are refused.
        #[default]
        RegistryOnly = "REGISTRY_ONLY",
        /// They are let through.
        AllowAny = "ALLOW_ANY",
    }
}
