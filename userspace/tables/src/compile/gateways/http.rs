//! Route tables of gateway servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compile::context::Context;
use crate::compile::gateways::Bound;
use crate::compile::http_rules::HttpRules;
use crate::compile::vhosts::default_route;
use crate::host_map::HostMap;
use crate::route::{
    Domains, PathRedirect, PortRule, Redirect, Route, RouteAction, RouteTable, VhostOrigin,
    VirtualHost,
};

/// The rules of one host; rules of several VirtualServices follow one another.
#[derive(Default)]
struct Host {
    routes: Vec<Arc<Route>>,
    origin: Option<VhostOrigin>,
    /// `httpsRedirect`.
    secure_only: bool,
}

/// The table of all servers that share it.
pub(super) fn table(
    context: &Context<'_, '_>,
    servers: &[&Bound<'_, '_>],
    name: String,
    tls: bool,
) -> Arc<RouteTable> {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    let mut port = 0;
    for one in servers {
        port = one.number;
        for rule in &one.rules {
            let key = rule.key();
            let (rules, gateway) = (&rule.http, one.name(rule));
            let routes = HttpRules { context, rules, key: &key, port, gateway, tls }.routes();
            for host in one.served(rule).iter().filter(|_| !routes.is_empty()) {
                let host = hosts.entry(host.as_str().to_ascii_lowercase()).or_default();
                host.routes.extend(routes.iter().cloned());
                host.origin.get_or_insert_with(|| VhostOrigin::VirtualService(key.clone(), None));
            }
        }
        if one.server.tls.as_ref().is_some_and(|tls| tls.https_redirect.value) {
            for host in &one.server.hosts {
                let host = hosts.entry(host.host.as_str().to_ascii_lowercase()).or_default();
                host.secure_only = true;
            }
        }
    }
    let virtual_hosts: Vec<_> =
        hosts.into_iter().map(|(host, rules)| Arc::new(rules.finish(&host, port))).collect();
    let mut domains = HostMap::default();
    for host in &virtual_hosts {
        for domain in &host.domains {
            domains.insert(domain, Arc::clone(host));
        }
    }
    let domains = PortRule::Ignored(Domains(domains));
    Arc::new(RouteTable { name: Arc::from(name), virtual_hosts, domains, expected: None })
}

impl Host {
    /// Rules that match everything come last, whoever brought them.
    fn finish(self, host: &str, port: u16) -> VirtualHost {
        let (last, mut routes): (Vec<_>, Vec<_>) =
            self.routes.into_iter().partition(|route| route.matcher.is_catch_all());
        routes.extend(last);
        if self.secure_only {
            let redirect = Redirect {
                status: 301,
                authority: Arc::from(""),
                path: PathRedirect::Whole(Arc::from("")),
                scheme: Some(Arc::from("https")),
                port: None,
            };
            routes = vec![Arc::new(default_route(Arc::from(""), RouteAction::Redirect(redirect)))];
        }
        VirtualHost {
            name: Arc::from(format!("{host}:{port}")),
            domains: vec![Arc::from(host)],
            routes: Arc::from(routes),
            origin: self.origin.unwrap_or(VhostOrigin::CatchAll),
        }
    }
}
