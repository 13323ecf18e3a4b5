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
pub(crate) mod paths;
mod policy;
mod pool;
mod revise;
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

use crate::chain::{Chain, ChainAction};
use crate::compile::clusters::{ByName, Clusters};
use crate::compile::context::Context;
use crate::compile::endpoints::Workloads;
use crate::compile::listeners::{Inputs, Listeners, Rest, loopback};
pub(crate) use crate::compile::memo::{Memo, same};
use crate::compile::paths::Paths;
use crate::compile::policy::Policy;
pub(crate) use crate::compile::revise::{Before, Kept, revise};
use crate::compile::services::{Directory, Sources};
use crate::compile::short_names::ShortNames;
use crate::compile::vhosts::Vhosts;
use crate::decide::Original;
use crate::fast::FastMap;
use crate::listener::{Bind, Listener, ListenerRules, Sniff};
use crate::options::{Answers, Node, Options};
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
) -> (Tables, Kept) {
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
        services: &services.directory,
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
    let mut kept = Kept::new(&services, &made, &names);
    for (egress, seen) in egress.iter().zip(&services.seen) {
        let rules = virtual_services::collect(model, mesh, node, &names, egress);
        let mut vhosts = Vhosts::new(&context, &rules, seen, policy.virtual_host());
        let inputs = Inputs { context: &context, egress, seen, rules: &rules };
        listeners.add(&inputs, &mut vhosts);
        if egress.port.is_none() {
            proxy = http_proxy_port(mesh, options).map(|port| (port, vhosts.proxy()));
        }
        kept.opaque_rules |= rules.has_opaque();
        kept.tables = vhosts.tables();
    }
    let mut listeners = listeners.finish();
    // Sockets come last: who opens one has its address.
    listeners.sort_by_key(|listener| matches!(listener.bind, Bind::Socket(_)));
    let proxy_port = proxy.as_ref().map(|(port, _)| *port);
    listeners.extend(proxy.map(|(port, table)| http_proxy(port, table, node)));
    let mut of_gateways = ByName::default();
    let gateways = gateways::build(model, &context, &mut of_gateways);
    let delegates = || model.virtual_services().iter().any(|rule| delegates::is_part(rule));
    let simple = matches!(egress.as_slice(), [only] if only.port.is_none())
        && outbound.egress_proxy.is_none()
        && gateways.is_empty()
        && (proxy_port.is_none() || options.answers == Answers::Ours);
    kept.revisable = simple && !delegates();
    clusters.extend(of_gateways);
    let services = services.directory;
    let vip_ranges = vip_ranges(&services, vips);
    let mut rows = kernel_rows::build(&services, &listeners, &vip_ranges, &policy);
    let (mut addresses, mut wildcards) = (FastMap::default(), FastMap::default());
    addresses.reserve(listeners.len());
    for listener in listeners {
        match listener.bind {
            Bind::Address(ip) | Bind::Socket(ip) => {
                addresses.insert((ip.to_canonical(), listener.port), listener.rules);
            }
            Bind::Wildcard => {
                wildcards.insert(listener.port, listener);
            }
        }
    }
    let vips = originals(&services, &policy);
    let paths = Paths {
        services: &services.all,
        addresses: &addresses,
        wildcards: &wildcards,
        clusters: &clusters,
        vips: &vips,
        vip_ranges: &vip_ranges,
        node: options.path,
    };
    paths.assign(&mut rows);
    let tables = Tables {
        addresses: Arc::new(addresses),
        wildcards,
        virtual_outbound: policy.virtual_outbound(options, detection),
        vips: Arc::new(vips),
        vip_ranges,
        names: Arc::new(name_table::build(&services)),
        rows: Arc::new(rows),
        gateways,
        strict: options.strict,
        path: options.path,
        path_normalization: mesh.path_normalization(),
        services: services.all,
        clusters: Arc::new(clusters),
    };
    (tables, kept)
}

/// The ranges that allocated addresses come from, if any are or were in use.
fn vip_ranges(services: &Directory, vips: &VipAllocation) -> Vec<IpRange> {
    let ranges = [vips.range_v4, vips.range_v6];
    // An address that was given once may still be known to somebody.
    let used = vips.next > 1 || services.all.iter().any(|service| !service.vips.is_empty());
    if used { ranges.to_vec() } else { Vec::new() }
}

/// Where connections to allocated addresses go that are to go to their original destination.
fn originals(services: &Directory, policy: &Policy) -> FastMap<IpAddr, Original> {
    let mut originals = FastMap::default();
    for service in services.all.iter() {
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
    let rules = ListenerRules {
        name: None,
        is_socket: true,
        sniff: Sniff::default(),
        chains: Box::from([Arc::clone(&chain)]),
        default_chain: chain,
        services: Box::default(),
        conflicts: Box::default(),
        reserved: None,
        index: None,
    };
    Listener { bind: Bind::Socket(ip), port, rules: Arc::new(rules) }
}
