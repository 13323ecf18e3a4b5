//! What is left out.

use std::net::IpAddr;

use egressd_tables::{ClusterService, strip_port};

/// Conditions; all that are given must hold.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filter {
    /// The whole name of a listener, cluster or route table.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// A part of a host.
    #[arg(long, value_name = "HOST")]
    pub(super) fqdn: Option<String>,
    /// A port of a service or listener.
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// The whole name of a subset.
    #[arg(long)]
    pub(super) subset: Option<String>,
    /// An address of a listener, an endpoint or a host.
    #[arg(long, value_name = "IP")]
    pub(super) address: Option<String>,
}

impl Filter {
    /// Whether a name is asked for.
    pub(super) fn name(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|wanted| wanted == name)
    }

    /// Whether one of these hosts is asked for.
    pub(super) fn hosts<'a>(&self, hosts: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(wanted) = &self.fqdn else { return true };
        let wanted = wanted.to_ascii_lowercase();
        hosts.into_iter().any(|host| host.to_ascii_lowercase().contains(&wanted))
    }

    /// Whether a port is asked for.
    pub(super) fn port(&self, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
    }

    /// Whether one of these addresses is asked for.
    pub(super) fn addresses<T: ToString>(&self, addresses: impl IntoIterator<Item = T>) -> bool {
        let Some(wanted) = &self.address else { return true };
        let wanted = canonical(wanted);
        addresses.into_iter().any(|address| canonical(&address.to_string()) == wanted)
    }

    /// Whether a cluster is asked for. Those that stand for no service have neither host nor port.
    pub(super) fn cluster(&self, name: &str, service: Option<&ClusterService>) -> bool {
        let of_service = |service: &ClusterService| {
            self.hosts([&*service.host])
                && self.port(service.port)
                && self.subset.as_ref().is_none_or(|subset| **subset == *service.subset)
        };
        let plain = self.fqdn.is_none() && self.port.is_none() && self.subset.is_none();
        let by_name = self.fqdn.as_ref().is_some_and(|wanted| wanted == name);
        self.name(name) && service.map_or(plain || by_name, of_service)
    }
}

/// One form for each address, whatever its notation.
fn canonical(address: &str) -> String {
    let bare = strip_port(address).trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().map_or_else(|_| address.to_owned(), |ip| ip.to_string())
}
