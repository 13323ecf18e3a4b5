//! All resources of a configuration, in a stable order.

use std::sync::Arc;

use crate::resource::{
    DestinationRule, Gateway, Pod, Resource, ServiceEntry, Sidecar, Telemetry, VirtualService,
    WorkloadEntry,
};
use crate::{AnyResource, Diagnostic, ParsedFile, Severity, Verdict};

/// Valid resources, oldest first within each kind ([`Meta::cmp_age`](crate::resource::Meta::cmp_age)) whatever the
/// order of files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub(crate) service_entries: Vec<Arc<Resource<ServiceEntry>>>,
    pub(crate) workload_entries: Vec<Arc<Resource<WorkloadEntry>>>,
    pub(crate) virtual_services: Vec<Arc<Resource<VirtualService>>>,
    pub(crate) destination_rules: Vec<Arc<Resource<DestinationRule>>>,
    pub(crate) gateways: Vec<Arc<Resource<Gateway>>>,
    pub(crate) sidecars: Vec<Arc<Resource<Sidecar>>>,
    pub(crate) telemetries: Vec<Arc<Resource<Telemetry>>>,
    pub(crate) pods: Vec<Arc<Resource<Pod>>>,
}

impl Model {
    /// Puts together what the files hold, which costs little: resources are shared, not copied.
    ///
    /// # Errors
    /// Every finding of every file, if one of them rejects a document or if two documents are the same resource.
    pub fn assemble<'a>(
        files: impl IntoIterator<Item = &'a ParsedFile>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let files: Vec<&ParsedFile> = files.into_iter().collect();
        let (model, twice) = Self::accepted(files.iter().copied());
        let rejected = files.iter().any(|file| file.verdict() == Verdict::Reject);
        if !rejected && twice.is_empty() {
            return Ok(model);
        }
        let mut all: Vec<Diagnostic> =
            files.iter().flat_map(|file| file.diagnostics()).cloned().chain(twice).collect();
        all.sort_by(|a, b| {
            (&a.path, a.span.line, a.span.column).cmp(&(&b.path, b.span.line, b.span.column))
        });
        Err(all)
    }

    /// Puts together what is not rejected, for tools that look at a configuration as far as it is valid. Of
    /// documents that are the same resource the first is taken; the others are reported.
    pub fn accepted<'a>(
        files: impl IntoIterator<Item = &'a ParsedFile>,
    ) -> (Self, Vec<Diagnostic>) {
        let mut model = Self::default();
        for document in files.into_iter().flat_map(|file| file.documents()) {
            match document.resource.clone() {
                None => {}
                Some(AnyResource::ServiceEntry(resource)) => model.service_entries.push(resource),
                Some(AnyResource::WorkloadEntry(resource)) => model.workload_entries.push(resource),
                Some(AnyResource::VirtualService(resource)) => {
                    model.virtual_services.push(resource)
                }
                Some(AnyResource::DestinationRule(resource)) => {
                    model.destination_rules.push(resource)
                }
                Some(AnyResource::Gateway(resource)) => model.gateways.push(resource),
                Some(AnyResource::Sidecar(resource)) => model.sidecars.push(resource),
                Some(AnyResource::Telemetry(resource)) => model.telemetries.push(resource),
                Some(AnyResource::Pod(resource)) => model.pods.push(resource),
            }
        }
        let mut twice = Vec::new();
        arrange("ServiceEntry", &mut model.service_entries, &mut twice);
        arrange("WorkloadEntry", &mut model.workload_entries, &mut twice);
        arrange("VirtualService", &mut model.virtual_services, &mut twice);
        arrange("DestinationRule", &mut model.destination_rules, &mut twice);
        arrange("Gateway", &mut model.gateways, &mut twice);
        arrange("Sidecar", &mut model.sidecars, &mut twice);
        arrange("Telemetry", &mut model.telemetries, &mut twice);
        arrange("Pod", &mut model.pods, &mut twice);
        (model, twice)
    }

    /// ServiceEntries, oldest first.
    pub fn service_entries(&self) -> &[Arc<Resource<ServiceEntry>>] {
        &self.service_entries
    }

    /// Standalone WorkloadEntries, oldest first.
    pub fn workload_entries(&self) -> &[Arc<Resource<WorkloadEntry>>] {
        &self.workload_entries
    }

    /// VirtualServices, oldest first.
    pub fn virtual_services(&self) -> &[Arc<Resource<VirtualService>>] {
        &self.virtual_services
    }

    /// DestinationRules, oldest first.
    pub fn destination_rules(&self) -> &[Arc<Resource<DestinationRule>>] {
        &self.destination_rules
    }

    /// Gateways, oldest first.
    pub fn gateways(&self) -> &[Arc<Resource<Gateway>>] {
        &self.gateways
    }

    /// Sidecars, oldest first.
    pub fn sidecars(&self) -> &[Arc<Resource<Sidecar>>] {
        &self.sidecars
    }

    /// Telemetries, oldest first.
    pub fn telemetries(&self) -> &[Arc<Resource<Telemetry>>] {
        &self.telemetries
    }

    /// Pods, oldest first.
    pub fn pods(&self) -> &[Arc<Resource<Pod>>] {
        &self.pods
    }
}

/// Sorts by age. Of resources that exist twice the later ones are reported and removed.
fn arrange<T>(kind: &str, resources: &mut Vec<Arc<Resource<T>>>, twice: &mut Vec<Diagnostic>) {
    sort_by_name(resources);
    for pair in resources.windows(2) {
        let [first, second] = [&pair[0].meta, &pair[1].meta];
        if (&first.namespace, &first.name) == (&second.namespace, &second.name) {
            twice.push(Diagnostic {
                severity: Severity::Error,
                code: "duplicate-resource",
                path: Arc::clone(&second.path),
                span: second.span,
                field: "metadata.name".to_owned(),
                message: format!(
                    "{kind} {} is already defined in {}:{}",
                    second.key(),
                    first.path,
                    first.span.line
                ),
                help: Some("give one of them another name or namespace".to_owned()),
            });
        }
    }
    resources.dedup_by(|later, first| {
        (&later.meta.namespace, &later.meta.name) == (&first.meta.namespace, &first.meta.name)
    });
    // Without any time the order of names is that of ages.
    if resources.iter().any(|resource| resource.meta.creation.is_some()) {
        resources.sort_by(|a, b| a.meta.cmp_age(&b.meta));
    }
}

/// By namespace and name, those that have both in common by place.
fn sort_by_name<T>(resources: &mut Vec<Arc<Resource<T>>>) {
    // Sorting looks at each name many times: side by side they take half as long as behind pointers.
    let mut keys: Vec<(&str, &str, usize)> = Vec::with_capacity(resources.len());
    for (index, resource) in resources.iter().enumerate() {
        keys.push((&resource.meta.namespace, &resource.meta.name, index));
    }
    let place = |index: usize| {
        let meta = resources.get(index).map(|resource| &resource.meta);
        meta.map(|meta| (&meta.path, meta.span.line))
    };
    keys.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| place(a.2).cmp(&place(b.2))));
    let sorted = keys.iter().filter_map(|(_, _, index)| resources.get(*index)).cloned().collect();
    *resources = sorted;
}
