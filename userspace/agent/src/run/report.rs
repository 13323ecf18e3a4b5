//! Telling people what was found, and why the daemon does not run.

use std::{
    collections::HashSet,
    error::Error as _,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use egressd_model::{Diagnostic, Severity};

use super::Failure;
use crate::{
    check,
    config::ConfigError,
    settings::MeshError,
    store::{Generation, LoadError},
};

/// What has been logged of the generation in force, so that a reload says what it changes and nothing
/// else.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Findings and conflicts, by their hashes.
    known: HashSet<u64>,
}

impl Told {
    /// Logs what is to be said of a new generation and was not to be said of the one before, a line
    /// each: findings, and services that lost their place on a listener to another one (semantics.md
    /// §0). Of the rest only how many.
    pub(super) fn generation(&mut self, generation: &Generation) {
        let tables = &generation.tables;
        let (fresh, mut now) = self.sort(&generation.findings);
        fresh.iter().for_each(|finding| log(finding));
        let mut told = fresh.len();
        let host = |id| tables.service(id).map_or("?", |service| &*service.host);
        for listener in tables.listeners() {
            let name = listener.name();
            for conflict in &listener.conflicts {
                let (winner, loser) = (host(conflict.winner), host(conflict.loser));
                let key = hash(&(&*name, winner, loser, conflict.reason));
                now.insert(key);
                if !self.known.contains(&key) {
                    told += 1;
                    tracing::warn!(
                        listener = %name, winner, loser, reason = %conflict.reason,
                        "two services want the same connections"
                    );
                }
            }
        }
        let as_before = now.len().saturating_sub(told);
        if as_before > 0 {
            tracing::info!(
                as_before,
                "the generation before had these too: `egressd check` shows all findings"
            );
        }
        self.known = now;
    }

    /// Logs why there is no new generation: every error, and what else is new.
    pub(super) fn rejected(&mut self, error: &LoadError) {
        if let LoadError::Rejected(found) | LoadError::Config(ConfigError::Rejected(found)) = error
        {
            let (fresh, now) = self.sort(found);
            fresh.iter().for_each(|finding| log(finding));
            // What was true of the generation in force still is.
            self.known.extend(now);
        }
        tracing::error!(%error, "the generation before stays in force");
    }

    /// The findings to tell, and what all of them are known by. Where they stand does not matter: it
    /// changes with every line above.
    fn sort<'f>(&self, findings: &'f [Diagnostic]) -> (Vec<&'f Diagnostic>, HashSet<u64>) {
        let key = |one: &Diagnostic| hash(&(&one.path, one.code, &one.field, &one.message));
        let is_new =
            |one: &&Diagnostic| one.severity == Severity::Error || !self.known.contains(&key(one));
        (findings.iter().filter(is_new).collect(), findings.iter().map(key).collect())
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn log(finding: &Diagnostic) {
    match finding.severity {
        Severity::Error => tracing::error!(%finding, "resource"),
        Severity::Warning => tracing::warn!(%finding, "resource"),
        Severity::Info => tracing::info!(%finding, "resource"),
    }
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

#[cfg(test)]
mod tests {
    use egressd_model::Span;

    use super::*;

    fn finding(severity: Severity, line: u32, message: &str) -> Diagnostic {
        Diagnostic {
            severity,
            code: "no-effect",
            path: "a.yaml".into(),
            span: Span { line, column: 1, ..Span::default() },
            field: "spec".to_owned(),
            message: message.to_owned(),
            help: None,
        }
    }

    #[test]
    fn what_stays_is_told_once_and_errors_always() {
        let mut told = Told::default();
        let before = [finding(Severity::Warning, 3, "stays"), finding(Severity::Info, 4, "goes")];
        let (fresh, now) = told.sort(&before);
        assert_eq!(fresh.len(), 2);
        told.known = now;
        let after = [
            finding(Severity::Warning, 30, "stays"),
            finding(Severity::Warning, 31, "comes"),
            finding(Severity::Error, 32, "is wrong"),
        ];
        for _ in 0..2 {
            let (fresh, now) = told.sort(&after);
            let fresh: Vec<_> = fresh.iter().map(|one| &*one.message).collect();
            let expected: &[&str] =
                if told.known.len() == 2 { &["comes", "is wrong"] } else { &["is wrong"] };
            assert_eq!(fresh, expected);
            assert_eq!(now.len(), 3);
            told.known = now;
        }
        // What was mended and comes again is told again.
        assert_eq!(told.sort(&before).0.len(), 1);
    }
}
