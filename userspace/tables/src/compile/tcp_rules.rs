//! Filter chains of opaque bytes: a service's own, and those of tls and tcp rules (semantics.md §3).

use std::collections::HashSet;
use std::sync::Arc;

use egressd_model::Spanned;
use egressd_model::resource::{RouteDestination, TcpRoute as TcpSettings};
use egressd_model::value::{HostPattern, IpRange, Protocol, ProtocolFamily};

use crate::chain::{Chain, ChainAction, ExpectedName};
use crate::cluster::{ClusterRef, HashKey};
use crate::compile::context::{Context, GatewayName};
use crate::compile::virtual_services::{Rule, Rules};
use crate::options::Answers;
use crate::service::{Service, ServiceId};
use crate::tcp::{TCP_IDLE, TcpRoute};

/// Where chains are made for.
pub(crate) struct Place<'a> {
    pub(crate) service: &'a Service,
    pub(crate) id: ServiceId,
    pub(crate) port: u16,
    /// The port declares TLS or HTTPS.
    pub(crate) tls: bool,
    /// The blocks of the service.
    pub(crate) blocks: &'a [IpRange],
    /// Whether a TLS service is told from others by its name.
    pub(crate) by_name: bool,
}

/// The rules that act on opaque bytes.
pub(crate) struct TcpRules<'a, 'm> {
    pub(crate) context: &'a Context<'a, 'm>,
    pub(crate) rules: &'a Rules<'m>,
}

impl TcpRules<'_, '_> {
    /// The chains of a service on a port.
    pub(crate) fn chains(&self, place: &Place<'_>) -> Vec<Chain> {
        if place.tls { self.tls(place) } else { self.tcp(place) }
    }

    /// With any tls rule for the port, the service's own chain is not made (semantics.md §3).
    fn tls(&self, place: &Place<'_>) -> Vec<Chain> {
        let host = HostPattern::new(&place.service.host);
        let mut chains = Vec::new();
        let mut known = HashSet::new();
        let mut blocks = place.blocks.to_vec();
        for rule in self.rules.overlapping(&host) {
            for tls in &rule.resource.tls {
                for condition in tls.matches.iter().filter(|condition| {
                    (condition.port.value == 0 || condition.port.value == place.port)
                        && self.context.is_client(
                            &GatewayName::Mesh,
                            &condition.gateways,
                            &condition.source_labels,
                            &condition.source_namespace,
                        )
                }) {
                    let own: Vec<_> =
                        condition.destination_subnets.iter().map(|s| s.value).collect();
                    let names: Vec<_> =
                        condition.sni_hosts.iter().map(|name| name.value.clone()).collect();
                    let asked = (names.clone(), own.clone());
                    // Istio lets the blocks of one condition hold for those behind it.
                    if self.context.options.answers == Answers::Ours {
                        blocks = place.blocks.to_vec();
                    }
                    if !own.is_empty() {
                        blocks = own;
                    }
                    if known.insert(asked) {
                        let route = self.route(&tls.route, rule, place);
                        chains.push(chain(rule_name(rule), names, blocks.clone(), route, place));
                    }
                }
            }
        }
        if chains.is_empty() {
            let names = if place.by_name { vec![host] } else { Vec::new() };
            let name = own_name(place);
            chains.push(chain(name, names, place.blocks.to_vec(), self.own_route(place), place));
        }
        chains
    }

    /// The first rule without blocks ends the list; those with blocks come before the service's own.
    fn tcp(&self, place: &Place<'_>) -> Vec<Chain> {
        let host = HostPattern::new(&place.service.host);
        let mut chains = Vec::new();
        let mut own_block_taken = false;
        for rule in self.rules.overlapping(&host) {
            for tcp in &rule.resource.tcp {
                let Some(blocks) = self.tcp_blocks(tcp, place.port) else { continue };
                let route = self.route(&tcp.route, rule, place);
                if blocks.is_empty() {
                    let blocks = place.blocks.to_vec();
                    chains.push(chain(rule_name(rule), Vec::new(), blocks, route, place));
                    return chains;
                }
                own_block_taken |= same_blocks(&blocks, place.blocks);
                chains.push(chain(rule_name(rule), Vec::new(), blocks, route, place));
            }
        }
        if !own_block_taken {
            let (name, route) = (own_name(place), self.own_route(place));
            chains.push(chain(name, Vec::new(), place.blocks.to_vec(), route, place));
        }
        chains
    }

    /// The blocks a tcp rule is for; empty for all; nothing if it does not act here.
    fn tcp_blocks(&self, tcp: &TcpSettings, port: u16) -> Option<Vec<IpRange>> {
        if tcp.matches.is_empty() {
            return Some(Vec::new());
        }
        let mut blocks = Vec::new();
        for condition in tcp.matches.iter().filter(|condition| {
            (condition.port.value == 0 || condition.port.value == port)
                && self.context.is_client(
                    &GatewayName::Mesh,
                    &condition.gateways,
                    &condition.source_labels,
                    &condition.source_namespace,
                )
        }) {
            if condition.destination_subnets.is_empty() {
                return Some(Vec::new());
            }
            blocks.extend(condition.destination_subnets.iter().map(|subnet| subnet.value));
        }
        (!blocks.is_empty()).then_some(blocks)
    }

    /// Where a tls or tcp rule leads.
    fn route(
        &self,
        written: &[Spanned<RouteDestination>],
        rule: &Rule<'_>,
        place: &Place<'_>,
    ) -> TcpRoute {
        self.context.tcp_route(written, rule, place.port)
    }

    /// Where the service itself is. A Sidecar listener's port may be another than the service's only
    /// one.
    fn own_route(&self, place: &Place<'_>) -> TcpRoute {
        let port = match place.service.ports.as_slice() {
            [only] => only.number,
            _ => place.port,
        };
        let cluster = self.context.own_cluster(place.id, &place.service.host, port);
        TcpRoute::to(cluster).governed()
    }
}

impl Context<'_, '_> {
    /// The route of a tls or tcp rule.
    pub(crate) fn tcp_route(
        &self,
        written: &[Spanned<RouteDestination>],
        rule: &Rule<'_>,
        port: u16,
    ) -> TcpRoute {
        let key = rule.key();
        let several = written.len() > 1;
        // A single destination needs no weight; among several, one without gets nothing.
        let counted = written.iter().filter(|one| !several || one.weight.value > 0);
        let clusters: Vec<(ClusterRef, u32)> = counted
            .map(|one| {
                let cluster = self.destination(&one.destination, &key.namespace, port);
                (cluster, one.weight.value.max(1))
            })
            .collect();
        TcpRoute {
            clusters,
            weighted: several,
            idle_timeout: Some(TCP_IDLE),
            max_duration: None,
            hash_source_ip: false,
            tunnel: None,
            virtual_service: Some(key),
        }
        .governed()
    }
}

impl TcpRoute {
    /// The same with what the policy of its first cluster says about relaying.
    pub(crate) fn governed(self) -> Self {
        let first = self.clusters.first().and_then(|(cluster, _)| cluster.cluster());
        let Some(cluster) = first.map(Arc::clone) else {
            let (idle_timeout, max_duration) = (Some(TCP_IDLE), None);
            return Self {
                idle_timeout,
                max_duration,
                hash_source_ip: false,
                tunnel: None,
                ..self
            };
        };
        let hash = cluster.load_balancer.hash.as_ref().map(|hash| &hash.key);
        Self {
            idle_timeout: cluster.pool.tcp_idle_timeout,
            max_duration: cluster.pool.max_connection_duration,
            hash_source_ip: hash == Some(&HashKey::SourceIp),
            tunnel: cluster.tunnel.clone(),
            ..self
        }
    }
}

impl Chain {
    /// `strict`: connections to the address of a service must ask for that service.
    pub(crate) fn expect(&mut self, service: &Service, protocol: Protocol) {
        let plaintext_allowed = match protocol.family() {
            ProtocolFamily::Tls => false,
            ProtocolFamily::Unset => true,
            ProtocolFamily::Http | ProtocolFamily::Tcp | ProtocolFamily::Udp => return,
        };
        let host = HostPattern::new(&service.host.to_ascii_lowercase());
        self.expected = Some(Box::new(ExpectedName { hosts: vec![host], plaintext_allowed }));
    }
}

fn chain(
    name: Arc<str>,
    server_names: Vec<HostPattern>,
    destinations: Vec<IpRange>,
    route: TcpRoute,
    place: &Place<'_>,
) -> Chain {
    Chain {
        name,
        destinations,
        server_names,
        http_only: false,
        catch_all: false,
        service: Some(place.id),
        action: ChainAction::Tcp(Arc::new(route)),
        terminate: None,
        expected: None,
    }
}

fn rule_name(rule: &Rule<'_>) -> Arc<str> {
    Arc::from(format!("VirtualService {}", rule.key()))
}

fn own_name(place: &Place<'_>) -> Arc<str> {
    Arc::from(format!("{}:{}", place.service.host, place.port))
}

fn same_blocks(a: &[IpRange], b: &[IpRange]) -> bool {
    let sorted = |blocks: &[IpRange]| {
        let mut blocks: Vec<_> = blocks.iter().map(|block| block.masked()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    };
    sorted(a) == sorted(b)
}
