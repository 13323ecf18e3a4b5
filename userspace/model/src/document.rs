//! One document: what it says it is, and what is read of it.

mod envelope;
mod list;
mod pod;
mod status;
mod unindented;

use std::sync::Arc;

use crate::decode::{At, Cx, Decode};
use crate::document::envelope::{Envelope, Kind};
use crate::resource::{
    DestinationRule, Gateway, Meta, Pod, Resource, ServiceEntry, Sidecar, Telemetry,
    VirtualService, WorkloadEntry,
};
use crate::yaml::{Duplicate, Node};
use crate::{Diagnostic, Severity, Span, Verdict, validate};

pub(crate) use unindented::first_unindented_line;

/// One YAML document (or one item of a `List`) with its findings.
#[derive(Clone, Debug)]
pub struct Document {
    /// Place of its first key.
    pub span: Span,
    /// `apiVersion`; empty where it is missing.
    pub api_version: String,
    /// `kind`; empty where it is missing.
    pub kind: String,
    /// `metadata.namespace`, or `default`.
    pub namespace: String,
    /// `metadata.name`; empty where it is missing.
    pub name: String,
    /// What was found, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// What was read; nothing for a foreign document and for one that is rejected.
    pub resource: Option<AnyResource>,
}

/// A resource of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyResource {
    /// A ServiceEntry.
    ServiceEntry(Arc<Resource<ServiceEntry>>),
    /// A standalone WorkloadEntry.
    WorkloadEntry(Arc<Resource<WorkloadEntry>>),
    /// A VirtualService.
    VirtualService(Arc<Resource<VirtualService>>),
    /// A DestinationRule.
    DestinationRule(Arc<Resource<DestinationRule>>),
    /// A Gateway.
    Gateway(Arc<Resource<Gateway>>),
    /// A Sidecar.
    Sidecar(Arc<Resource<Sidecar>>),
    /// A Telemetry.
    Telemetry(Arc<Resource<Telemetry>>),
    /// A Pod.
    Pod(Arc<Resource<Pod>>),
}

impl AnyResource {
    /// The metadata.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::ServiceEntry(resource) => &resource.meta,
            Self::WorkloadEntry(resource) => &resource.meta,
            Self::VirtualService(resource) => &resource.meta,
            Self::DestinationRule(resource) => &resource.meta,
            Self::Gateway(resource) => &resource.meta,
            Self::Sidecar(resource) => &resource.meta,
            Self::Telemetry(resource) => &resource.meta,
            Self::Pod(resource) => &resource.meta,
        }
    }

    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceEntry(_) => "ServiceEntry",
            Self::WorkloadEntry(_) => "WorkloadEntry",
            Self::VirtualService(_) => "VirtualService",
            Self::DestinationRule(_) => "DestinationRule",
            Self::Gateway(_) => "Gateway",
            Self::Sidecar(_) => "Sidecar",
            Self::Telemetry(_) => "Telemetry",
            Self::Pod(_) => "Pod",
        }
    }
}

impl Document {
    /// 1-based line of its first key.
    pub fn line(&self) -> u32 {
        self.span.line
    }

    /// What the findings add up to.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(&self.diagnostics)
    }

    /// A text of which not even the kind is known.
    pub(crate) fn unreadable(diagnostic: Diagnostic) -> Self {
        Self {
            span: diagnostic.span,
            api_version: String::new(),
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            diagnostics: vec![diagnostic],
            resource: None,
        }
    }
}

/// Reads one document; the items of a `List` become documents of their own.
pub(crate) fn read(
    path: &Arc<str>,
    node: &Node<'_>,
    duplicates: &[&Duplicate],
    into: &mut Vec<Document>,
) {
    let root = At::root(node);
    match list::items(&root) {
        Some(items) => list::read(path, &root, items, duplicates, into),
        None => into.push(read_one(path, &root, duplicates)),
    }
}

fn read_one(path: &Arc<str>, at: &At<'_>, duplicates: &[&Duplicate]) -> Document {
    let mut cx = Cx::new(path);
    let envelope = Envelope::read(at, &mut cx);
    let mut resource = None;
    if !cx.has_lost_indentation() {
        // What is wrong with a document that is not read is not our business.
        if envelope.kind.is_some() || cx.has_errors() {
            for duplicate in duplicates {
                cx.duplicate_key(at, duplicate);
            }
        }
        resource = read_resource(&envelope, at, &mut cx);
    }
    let rejected = cx.has_errors();
    let mut diagnostics = cx.finish();
    if rejected {
        resource = None;
        // Advice can wait until the resource is accepted.
        diagnostics.retain(|diagnostic| diagnostic.severity != Severity::Info);
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.line));
    Document {
        span: at.span(),
        namespace: envelope.meta.namespace.to_string(),
        name: envelope.meta.name.to_string(),
        api_version: envelope.api_version,
        kind: envelope.kind_text,
        diagnostics,
        resource,
    }
}

fn read_resource(envelope: &Envelope, at: &At<'_>, cx: &mut Cx) -> Option<AnyResource> {
    let meta = &envelope.meta;
    Some(match envelope.kind? {
        Kind::ServiceEntry => {
            let mut spec: ServiceEntry = spec(at, cx);
            spec.assigned = status::assigned_addresses(at);
            validate::service_entry(&spec, meta, &at.field("spec"), cx);
            AnyResource::ServiceEntry(resource(meta, spec))
        }
        Kind::WorkloadEntry => {
            let spec: WorkloadEntry = spec(at, cx);
            validate::workload_entry(&spec, &at.field("spec"), cx);
            AnyResource::WorkloadEntry(resource(meta, spec))
        }
        Kind::VirtualService => {
            let spec: VirtualService = spec(at, cx);
            validate::virtual_service(&spec, meta, &at.field("spec"), cx);
            AnyResource::VirtualService(resource(meta, spec))
        }
        Kind::DestinationRule => {
            let spec: DestinationRule = spec(at, cx);
            validate::destination_rule(&spec, meta, &at.field("spec"), cx);
            AnyResource::DestinationRule(resource(meta, spec))
        }
        Kind::Gateway => {
            let spec: Gateway = spec(at, cx);
            validate::gateway(&spec, meta, &at.field("spec"), cx);
            AnyResource::Gateway(resource(meta, spec))
        }
        Kind::Sidecar => {
            let spec: Sidecar = spec(at, cx);
            validate::sidecar(&spec, meta, &at.field("spec"), cx);
            AnyResource::Sidecar(resource(meta, spec))
        }
        Kind::Telemetry => {
            let spec: Telemetry = spec(at, cx);
            validate::telemetry(&spec, &at.field("spec"), cx);
            AnyResource::Telemetry(resource(meta, spec))
        }
        Kind::Pod => AnyResource::Pod(resource(meta, pod::read(at))),
    })
}

fn resource<T>(meta: &Meta, spec: T) -> Arc<Resource<T>> {
    Arc::new(Resource { meta: meta.clone(), spec })
}

/// An absent `spec` reads as an empty one, whose missing fields the rules report; schema and webhook refuse it.
fn spec<T: Decode>(at: &At<'_>, cx: &mut Cx) -> T {
    let at = at.field("spec");
    if at.node().is_some_and(|node| !node.is_null()) {
        return T::decode(&at, cx);
    }
    cx.fail_missing(&at, "`spec` is required");
    T::default()
}
