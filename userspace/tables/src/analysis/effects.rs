//! Fields that are accepted, and do nothing here or less than they say.

use egressd_model::Spanned;
use egressd_model::resource::{
    DestinationRule, Gateway, LoadBalancer, Meta, Resource, RetryBudget, Sidecar, Telemetry,
    TlsProtocolVersion, Tunnel, TunnelProtocol, VirtualService,
};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::World;

/// The access log that is the proxy's own.
const OWN_LOG: &str = "envoy";

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let model = world.subject.model;
    model.telemetries().iter().for_each(|one| telemetry(one, findings));
    model.gateways().iter().for_each(|one| gateway(one, findings));
    model.destination_rules().iter().for_each(|one| destination_rule(one, findings));
    model.virtual_services().iter().for_each(|one| virtual_service(one, findings));
    model.sidecars().iter().for_each(|one| sidecar(one, findings));
}

fn telemetry(telemetry: &Resource<Telemetry>, findings: &mut Findings) {
    let meta = &telemetry.meta;
    let metrics = "the metrics are those of `egressd metrics`, with Istio's names and labels";
    none(meta, "spec.metrics", telemetry.metrics.as_ref(), metrics, findings);
    let tracing = "headers of traces that applications send are passed on";
    none(meta, "spec.tracing", telemetry.tracing.as_ref(), tracing, findings);
    for (index, logging) in telemetry.access_logging.iter().enumerate() {
        let field = format!("spec.accessLogging[{index}]");
        let all = "all records are written where `accessLog.path` of egressd.yaml says";
        none(meta, &format!("{field}.filter"), logging.filter.as_ref(), all, findings);
        for (number, provider) in logging.providers.iter().enumerate() {
            if provider.name.value != OWN_LOG {
                let field = format!("{field}.providers[{number}].name");
                none(meta, &field, Some(&provider.name), all, findings);
            }
        }
    }
}

fn gateway(gateway: &Resource<Gateway>, findings: &mut Findings) {
    for (index, server) in gateway.servers.iter().enumerate() {
        let Some(tls) = &server.tls else { continue };
        let lowest = &tls.min_protocol_version;
        if matches!(lowest.value, TlsProtocolVersion::TlsV1_0 | TlsProtocolVersion::TlsV1_1) {
            let field = format!("spec.servers[{index}].tls.minProtocolVersion");
            let place = Place::new(&gateway.meta, field, lowest.span);
            let message = format!("{} is not spoken: TLS 1.2 is the oldest here", lowest.value);
            findings.warn(CODE, place, message, "write TLSV1_2, or leave it out".to_owned());
        }
    }
}

fn destination_rule(rule: &Resource<DestinationRule>, findings: &mut Findings) {
    let meta = &rule.meta;
    let subsets = rule.subsets.iter().enumerate().filter_map(|(index, subset)| {
        let policy = subset.traffic_policy.as_ref()?;
        Some((format!("spec.subsets[{index}].trafficPolicy"), policy))
    });
    let own = rule.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    for (field, policy) in own.chain(subsets) {
        balancer(meta, &field, policy.load_balancer.as_deref(), findings);
        budget(meta, &field, policy.retry_budget.as_deref(), findings);
        tunnel(meta, &field, policy.tunnel.as_deref(), findings);
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            let field = format!("{field}.portLevelSettings[{index}]");
            balancer(meta, &field, port.load_balancer.as_deref(), findings);
        }
    }
}

/// Hashing has no ring and no table whose size could matter.
fn balancer(meta: &Meta, at: &str, balancer: Option<&LoadBalancer>, findings: &mut Findings) {
    let Some(hash) = balancer.and_then(|balancer| balancer.consistent_hash.as_ref()) else {
        return;
    };
    let field = format!("{at}.loadBalancer.consistentHash");
    let why = "endpoints are hashed without a ring or table; nothing is lost by that";
    let ring = hash.ring_hash.as_ref().map(|ring| ring.minimum_ring_size.span);
    let sizes = [
        ("minimumRingSize", Some(hash.minimum_ring_size.span)),
        ("ringHash.minimumRingSize", ring),
        (
            "maglev.tableSize",
            hash.maglev.as_ref().and_then(|one| Some(one.table_size.as_ref()?.span)),
        ),
    ];
    for (name, span) in sizes {
        let Some(span) = span.filter(|span| span.is_written()) else { continue };
        let place = Place::new(meta, format!("{field}.{name}"), span);
        findings.inform(CODE, place, format!("`{}` does nothing here", last(name)), why.to_owned());
    }
}

fn budget(meta: &Meta, at: &str, budget: Option<&RetryBudget>, findings: &mut Findings) {
    let interval = budget.and_then(|budget| budget.budget_interval.as_ref());
    let interval = interval.filter(|interval| !interval.value.is_zero());
    let why = "the budget is a share of the requests under way";
    none(meta, &format!("{at}.retryBudget.budgetInterval"), interval, why, findings);
}

fn tunnel(meta: &Meta, at: &str, tunnel: Option<&Tunnel>, findings: &mut Findings) {
    let Some(protocol) = tunnel.map(|tunnel| &tunnel.protocol) else { return };
    if protocol.value == TunnelProtocol::Post {
        let place = Place::new(meta, format!("{at}.tunnel.protocol"), protocol.span);
        let message = "tunnels by POST are not opened: such connections are closed".to_owned();
        findings.warn(CODE, place, message, "write CONNECT".to_owned());
    }
}

fn virtual_service(service: &Resource<VirtualService>, findings: &mut Findings) {
    for (number, rule) in service.tcp.iter().enumerate() {
        for (index, condition) in rule.matches.iter().enumerate() {
            let subnet = Some(&condition.source_subnet).filter(|subnet| !subnet.value.is_empty());
            let field = format!("spec.tcp[{number}].match[{index}].sourceSubnet");
            let why = "Istio ignores it as well; choose clients by `sourceLabels`";
            none(&service.meta, &field, subnet, why, findings);
        }
    }
}

fn sidecar(sidecar: &Resource<Sidecar>, findings: &mut Findings) {
    let why = "only what leaves is carried; what comes in is not touched";
    none(&sidecar.meta, "spec.ingress", sidecar.ingress.first(), why, findings);
    let pool = sidecar.inbound_connection_pool.as_ref();
    none(&sidecar.meta, "spec.inboundConnectionPool", pool, why, findings);
}

/// A field that is written and does nothing.
fn none<T>(
    meta: &Meta,
    field: &str,
    written: Option<&Spanned<T>>,
    instead: &str,
    findings: &mut Findings,
) {
    let Some(written) = written else { return };
    let place = Place::new(meta, field, written.span);
    let message = format!("`{}` does nothing here", last(field));
    findings.warn(CODE, place, message, instead.to_owned());
}

/// The name of the field itself.
fn last(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

const CODE: &str = "no-effect";
