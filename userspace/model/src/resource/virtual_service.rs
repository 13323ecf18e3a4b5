//! VirtualService (semantics.md §3): hosts, gateways, and the tls and tcp rules. The http rules have a module of
//! their own.

use crate::Spanned;
use crate::decode::object;
use crate::resource::virtual_service_http::HttpRoute;
use crate::value::{ExportTo, HostPattern, IpRange, Labels};

object! {
    /// How traffic for some hosts is routed.
    pub struct VirtualService {
        /// Names as clients use them. None only in a delegate.
        hosts: Vec<Spanned<HostPattern>> = "hosts",
        /// `mesh`, or gateways as `name` or `namespace/name`. Empty means `mesh`.
        gateways: Vec<Spanned<String>> = "gateways",
        /// Rules for HTTP; the first that matches wins.
        http: Vec<Spanned<HttpRoute>> = "http",
        /// Rules for TLS that is passed through.
        tls: Vec<Spanned<TlsRoute>> = "tls",
        /// Rules for opaque TCP.
        tcp: Vec<Spanned<TcpRoute>> = "tcp",
        /// Who is subject to it.
        export_to: ExportTo = "exportTo",
    }
}

impl VirtualService {
    /// Whether it concerns proxies beside workloads: `gateways` is empty or names `mesh`.
    pub fn applies_to_mesh(&self) -> bool {
        self.gateways.is_empty() || self.gateways.iter().any(|gateway| gateway.value == "mesh")
    }
}

object! {
    /// A rule for TLS connections.
    pub struct TlsRoute {
        /// Alternatives.
        matches: Vec<Spanned<TlsMatch>> = "match" required,
        /// Weighted destinations.
        route: Vec<Spanned<RouteDestination>> = "route",
    }
}

object! {
    /// Conditions on a TLS connection; all must hold.
    pub struct TlsMatch {
        /// Server names; at least one.
        sni_hosts: Vec<Spanned<HostPattern>> = "sniHosts" required,
        /// Destination blocks; empty for any.
        destination_subnets: Vec<Spanned<IpRange>> = "destinationSubnets",
        /// Listener port; 0 for any.
        port: Spanned<u16> = "port",
        /// Labels of the client.
        source_labels: Labels = "sourceLabels",
        /// Gateways this holds for; empty means those of the resource.
        gateways: Vec<Spanned<String>> = "gateways",
        /// Namespace of the client; empty for any.
        source_namespace: Spanned<String> = "sourceNamespace",
    }
}

object! {
    /// A rule for opaque TCP connections.
    pub struct TcpRoute {
        /// Alternatives; empty matches everything.
        matches: Vec<Spanned<L4Match>> = "match",
        /// Weighted destinations.
        route: Vec<Spanned<RouteDestination>> = "route",
    }
}

object! {
    /// Conditions on a TCP connection; all must hold.
    pub struct L4Match {
        /// Destination blocks; empty for any.
        destination_subnets: Vec<Spanned<IpRange>> = "destinationSubnets",
        /// Listener port; 0 for any.
        port: Spanned<u16> = "port",
        /// Deprecated and ignored, as in Istio.
        source_subnet: Spanned<String> = "sourceSubnet",
        /// Labels of the client.
        source_labels: Labels = "sourceLabels",
        /// Gateways this holds for; empty means those of the resource.
        gateways: Vec<Spanned<String>> = "gateways",
        /// Namespace of the client; empty for any.
        source_namespace: Spanned<String> = "sourceNamespace",
    }
}

object! {
    /// A weighted destination of a tls or tcp rule.
    pub struct RouteDestination {
        /// Where to.
        destination: Spanned<Destination> = "destination" required,
        /// Share among the rule's destinations.
        weight: Spanned<u32> = "weight",
    }
}

object! {
    /// A host, optionally one subset and one port of it.
    pub struct Destination {
        /// The service.
        host: Spanned<HostPattern> = "host" required,
        /// Subset of a DestinationRule; empty for all endpoints.
        subset: Spanned<String> = "subset",
        /// The service's port; absent: its only one, else the listener's.
        port: Option<Spanned<PortSelector>> = "port",
    }
}

impl Destination {
    /// The port number, where one is written.
    pub fn port_number(&self) -> Option<u16> {
        self.port.as_ref().map(|port| port.number.value)
    }
}

object! {
    /// A port by number.
    pub struct PortSelector {
        /// 1 to 65535.
        number: Spanned<u16> = "number",
    }
}
