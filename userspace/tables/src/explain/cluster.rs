//! Where it goes, and what is spoken there.

use crate::cluster::{
    Cluster, ClusterRef, Discovery, EndpointGroup, Sni, TlsOrigination, UpstreamTls,
};
use crate::explain::{Passed, Stage, Story, words};
use crate::route::{Destinations, Forward};
use crate::tables::Tables;
use crate::tcp::TcpRoute;

impl Story<'_> {
    /// Bytes are relayed.
    pub(super) fn relay(&mut self, route: &TcpRoute) {
        let whence = match &route.virtual_service {
            Some(owner) => format!("VirtualService {owner}"),
            None if self.answer.decision.chain.catch_all => {
                "the outbound traffic policy".to_owned()
            }
            None => "the service itself".to_owned(),
        };
        let total: u32 = route.clusters.iter().map(|(_, weight)| weight).sum();
        for (cluster, weight) in &route.clusters {
            let share = if route.weighted { share(*weight, total) } else { String::new() };
            self.cluster(cluster, &format!("{whence}{share}"));
            if let ClusterRef::Known(cluster) = cluster {
                self.tell(
                    Stage::Timeouts,
                    format!(
                        "connect {:?}, idle {}, whole connection {}",
                        cluster.connect_timeout,
                        words::limit(route.idle_timeout),
                        words::limit(route.max_duration)
                    ),
                    "",
                );
            }
        }
    }

    /// A request is forwarded.
    pub(super) fn forward(&mut self, forward: &Forward) {
        let all = forward.destinations.all();
        let total: u32 = all.iter().map(|destination| destination.weight).sum();
        for destination in all {
            let share = match forward.destinations {
                Destinations::Single(_) => String::new(),
                Destinations::Weighted(_) => share(destination.weight, total),
            };
            self.cluster(&destination.cluster, &format!("the rule says so{share}"));
            let ClusterRef::Known(cluster) = &destination.cluster else { continue };
            self.tell(
                Stage::Timeouts,
                format!(
                    "connect {:?}, request {}, idle connection {}",
                    cluster.connect_timeout,
                    words::limit(forward.timeout),
                    words::limit(cluster.pool.http_idle_timeout)
                ),
                "",
            );
        }
        match &forward.retry {
            None => self.tell(Stage::Retries, "none", "the rule has no retries"),
            Some(retry) => {
                let each = match retry.per_try_timeout.or(forward.timeout) {
                    Some(limit) => format!("each within {limit:?}"),
                    None => "each without a limit".to_owned(),
                };
                self.tell(
                    Stage::Retries,
                    format!("{} after the first try, {each}", retry.attempts),
                    format!("on {}", retry.retry_on),
                );
            }
        }
    }

    fn cluster(&mut self, cluster: &ClusterRef, whence: &str) {
        match cluster {
            ClusterRef::Missing(name) => {
                let (why, instead_of) = self.tables.why_missing(name);
                let because = format!("{whence}; it does not exist (flag NC): {why}");
                self.tell_with(Stage::Cluster, &**name, because, instead_of);
            }
            ClusterRef::Known(cluster) => {
                let rules = match cluster.rules.as_slice() {
                    [] => String::new(),
                    rules => format!("; DestinationRule {}", words::list(rules)),
                };
                self.tell(Stage::Cluster, &*cluster.name, format!("{whence}{rules}"));
                self.endpoints(cluster);
                self.tls(cluster);
            }
        }
    }

    fn endpoints(&mut self, cluster: &Cluster) {
        let listed = words::list(cluster.endpoints.iter().flat_map(EndpointGroup::words));
        let policy = cluster.load_balancer.policy.envoy_name();
        let (chosen, because) = match cluster.discovery {
            _ if cluster.is_black_hole() => {
                ("none".to_owned(), "the connection is closed".to_owned())
            }
            Discovery::Static if listed.is_empty() => {
                ("none".to_owned(), "no endpoint is known: flag UH".to_owned())
            }
            Discovery::Static => (listed, format!("listed; chosen by {policy}")),
            Discovery::StrictDns(_) => {
                (listed, format!("every address of every name; chosen by {policy}"))
            }
            Discovery::LogicalDns(_) => (listed, "the first address of the last answer".to_owned()),
            Discovery::OriginalDst { port: None } => {
                (self.original(), "the original destination".to_owned())
            }
            Discovery::OriginalDst { port: Some(port) } => {
                (self.original(), format!("the original destination, on port {port}"))
            }
            Discovery::DynamicForwardProxy { port, .. } => {
                let name = self.asked().unwrap_or("(the name asked for)");
                (format!("{name}:{port}"), "the name asked for is resolved".to_owned())
            }
        };
        self.tell(Stage::Endpoints, chosen, because);
    }

    fn tls(&mut self, cluster: &Cluster) {
        let (chosen, because) = match &cluster.tls {
            UpstreamTls::Plaintext => {
                ("bytes as they are".to_owned(), "no DestinationRule asks for TLS".to_owned())
            }
            UpstreamTls::Originate(tls) => {
                (tls.words(), "the DestinationRule asks for it".to_owned())
            }
            UpstreamTls::Auto(tls) => (
                format!("{} to endpoints that speak it", tls.words()),
                "the service is part of the mesh".to_owned(),
            ),
        };
        self.tell(Stage::Tls, chosen, because);
    }
}

impl Tables {
    /// Why a cluster is not there, and what is nearest.
    fn why_missing(&self, name: &str) -> (String, Option<Passed>) {
        let unknown = || ("nothing has this name".to_owned(), None);
        let mut parts = name.splitn(4, '|').skip(1);
        let (Some(port), Some(subset), Some(host)) = (parts.next(), parts.next(), parts.next())
        else {
            return unknown();
        };
        let Ok(port) = port.parse::<u16>() else { return unknown() };
        let mut services = self.services.iter().filter(|service| *service.host == *host).peekable();
        if services.peek().is_none() {
            let why = format!("no ServiceEntry that the node sees has the host {host}");
            return (why, self.nearest_host(host, port));
        }
        let declared: Vec<_> =
            services.flat_map(|service| &service.ports).map(|port| port.number).collect();
        if !declared.contains(&port) {
            let why = format!("{host} declares port {}, not {port}", words::list(declared));
            return (why, None);
        }
        if subset.is_empty() {
            return (format!("{host} is found by DNS, and has no endpoint with a name"), None);
        }
        let why =
            format!("no DestinationRule for {host} has the subset {subset}, or it has no endpoint");
        let known = self.clusters().filter(|cluster| {
            cluster.service().is_some_and(|of| *of.host == *host && of.port == port)
        });
        let names = words::list(known.map(|cluster| &cluster.name));
        (why, (!names.is_empty()).then(|| Passed::new(names, "the rule names another subset")))
    }
}

impl EndpointGroup {
    fn words(&self) -> impl Iterator<Item = String> {
        self.endpoints.iter().map(|endpoint| {
            let mut text = words::endpoint(endpoint);
            if self.locality != egressd_model::value::Locality::default() {
                text = format!("{text} in {}", self.locality);
            }
            if self.priority > 0 {
                text = format!("{text}, priority {}", self.priority);
            }
            if endpoint.weight != 1 {
                text = format!("{text}, weight {}", endpoint.weight);
            }
            text
        })
    }
}

impl TlsOrigination {
    fn words(&self) -> String {
        let mode = match self.mode {
            crate::cluster::TlsMode::Simple => "SIMPLE",
            crate::cluster::TlsMode::Mutual => "MUTUAL",
            crate::cluster::TlsMode::IstioMutual => "ISTIO_MUTUAL",
        };
        let sni = match &self.sni {
            Sni::Fixed(name) => name.to_string(),
            Sni::RequestHost { service } if service.is_empty() => "the request's host".to_owned(),
            Sni::RequestHost { service } => format!("the request's host, else {service}"),
        };
        format!("{mode}, server name {sni}")
    }
}

fn share(weight: u32, total: u32) -> String {
    format!(", {weight} of {total}")
}
