//! What one should know beside the chain.

use egressd_model::value::HostPattern;
use egressd_tables::{Explanation, Stage};

use super::target::Target;
use crate::offline::Compiled;

/// Hints for a target, the most likely mistake first.
pub(super) fn hints(
    target: &Target,
    explanation: &Explanation,
    compiled: &Compiled,
) -> Vec<String> {
    let answer = &explanation.answer;
    let mut hints: Vec<String> = uncaptured(explanation).map(str::to_owned).into_iter().collect();
    if !super::is_policy(answer) {
        if target.is_tls() {
            hints.push(
                "the application's own TLS passes through: paths and headers are not seen, and no http rule acts"
                    .to_owned(),
            );
        }
        return hints;
    }
    let Some(asked) = target.asked() else { return hints };
    hints.extend(hidden(asked, compiled));
    if let Some(near) = compiled.tables.nearest_host(asked, target.port) {
        hints.push(match HostPattern::new(&near.what).covers_name(asked) {
            true => format!("{} covers {asked}, but {}", near.what, near.why),
            false => format!("the nearest host is {}, which does not cover {asked}", near.what),
        });
    }
    hints
}

/// What the kernel does by itself is not seen by the proxy.
fn uncaptured(explanation: &Explanation) -> Option<&'static str> {
    let kernel = explanation.steps.iter().find(|step| step.stage == Stage::Capture)?;
    match kernel.chosen.as_str() {
        "left alone" => Some("the proxy does not see this connection, and writes no record of it"),
        "refused" => Some("connect() fails with ECONNREFUSED"),
        _ => None,
    }
}

/// A ServiceEntry that has the host and that this node does not see.
fn hidden(asked: &str, compiled: &Compiled) -> Option<String> {
    let node = &compiled.settings.node.namespace;
    let asked = asked.to_ascii_lowercase();
    let exports = compiled.settings.mesh.default_service_export_to();
    let entry = compiled.model.service_entries().iter().find(|entry| {
        entry.hosts.iter().any(|host| host.covers_name(&asked))
            && !entry.export_to.is_visible(&entry.meta.namespace, node, &exports)
    })?;
    Some(format!(
        "{asked} is declared by ServiceEntry {}, which is not exported to namespace {node}, the namespace of this node",
        entry.meta.key()
    ))
}
