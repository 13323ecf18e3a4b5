//! ServiceEntry (semantics.md §1.1).

use std::net::IpAddr;

use crate::Spanned;
use crate::decode::{names, object};
use crate::resource::WorkloadEntry;
use crate::value::{ExportTo, HostPattern, IpRange, Labels, Protocol};

object! {
    /// Hosts outside the mesh (or of it) with their ports and endpoints.
    pub struct ServiceEntry {
        /// At least one, at most 256; never `*`. One service a host.
        hosts: Vec<Spanned<HostPattern>> = "hosts" required,
        /// Single addresses are VIPs, blocks match destinations. At most 256.
        addresses: Vec<Spanned<IpRange>> = "addresses",
        /// Without ports nothing is routable.
        ports: Vec<Spanned<ServicePort>> = "ports",
        /// Whether the service counts as part of the mesh.
        location: Spanned<Location> = "location",
        /// How endpoints are found; absent means NONE.
        resolution: Spanned<Resolution> = "resolution",
        /// Endpoints written in the entry itself; excludes `workloadSelector`.
        endpoints: Vec<Spanned<WorkloadEntry>> = "endpoints",
        /// Endpoints from WorkloadEntries and Pods of the same namespace.
        workload_selector: Option<Spanned<WorkloadSelector>> = "workloadSelector",
        /// Who sees the hosts.
        export_to: ExportTo = "exportTo",
        /// Names expected in the peer's certificate where a DestinationRule with `tls` gives none.
        subject_alt_names: Vec<Spanned<String>> = "subjectAltNames",
    } plus {
        /// `status.addresses`: what Istio's controller assigned.
        assigned: Vec<AssignedAddress>,
    }
}

object! {
    /// One port of a ServiceEntry.
    pub struct ServicePort {
        /// 1 to 65535, unique in the entry.
        number: Spanned<u16> = "number" required,
        /// Absent: the first bytes decide.
        protocol: Spanned<Protocol> = "protocol",
        /// A DNS label, unique in the entry.
        name: Spanned<String> = "name" required,
        /// The endpoints' port; 0 means the same as `number`.
        target_port: Spanned<u16> = "targetPort",
    }
}

object! {
    /// Labels that endpoints must have.
    pub struct WorkloadSelector {
        /// Empty selects every workload of the namespace.
        labels: Labels = "labels",
    }
}

names! {
    /// Whether a service is part of the mesh. Has nothing to do with geography.
    pub enum Location {
        /// The default: outside; never automatic mTLS.
        #[default]
        MeshExternal = "MESH_EXTERNAL",
        /// Inside: automatic mTLS for endpoints that announce it.
        MeshInternal = "MESH_INTERNAL",
    }
}

names! {
    /// How endpoints are found (semantics.md §1.2).
    pub enum Resolution {
        /// The address dialled.
        #[default]
        None = "NONE",
        /// The addresses of the endpoints.
        Static = "STATIC",
        /// Every address of every endpoint name, or of the host.
        Dns = "DNS",
        /// The first address of the last answer, for new connections.
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// The name of each request.
        DynamicDns = "DYNAMIC_DNS",
    }
}

impl Resolution {
    /// DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS.
    pub fn is_dns(self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin | Self::DynamicDns)
    }
}

/// An address that Istio's controller assigned to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedAddress {
    /// The host; absent in old statuses, where it holds for all hosts.
    pub host: Option<HostPattern>,
    /// The address.
    pub address: IpAddr,
}
