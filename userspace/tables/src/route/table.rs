//! Route tables: virtual hosts by name, and the first rule that matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use egressd_model::resource::Key;

use crate::host_map::HostMap;
use crate::route::request::{RequestHead, strip_port};
use crate::route::{Route, RouteAction};

/// The virtual hosts of one listener.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTable {
    /// The port for a shared table, `HOST:PORT` for the private one of a sniffed VIP, `http_proxy`
    /// for the explicit proxy's.
    pub name: Arc<str>,
    /// Which virtual hosts there are, in the order of their names, the catch-all last.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// How they are found.
    pub(crate) domains: PortRule,
    /// `strict`: hosts of which the request must name one.
    pub(crate) expected: Option<Arc<Domains>>,
}

/// Virtual hosts by domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Domains(pub(crate) HostMap<Arc<VirtualHost>>);

/// What the port in a Host header is good for.
#[derive(Clone, Debug, PartialEq)]
pub enum PortRule {
    /// Nothing: captured connections have a port of their own (semantics.md §1.5).
    Ignored(Domains),
    /// It chooses the service: the explicit proxy has no other way to know (semantics.md §6).
    Chooses {
        /// Domains by port.
        ports: BTreeMap<u16, Arc<RouteTable>>,
        /// For ports that no service has.
        otherwise: Arc<VirtualHost>,
    },
}

/// A set of hosts and their rules.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// `HOST:PORT`, `allow_any` or `block_all`.
    pub name: Arc<str>,
    /// Host headers it answers to; the port in a Host header does not count.
    pub domains: Vec<Arc<str>>,
    /// The rules; the first that matches wins.
    pub routes: Arc<[Arc<Route>]>,
    /// Where it comes from.
    pub origin: VhostOrigin,
}

/// Where a virtual host comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VhostOrigin {
    /// A service without a VirtualService.
    Service(Arc<str>),
    /// A VirtualService, and the service it is for, if its host has one.
    VirtualService(Key, Option<Arc<str>>),
    /// What is left.
    CatchAll,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpDecision {
    /// The virtual host that answers; nothing only in a table without a catch-all.
    pub virtual_host: Option<Arc<VirtualHost>>,
    /// The rule; nothing if none matches: 404 `NR`.
    pub route: Option<Arc<Route>>,
    /// `strict`: the request names another host than the one whose VIP was dialled. It must be
    /// answered with 502 and nothing else.
    pub foreign_host: bool,
}

impl RouteTable {
    /// Decides a request. Pure: the same head gives the same answer.
    pub fn route(&self, head: &RequestHead<'_>) -> HttpDecision {
        let foreign_host = self
            .expected
            .as_ref()
            .is_some_and(|expected| expected.0.find(strip_port(head.authority)).is_none());
        let virtual_host = self.virtual_host(head);
        let route = virtual_host.and_then(|host| host.route(head));
        HttpDecision {
            virtual_host: virtual_host.map(Arc::clone),
            route: route.map(Arc::clone),
            foreign_host,
        }
    }

    /// The virtual host that answers to an authority.
    pub fn virtual_host(&self, head: &RequestHead<'_>) -> Option<&Arc<VirtualHost>> {
        let host = strip_port(head.authority);
        match &self.domains {
            PortRule::Ignored(domains) => domains.0.find(host),
            PortRule::Chooses { ports, otherwise } => {
                let written = head.authority.get(host.len()..).and_then(|rest| rest.get(1..));
                let port = written.and_then(|port| port.parse().ok());
                let port = port.unwrap_or(if head.scheme == "https" { 443 } else { 80 });
                ports.get(&port).map_or(Some(otherwise), |table| table.virtual_host(head))
            }
        }
    }
}

impl VirtualHost {
    /// The first rule that matches.
    pub fn route(&self, head: &RequestHead<'_>) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.matcher.matches(head))
    }
}

impl HttpDecision {
    /// The result in the words of the conformance data.
    pub fn result(&self) -> String {
        if self.foreign_host {
            return "direct_response:502".to_owned();
        }
        let Some(route) = &self.route else {
            let missing = self.virtual_host.is_none();
            let what = if missing { "virtual host" } else { "route" };
            return format!("error:no {what} matched");
        };
        match &route.action {
            RouteAction::Forward(forward) => match &forward.destinations {
                crate::Destinations::Single(destination) => destination.cluster.to_string(),
                crate::Destinations::Weighted(all) => {
                    let shares: Vec<_> =
                        all.iter().map(|one| format!("{}={}", one.cluster, one.weight)).collect();
                    format!("weighted:{}", shares.join(","))
                }
            },
            RouteAction::Redirect(redirect) => redirect.to_words(),
            RouteAction::Respond { status, .. } => format!("direct_response:{status}"),
            RouteAction::Nothing => "error:no route matched".to_owned(),
        }
    }

    /// The route's name in the words of the conformance data; empty for a rule without a name.
    pub fn route_name(&self) -> &str {
        self.route.as_ref().map_or("", |route| &route.name)
    }
}
