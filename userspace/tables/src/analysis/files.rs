//! Credential files that are not there.

use std::path::Path;

use egressd_model::Spanned;
use egressd_model::resource::{Gateway, Meta, Resource, Server};
use egressd_model::value::selects;

use crate::analysis::findings::{Findings, Place};
use crate::analysis::upstream_tls::blocks;
use crate::analysis::world::World;

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let labels = &world.subject.node.labels;
    for rule in world.subject.model.destination_rules() {
        let selector = rule.workload_selector.as_ref();
        if selector.is_some_and(|selector| !selects(&selector.match_labels, labels)) {
            continue;
        }
        for block in blocks(rule) {
            let files = [
                ("clientCertificate", &block.tls.client_certificate),
                ("privateKey", &block.tls.private_key),
                ("caCertificates", &block.tls.ca_certificates),
                ("caCrl", &block.tls.ca_crl),
            ];
            for (name, file) in files {
                let field = format!("{}.{name}", block.field);
                file_of(world, &rule.meta, field, file, findings);
            }
        }
    }
    // Other nodes' gateways have their files elsewhere.
    let gateways = world.subject.model.gateways().iter();
    for gateway in gateways.filter(|gateway| selects(&gateway.selector, labels)) {
        for (index, server) in gateway.servers.iter().enumerate() {
            server_files(world, gateway, index, server, findings);
        }
    }
}

fn server_files(
    world: &World<'_>,
    gateway: &Resource<Gateway>,
    index: usize,
    server: &Server,
    findings: &mut Findings,
) {
    let Some(tls) = &server.tls else { return };
    let mut files = vec![
        ("serverCertificate".to_owned(), &tls.server_certificate),
        ("privateKey".to_owned(), &tls.private_key),
        ("caCertificates".to_owned(), &tls.ca_certificates),
        ("caCrl".to_owned(), &tls.ca_crl),
    ];
    for (at, pair) in tls.tls_certificates.iter().enumerate() {
        let field = |name| format!("tlsCertificates[{at}].{name}");
        files.push((field("serverCertificate"), &pair.server_certificate));
        files.push((field("privateKey"), &pair.private_key));
        files.push((field("caCertificates"), &pair.ca_certificates));
    }
    for (name, file) in files {
        let field = format!("spec.servers[{index}].tls.{name}");
        file_of(world, &gateway.meta, field, file, findings);
    }
}

fn file_of(
    world: &World<'_>,
    meta: &Meta,
    field: String,
    file: &Spanned<String>,
    findings: &mut Findings,
) {
    // Istio's way to name its own secrets in place of files.
    let is_secret = file.contains("://");
    if file.is_empty() || is_secret || (world.subject.file_exists)(Path::new(file.as_str())) {
        return;
    }
    findings.warn(
        "missing-file",
        Place::new(meta, field, file.span),
        format!("there is no file {}: connections fail until there is one", file.value),
        "put it there, readable by egressd, or correct the path".to_owned(),
    );
}
