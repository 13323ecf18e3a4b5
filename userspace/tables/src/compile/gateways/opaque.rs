//! Filter chains of gateway servers for opaque bytes, and for TLS that is passed on by its name.

use std::sync::Arc;

use egressd_model::value::HostPattern;

use crate::chain::{Chain, ChainAction};
use crate::compile::context::Context;
use crate::compile::gateways::{Bound, by_name, chain, names};
use crate::compile::virtual_services::Rule;

/// The chains of one server.
pub(super) fn chains(context: &Context<'_, '_>, one: &Bound<'_, '_>) -> Vec<Chain> {
    if by_name(one) { tls(context, one) } else { tcp(context, one) }
}

fn tls(context: &Context<'_, '_>, one: &Bound<'_, '_>) -> Vec<Chain> {
    let mut chains = Vec::new();
    for rule in &one.rules {
        let served = one.served(rule);
        for tls in &rule.resource.tls {
            let acting = tls.matches.iter().filter(|condition| {
                (condition.port.value == 0 || condition.port.value == one.number)
                    && context.is_client(
                        &one.name(rule),
                        &condition.gateways,
                        &condition.source_labels,
                        &condition.source_namespace,
                    )
            });
            for condition in acting {
                let names = condition.sni_hosts.iter().map(|name| name.value.clone());
                let served = |name: &HostPattern| served.iter().any(|host| name.is_subset_of(host));
                let names: Vec<_> = names.filter(|name| served(name)).collect();
                if names.is_empty() {
                    continue;
                }
                let route = context.tcp_route(&tls.route, rule, one.number);
                let destinations = condition.destination_subnets.iter().map(|one| one.value);
                let chain = chain(&name(rule), names, ChainAction::Tcp(Arc::new(route)));
                chains.push(Chain { destinations: destinations.collect(), ..chain });
            }
        }
    }
    chains
}

/// The first rule that acts takes every connection.
fn tcp(context: &Context<'_, '_>, one: &Bound<'_, '_>) -> Vec<Chain> {
    for rule in one.rules.iter().filter(|rule| !one.served(rule).is_empty()) {
        for tcp in &rule.resource.tcp {
            let acts = |condition: &egressd_model::resource::L4Match| {
                (condition.port.value == 0 || condition.port.value == one.number)
                    && context.is_client(
                        &one.name(rule),
                        &condition.gateways,
                        &condition.source_labels,
                        &condition.source_namespace,
                    )
            };
            if !tcp.matches.is_empty() && !tcp.matches.iter().any(|condition| acts(condition)) {
                continue;
            }
            let route = context.tcp_route(&tcp.route, rule, one.number);
            let names = if one.terminates() { names(one) } else { Vec::new() };
            let chain = chain(&name(rule), names, ChainAction::Tcp(Arc::new(route)));
            let terminate = one.server.tls.as_deref().filter(|_| one.terminates());
            return vec![Chain { terminate: terminate.cloned().map(Arc::new), ..chain }];
        }
    }
    Vec::new()
}

fn name(rule: &Rule<'_>) -> String {
    format!("VirtualService {}", rule.key())
}
