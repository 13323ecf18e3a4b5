//! Services that are to take the direct path and cannot.

use egressd_model::resource::{PathMode, Resource, ServiceEntry};
use egressd_model::{Diagnostic, Model, Severity};

use crate::analysis::findings::{Findings, Place};
use crate::compile::paths::PathsTaken;
use crate::{NotDirect, Path, Service, Tables};

/// Every service port that `path: direct` is said of and that cannot take the direct path: an error
/// each, with the reason and a remedy. A generation with such an error is not put in force.
pub fn impossible_paths(model: &Model, tables: &Tables) -> Vec<Diagnostic> {
    let mut findings = Findings::new(true);
    check(model, tables, &mut findings);
    findings.finish()
}

pub(super) fn check(model: &Model, tables: &Tables, findings: &mut Findings) {
    let said = |service: &Service| service.path.as_ref().map_or(tables.path, |(mode, _)| *mode);
    let mut services =
        tables.services.iter().filter(|service| said(service) == PathMode::Direct).peekable();
    if services.peek().is_none() {
        return;
    }
    let taken = tables.paths_taken();
    for service in services {
        of_service(model, &taken, service, findings);
    }
}

fn of_service(model: &Model, taken: &PathsTaken<'_>, service: &Service, findings: &mut Findings) {
    for port in &service.ports {
        let reason = match taken.of_port(service, port) {
            Path::Direct(_) => continue,
            Path::Proxied(reason) | Path::LeftAlone(reason) => reason,
        };
        // Of two mistakes that one is told which does not follow from the other.
        if matches!(reason, NotDirect::NoCluster(_)) {
            continue;
        }
        let said_by = service.path.as_ref().map_or(&port.entry, |(_, entry)| entry);
        let mut entries = model.service_entries().iter();
        let entry = entries.find(|entry| entry.meta.key() == *said_by);
        let Some(entry) = entry else { continue };
        let host = &service.host;
        findings.add(
            Severity::Error,
            "path-not-direct",
            place(entry, service.path.is_some(), port.number),
            format!("port {} of {host} cannot take the direct path: {reason}", port.number),
            format!("{}, or say `auto`", reason.remedy()),
        );
    }
}

fn place(entry: &Resource<ServiceEntry>, annotated: bool, port: u16) -> Place<'_> {
    if annotated {
        let field = format!("metadata.annotations[{}]", PathMode::ANNOTATION);
        return Place::new(&entry.meta, field, entry.meta.path_span);
    }
    let mut ports = entry.ports.iter().enumerate();
    match ports.find(|(_, declared)| declared.number.value == port) {
        Some((at, declared)) => Place::new(&entry.meta, format!("spec.ports[{at}]"), declared.span),
        None => Place::new(&entry.meta, "spec.ports", egressd_model::Span::default()),
    }
}
