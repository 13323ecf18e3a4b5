//! TLS that is spoken twice, and TLS that Istio would leave out.

use egressd_model::resource::{
    ClientTlsMode, ClientTlsSettings, DestinationRule, Location, Resource, TrafficPolicy,
};

use crate::analysis::findings::{Findings, Place};
use crate::analysis::world::{Entry, World};

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    for rule in world.subject.model.destination_rules() {
        let entries = world.governed(rule);
        for block in blocks(rule) {
            double(rule, &block, entries, findings);
            credential(rule, &block, findings);
        }
    }
}

/// One `tls` block and the ports it holds for.
pub(super) struct Block<'a> {
    pub(super) field: String,
    pub(super) tls: &'a ClientTlsSettings,
    only: Option<u16>,
    except: Vec<u16>,
}

impl Block<'_> {
    /// Settings of a port replace those of the destination as a whole (semantics.md §4).
    fn holds_for(&self, port: u16) -> bool {
        self.only.is_none_or(|only| only == port) && !self.except.contains(&port)
    }
}

/// Every `tls` block of a rule that asks for TLS.
pub(super) fn blocks(rule: &DestinationRule) -> Vec<Block<'_>> {
    let mut all = Vec::new();
    if let Some(policy) = &rule.traffic_policy {
        add_policy("spec.trafficPolicy", policy, &mut all);
    }
    for (index, subset) in rule.subsets.iter().enumerate() {
        if let Some(policy) = &subset.traffic_policy {
            add_policy(&format!("spec.subsets[{index}].trafficPolicy"), policy, &mut all);
        }
    }
    all.retain(|block| block.tls.mode.value != ClientTlsMode::Disable);
    all
}

fn add_policy<'a>(field: &str, policy: &'a TrafficPolicy, all: &mut Vec<Block<'a>>) {
    let number = |settings: &egressd_model::resource::PortTrafficPolicy| {
        settings.port.as_ref().map(|port| port.number.value)
    };
    if let Some(tls) = &policy.tls {
        let except = policy.port_level_settings.iter().filter_map(|one| number(one)).collect();
        all.push(Block { field: format!("{field}.tls"), tls, only: None, except });
    }
    for (index, settings) in policy.port_level_settings.iter().enumerate() {
        if let Some(tls) = &settings.tls {
            let field = format!("{field}.portLevelSettings[{index}].tls");
            all.push(Block { field, tls, only: number(settings), except: Vec::new() });
        }
    }
}

/// TLS around the application's own TLS. Mesh TLS around it is how a gateway of the mesh is reached.
fn double(
    rule: &Resource<DestinationRule>,
    block: &Block<'_>,
    entries: &[Entry<'_>],
    findings: &mut Findings,
) {
    let hit = entries.iter().find_map(|one| {
        let inside = one.entry.location.value == Location::MeshInternal;
        if inside && block.tls.mode.value == ClientTlsMode::IstioMutual {
            return None;
        }
        let mut ports = one.entry.ports.iter();
        let port =
            ports.find(|port| port.protocol.is_tls() && block.holds_for(port.number.value))?;
        Some((one, port))
    });
    let Some((one, port)) = hit else { return };
    let plain = one.entry.ports.iter().find(|port| !port.protocol.is_tls());
    let help = match plain {
        Some(plain) => format!(
            "put `tls` under `portLevelSettings` for port {}, so that port {} passes through",
            plain.number.value, port.number.value
        ),
        None => format!(
            "remove `tls`; or let the application use http://{}, with port 80, `protocol: HTTP` and \
             `targetPort: {}` in the ServiceEntry",
            one.host, port.number.value
        ),
    };
    findings.warn(
        "double-tls",
        Place::new(&rule.meta, format!("{}.mode", block.field), block.tls.mode.span),
        format!(
            "port {} of {} is {}: the application's own TLS would be wrapped in TLS once more",
            port.number.value, one.host, port.protocol.value
        ),
        help,
    );
}

/// Istio's sidecars know no secrets by name unless the rule selects workloads (semantics.md §4).
fn credential(rule: &Resource<DestinationRule>, block: &Block<'_>, findings: &mut Findings) {
    let name = &block.tls.credential_name;
    if name.is_empty() || rule.workload_selector.is_some() {
        return;
    }
    findings.warn(
        "credential-name-ignored",
        Place::new(&rule.meta, format!("{}.credentialName", block.field), name.span),
        format!(
            "without a workloadSelector Istio's sidecars ignore `credentialName: {}` and send plaintext; egressd \
             closes such connections instead",
            name.value
        ),
        "name files (`clientCertificate`, `privateKey`, `caCertificates`), or add a `workloadSelector`"
            .to_owned(),
    );
}
