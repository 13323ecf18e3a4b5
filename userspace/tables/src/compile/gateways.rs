//! Servers of Gateways that select the node (semantics.md §6).
//!
//! Servers of one address and port share a listener. Requests that no VirtualService of the gateway
//! has are answered with 404, connections are closed: a gateway passes nothing on by itself.

mod http;
mod mesh_names;
mod opaque;

use std::collections::BTreeMap;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::{Gateway, Resource, Server, ServerTlsMode};
use egressd_model::value::{HostPattern, NamespacedHost, Protocol, ProtocolFamily, selects};

use crate::chain::{Chain, ChainAction, ChainIndex};
use crate::cluster::BLACK_HOLE;
use crate::compile::clusters::ByName;
use crate::compile::context::{Context, GatewayName};
use crate::compile::delegates::Delegates;
use crate::compile::virtual_services::Rule;
use crate::gateway::GatewayServer;
use crate::listener::{Bind, Listener, ListenerRules, Sniff};
use crate::tcp::TcpRoute;

/// One server and the rules bound to its gateway.
struct Bound<'a, 'm> {
    gateway: &'m Resource<Gateway>,
    server: &'m Server,
    number: u16,
    port_name: &'m str,
    protocol: Protocol,
    rules: Vec<&'a Rule<'m>>,
}

/// Builds the servers; clusters that only they have are added to `made`.
pub(crate) fn build<'m>(
    model: &'m Model,
    context: &Context<'_, 'm>,
    made: &mut ByName,
) -> Vec<GatewayServer> {
    let selected = model.gateways().iter().map(|gateway| &**gateway);
    let selected: Vec<_> =
        selected.filter(|gateway| selects(&gateway.selector, &context.node.labels)).collect();
    if selected.is_empty() {
        return Vec::new();
    }
    let rules = all_rules(model, context);
    let mut places: BTreeMap<(&str, u16), Vec<Bound<'_, 'm>>> = BTreeMap::new();
    for gateway in selected {
        for server in &gateway.servers {
            if let Some(bound) = Bound::new(gateway, server, &rules) {
                places.entry((&server.bind, bound.number)).or_default().push(bound);
            }
        }
    }
    let mut servers = Vec::new();
    for ((bind, port), bound) in places {
        let listener = Arc::new(listener(context, bind, port, &bound, made));
        servers.extend(bound.iter().map(|one| one.finish(bind, &listener)));
    }
    servers
}

/// VirtualServices for gateways that the node's namespace sees, oldest first.
fn all_rules<'m>(model: &'m Model, context: &Context<'_, 'm>) -> Vec<Rule<'m>> {
    let default = context.mesh.default_virtual_service_export_to();
    let delegates = Delegates::new(model.virtual_services());
    model
        .virtual_services()
        .iter()
        .filter(|rule| !rule.hosts.is_empty() && !rule.gateways.is_empty())
        .filter(|rule| {
            let (own, client) = (&rule.meta.namespace, &context.node.namespace);
            rule.export_to.is_visible(own, client, &default)
        })
        .map(|rule| Rule::new(rule, context.names, &delegates, &default))
        .collect()
}

impl<'a, 'm> Bound<'a, 'm> {
    fn new(
        gateway: &'m Resource<Gateway>,
        server: &'m Server,
        rules: &'a [Rule<'m>],
    ) -> Option<Self> {
        let port = server.port.as_ref()?;
        let names = |rule: &&Rule<'_>| {
            let name = name_of(gateway, &rule.resource.meta.namespace);
            rule.resource.gateways.iter().any(|written| name.is(written))
        };
        Some(Self {
            gateway,
            server,
            number: port.number.value,
            port_name: &port.name,
            protocol: port.protocol.value,
            rules: rules.iter().filter(names).collect(),
        })
    }

    /// The gateway as a rule names it.
    fn name(&self, rule: &Rule<'m>) -> GatewayName<'m> {
        name_of(self.gateway, &rule.resource.meta.namespace)
    }

    /// Whether clients speak TLS to it and it ends here.
    fn terminates(&self) -> bool {
        self.server.tls.as_ref().is_some_and(|tls| match tls.mode.value {
            ServerTlsMode::Simple
            | ServerTlsMode::Mutual
            | ServerTlsMode::IstioMutual
            | ServerTlsMode::OptionalMutual => true,
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => false,
        }) && self.protocol.is_tls()
    }

    /// Whether the names that proxies of the mesh give their TLS say where it goes.
    fn passes_by_mesh_names(&self) -> bool {
        let mode = self.server.tls.as_ref().map(|tls| tls.mode.value);
        mode == Some(ServerTlsMode::AutoPassthrough)
    }

    /// Whether requests are routed.
    fn speaks_http(&self) -> bool {
        self.protocol.is_http() || (self.protocol == Protocol::Https && self.terminates())
    }

    /// The hosts that this server has for rules of a namespace.
    fn hosts_for(&self, namespace: &'m str) -> impl Iterator<Item = &'m HostPattern> {
        let own: &str = &self.gateway.meta.namespace;
        let seen = move |host: &&'m egressd_model::Spanned<NamespacedHost>| match host
            .namespace
            .as_deref()
        {
            None | Some("*") => true,
            Some(".") => namespace == own,
            Some(other) => namespace == other,
        };
        self.server.hosts.iter().filter(seen).map(|host| &host.host)
    }

    /// The hosts of a rule that it serves: of two that overlap, the more specific.
    fn served(&self, rule: &Rule<'m>) -> Vec<HostPattern> {
        let mut served = Vec::new();
        for own in self.hosts_for(&rule.resource.meta.namespace) {
            for host in rule.hosts.iter().filter(|host| host.overlaps(own)) {
                let host = if host.is_subset_of(own) { host } else { own };
                if !served.contains(host) {
                    served.push(host.clone());
                }
            }
        }
        served
    }

    fn finish(&self, bind: &str, listener: &Listener) -> GatewayServer {
        GatewayServer {
            gateway: self.gateway.meta.key(),
            port_name: Arc::from(self.port_name),
            bind: Arc::from(bind),
            port: self.number,
            protocol: self.protocol,
            hosts: self.server.hosts.iter().map(|host| host.value.clone()).collect(),
            tls: self.server.tls.as_deref().cloned(),
            listener: listener.clone(),
        }
    }
}

fn name_of<'m>(gateway: &'m Resource<Gateway>, from: &'m str) -> GatewayName<'m> {
    GatewayName::Named { namespace: &gateway.meta.namespace, name: &gateway.meta.name, from }
}

fn listener(
    context: &Context<'_, '_>,
    bind: &str,
    port: u16,
    bound: &[Bound<'_, '_>],
    made: &mut ByName,
) -> Listener {
    let mut chains = Vec::new();
    let plain: Vec<_> = bound.iter().filter(|one| one.speaks_http() && !one.terminates()).collect();
    if !plain.is_empty() {
        let table = http::table(context, &plain, format!("http.{port}"), false);
        chains.push(chain(&format!("http.{port}"), Vec::new(), ChainAction::Http(table)));
    }
    for one in bound.iter().filter(|one| !one.speaks_http() || one.terminates()) {
        if one.speaks_http() {
            let gateway = &one.gateway.meta;
            let (name, namespace) = (&gateway.name, &gateway.namespace);
            let name = format!("https.{port}.{}.{name}.{namespace}", one.port_name);
            let table = http::table(context, &[one], name.clone(), true);
            let chain = chain(&name, names(one), ChainAction::Http(table));
            chains.push(Chain {
                terminate: one.server.tls.as_deref().cloned().map(Arc::new),
                ..chain
            });
        } else if one.passes_by_mesh_names() {
            chains.extend(mesh_names::chains(context, one, made));
        } else {
            chains.extend(opaque::chains(context, one));
        }
    }
    let chains: Vec<_> = chains.into_iter().map(Arc::new).collect();
    let default_chain = chains.iter().find(|chain| chain.asks_nothing()).cloned();
    let closed = || {
        let route = TcpRoute::to(context.cluster(BLACK_HOLE));
        let chain = chain("no server", Vec::new(), ChainAction::Tcp(Arc::new(route)));
        Arc::new(Chain { catch_all: true, ..chain })
    };
    let address = if bind.is_empty() { "0.0.0.0" } else { bind };
    let tls =
        chains.iter().any(|chain| !chain.server_names.is_empty() || chain.terminate.is_some());
    let rules = ListenerRules {
        name: Some(Arc::from(format!("{address}_{port}"))),
        is_socket: true,
        sniff: Sniff { tls, http: false, timeout: None },
        default_chain: default_chain.unwrap_or_else(closed),
        index: ChainIndex::of(&chains),
        chains: chains.into(),
        services: Box::default(),
        conflicts: Box::default(),
        reserved: None,
    };
    let bind = bind.parse().map_or(Bind::Wildcard, Bind::Socket);
    Listener { bind, port, rules: Arc::new(rules) }
}

/// The names that a server asks of ClientHellos; none for `*`.
fn names(one: &Bound<'_, '_>) -> Vec<HostPattern> {
    let names: Vec<_> = one.server.hosts.iter().map(|host| host.host.clone()).collect();
    if names.iter().any(HostPattern::is_catch_all) { Vec::new() } else { names }
}

fn chain(name: &str, server_names: Vec<HostPattern>, action: ChainAction) -> Chain {
    Chain {
        name: Arc::from(name),
        destinations: Vec::new(),
        server_names,
        http_only: false,
        catch_all: false,
        service: None,
        action,
        terminate: None,
        expected: None,
    }
}

/// Whether a server relays opaque bytes of TLS by their name.
fn by_name(one: &Bound<'_, '_>) -> bool {
    one.protocol.family() == ProtocolFamily::Tls && !one.terminates()
}
