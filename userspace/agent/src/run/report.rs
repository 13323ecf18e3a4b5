//! Telling people what was found, and why the daemon does not run.

use std::error::Error as _;

use egressd_model::{Diagnostic, Severity};
use egressd_tables::Tables;

use super::Failure;
use crate::{check, config::ConfigError, settings::MeshError, store::LoadError};

/// Logs every finding, one line each.
pub(super) fn findings(findings: &[Diagnostic]) {
    for finding in findings {
        match finding.severity {
            Severity::Error => tracing::error!(%finding, "resource"),
            Severity::Warning => tracing::warn!(%finding, "resource"),
            Severity::Info => tracing::info!(%finding, "resource"),
        }
    }
}

/// Logs every service that lost its place on a listener to another one (semantics.md §0).
pub(super) fn conflicts(tables: &Tables) {
    let host = |id| tables.service(id).map_or("?", |service| &*service.host);
    for listener in tables.listeners() {
        for conflict in &listener.conflicts {
            tracing::warn!(
                listener = %listener.name(),
                winner = host(conflict.winner),
                loser = host(conflict.loser),
                reason = %conflict.reason,
                "two services want the same connections"
            );
        }
    }
}

/// Logs why there is no new generation, with every finding.
pub(super) fn rejected(error: &LoadError) {
    if let LoadError::Rejected(found) = error {
        findings(found);
    }
    tracing::error!(%error, "the generation before stays in force");
}

/// Says on standard error why the daemon does not run: one sentence, or every finding.
#[expect(clippy::print_stderr, reason = "the daemon's last words, also where nothing is logged")]
pub(super) fn failure(failure: &Failure) {
    let rejected = match failure {
        Failure::Load(LoadError::Rejected(found)) => Some((found, "nothing is loaded")),
        Failure::Mesh(MeshError::Rejected(found)) => Some((found, "meshConfig is no good")),
        Failure::Config(ConfigError::Rejected(found)) => Some((found, "egressd.yaml is no good")),
        Failure::Load(_)
        | Failure::Mesh(_)
        | Failure::Config(_)
        | Failure::Datapath(_)
        | Failure::Machine { .. } => None,
    };
    if let Some((found, what)) = rejected {
        eprint!("{}", check::errors_for_people(found));
        eprintln!("egressd: {what}");
        return;
    }
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Transparent errors repeat what their source says.
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    eprintln!("egressd: {text}");
}
