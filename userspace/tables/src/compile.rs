//! From resources to tables.
//!
//! The order: what the node sees ([`scope`], [`services`]), rules ([`virtual_services`],
//! [`destination_rules`]), [`clusters`], then what leads to them ([`vhosts`], [`listeners`]), and at
//! last what follows from all that ([`name_table`], [`kernel_rows`], [`gateways`]).

mod balance;
mod clusters;
mod context;
mod delegates;
mod destination_rules;
mod endpoints;
mod extensions;
mod gateways;
mod http_rules;
mod kernel_rows;
mod listeners;
mod locality;
mod matchers;
mod memo;
mod name_table;
mod outlier;
mod policy;
mod pool;
mod scope;
mod services;
mod short_names;
mod tcp_rules;
mod tls;
mod vhosts;
mod virtual_services;

use std::net::IpAddr;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::MeshConfig;
use egressd_model::value::IpRange;

use crate::chain::{Chain, ChainAction, ChainIndex};
use crate::compile::clusters::{ByName, Clusters};
use crate::compile::context::Context;
use crate::compile::endpoints::Workloads;
use crate::compile::listeners::{Inputs, Listeners, Rest, loopback};
pub(crate) use crate::compile::memo::Memo;
use crate::compile::policy::Policy;
use crate::compile::services::{Services, Sources};
use crate::compile::short_names::ShortNames;
use crate::compile::vhosts::Vhosts;
use crate::decide::Original;
use crate::fast::FastMap;
use crate::listener::{Bind, Listener, Sniff};
use crate::options::{Node, Options};
use crate::route::RouteTable;
use crate::tables::Tables;
use crate::vip::VipAllocation;

/// Compiles. See [`Tables::compile`] and [`crate::Compiler`].
pub(crate) fn compile(
    model: &Model,
    mesh: &MeshConfig,
    node: &Node,
    options: &Options,
    vips: &VipAllocation,
    memo: &Memo,
) -> Tables {
    let sidecar = scope::sidecar(model, mesh, node);
    let egress = scope::egress(sidecar, node);
    let outbound = scope::outbound(sidecar, mesh);
    let sources = Sources { model, mesh, node, options, vips, memo };
    let services = services::collect(&sources, &egress);
    let names = ShortNames::new(model, options.answers);
    let rules = destination_rules::collect(model, mesh, node, &names);
    let workloads = Workloads::new(model, mesh);
    let mut clusters = ByName::default();
    policy::clusters(mesh, node, outbound.mode, &mut clusters);
    let makers = Clusters { mesh, node, options, rules: &rules, workloads: &workloads, memo };
    let made = makers.build(&services, &mut clusters);
    let policy = Policy::new(&outbound, &names, &clusters);
    let context = Context {
        mesh,
        node,
        options,
        names: &names,
        services: &services,
        clusters: &clusters,
        made: &made,
        rules: &rules,
        memo,
    };
    let detection =
        options.detection_timeout.or(mesh.protocol_detection_timeout.as_deref().copied());
    let detection = detection.filter(|timeout| !timeout.is_zero());
    let rest = Rest { policy: &policy, timeout: detection, v6_only: !node.families.v4() };
    let mut listeners = Listeners::new(rest);
    let mut proxy = None;
    for (egress, seen) in egress.iter().zip(&services.seen) {
        let rules = virtual_services::collect(model, mesh, node, &names, egress);
        let mut vhosts = Vhosts::new(&context, &rules, seen, policy.virtual_host());
        let inputs = Inputs { context: &context, egress, seen, rules: &rules };
        listeners.add(&inputs, &mut vhosts);
        if egress.port.is_none() {
            proxy = http_proxy_port(mesh, options).map(|port| (port, vhosts.proxy()));
        }
    }
    let mut listeners = listeners.finish();
    // Sockets come last: who opens one has its address.
    listeners.sort_by_key(|listener| matches!(listener.bind, Bind::Socket(_)));
    listeners.extend(proxy.map(|(port, table)| Arc::new(http_proxy(port, table, node))));
    let gateways = gateways::build(model, &context);
    let vip_ranges = vip_ranges(&services, vips);
    let rows = kernel_rows::build(&services, &listeners, &vip_ranges, &policy);
    let (mut addresses, mut wildcards) = (FastMap::default(), FastMap::default());
    addresses.reserve(listeners.len());
    for listener in listeners {
        match listener.bind {
            Bind::Address(ip) | Bind::Socket(ip) => {
                addresses.insert((ip.to_canonical(), listener.port), listener);
            }
            Bind::Wildcard => {
                wildcards.insert(listener.port, listener);
            }
        }
    }
    Tables {
        addresses,
        wildcards,
        virtual_outbound: Arc::new(policy.virtual_outbound(options, detection)),
        vips: originals(&services, &policy),
        vip_ranges,
        names: name_table::build(&services),
        rows,
        gateways,
        strict: options.strict,
        services: services.all,
        clusters,
    }
}

/// The ranges that allocated addresses come from, if any are or were in use.
fn vip_ranges(services: &Services<'_>, vips: &VipAllocation) -> Vec<IpRange> {
    let ranges = [vips.range_v4, vips.range_v6];
    // An address that was given once may still be known to somebody.
    let used = vips.next > 1 || services.all.iter().any(|service| !service.vips.is_empty());
    if used { ranges.to_vec() } else { Vec::new() }
}

/// Where connections to allocated addresses go that are to go to their original destination.
fn originals(services: &Services<'_>, policy: &Policy) -> FastMap<IpAddr, Original> {
    let mut originals = FastMap::default();
    for service in &services.all {
        let original = match kernel_rows::resolves(service) && !policy.denies() {
            true => Original::Resolve(Arc::clone(&service.host)),
            false => Original::Nowhere,
        };
        for ip in service.vips.iter().flat_map(|vip| vip.addresses()) {
            originals.insert(ip, original.clone());
        }
    }
    originals
}

/// The port of the explicit HTTP proxy, if there is one.
fn http_proxy_port(mesh: &MeshConfig, options: &Options) -> Option<u16> {
    let of_mesh = Some(mesh.proxy_http_port.value);
    options.http_proxy_port.or(of_mesh).filter(|port| *port != 0)
}

/// The explicit HTTP proxy on loopback (semantics.md §6).
fn http_proxy(port: u16, table: Arc<RouteTable>, node: &Node) -> Listener {
    let ip = loopback(node.families);
    let chain = Arc::new(Chain {
        name: Arc::clone(&table.name),
        destinations: Vec::new(),
        server_names: Vec::new(),
        http_only: false,
        catch_all: false,
        service: None,
        action: ChainAction::Http(table),
        terminate: None,
        expected: None,
    });
    Listener {
        name: Arc::from(format!("{ip}_{port}")),
        bind: Bind::Socket(ip),
        port,
        sniff: Sniff::default(),
        chains: vec![Arc::clone(&chain)],
        default_chain: chain,
        services: Vec::new(),
        conflicts: Vec::new(),
        reserved: None,
        index: ChainIndex::default(),
    }
}
