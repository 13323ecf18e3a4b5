//! Finding resources by what other resources call them. Built once, in time that grows with the number of
//! resources; each question after that costs little.

use std::collections::{HashMap, HashSet};

use egressd_model::resource::{
    DestinationRule, Key, MeshPolicyMode, Meta, Resolution, Resource, ServiceEntry, ServicePort,
};
use egressd_model::value::{EndpointAddress, ExportTarget, HostPattern, Labels};
use egressd_model::{Model, Spanned};

use crate::analysis::Subject;
use crate::requests;

/// One host of one ServiceEntry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) entry: &'a Resource<ServiceEntry>,
    /// Its place among the hosts.
    pub(super) index: usize,
    pub(super) host: &'a HostPattern,
}

/// All resources by name.
pub(super) struct World<'a> {
    pub(super) subject: &'a Subject<'a>,
    /// By host as written, oldest first.
    hosts: HashMap<&'a str, Vec<Entry<'a>>>,
    /// Hosts read backwards, in order, so that those under one domain stand together.
    backwards: Vec<(String, &'a str)>,
    rules: HashMap<&'a str, Vec<&'a Resource<DestinationRule>>>,
    /// Hosts of rules such as `*foo.com`, which parent domains do not find.
    partial_rules: Vec<&'a HostPattern>,
    gateways: HashMap<&'a str, Vec<&'a str>>,
    workloads: Vec<Workload<'a>>,
    by_label: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    by_namespace: HashMap<&'a str, Vec<usize>>,
    exports: Vec<ExportTarget>,
    /// ServiceEntries of which some host asks for an address.
    asking: HashSet<Key>,
    /// For each wildcard of a DestinationRule the hosts that no more specific rule has.
    governed: HashMap<&'a str, Vec<Entry<'a>>>,
}

/// Something that a selector may select.
struct Workload<'a> {
    /// Go over those of the spec.
    own: &'a Labels,
    spec: Option<&'a Labels>,
    address: Option<&'a EndpointAddress>,
    usable: bool,
}

/// What a name stands for.
pub(super) struct Found<'w, 'a> {
    /// The name that was found, or the one that was looked for last.
    pub(super) host: std::borrow::Cow<'a, str>,
    /// Who declares it, oldest first.
    pub(super) entries: &'w [Entry<'a>],
    /// For a name without a dot: what Istio makes of it.
    pub(super) expanded: Option<String>,
}

/// What names without a dot are expanded with, as in a Kubernetes cluster.
const CLUSTER_DOMAIN: &str = "cluster.local";

impl<'a> World<'a> {
    pub(super) fn new(subject: &'a Subject<'a>) -> Self {
        let model = subject.model;
        let mut world = Self {
            subject,
            hosts: HashMap::new(),
            backwards: Vec::new(),
            rules: HashMap::new(),
            partial_rules: Vec::new(),
            gateways: HashMap::new(),
            workloads: Vec::new(),
            by_label: HashMap::new(),
            by_namespace: HashMap::new(),
            exports: subject.mesh.default_service_export_to(),
            asking: requests(model)
                .into_iter()
                .filter(|request| !request.hosts.is_empty())
                .map(|request| request.entry)
                .collect(),
            governed: HashMap::new(),
        };
        for entry in model.service_entries() {
            for (index, host) in entry.hosts.iter().enumerate() {
                let known = world.hosts.entry(host.as_str()).or_default();
                if known.is_empty() {
                    world.backwards.push((host.as_str().chars().rev().collect(), host.as_str()));
                }
                known.push(Entry { entry, index, host });
            }
        }
        world.backwards.sort();
        for rule in model.destination_rules() {
            let known = world.rules.entry(rule.host.as_str()).or_default();
            if known.is_empty() && rule.host.is_partial_wildcard() {
                world.partial_rules.push(&rule.host.value);
            }
            known.push(rule);
        }
        for gateway in model.gateways() {
            world.gateways.entry(&gateway.meta.name).or_default().push(&gateway.meta.namespace);
        }
        world.add_workloads(model);
        world.govern();
        world
    }

    fn govern(&mut self) {
        let mut governed: HashMap<&'a str, Vec<Entry<'a>>> = HashMap::new();
        for entry in self.entries() {
            let pattern = self.rule_patterns(entry.host.as_str()).next();
            if let Some(pattern) = pattern.filter(|pattern| pattern.starts_with('*')) {
                governed.entry(pattern).or_default().push(entry);
            }
        }
        self.governed = governed;
    }

    fn add_workloads(&mut self, model: &'a Model) {
        for workload in model.workload_entries() {
            self.add_workload(
                &workload.meta,
                Workload {
                    own: &workload.meta.labels,
                    spec: Some(&workload.labels),
                    address: Some(&workload.address),
                    usable: true,
                },
            );
        }
        for pod in model.pods() {
            let usable = !pod.ips.is_empty();
            let labels = &pod.meta.labels;
            self.add_workload(
                &pod.meta,
                Workload { own: labels, spec: None, address: None, usable },
            );
        }
    }

    fn add_workload(&mut self, meta: &'a Meta, workload: Workload<'a>) {
        let at = self.workloads.len();
        self.by_namespace.entry(&meta.namespace).or_default().push(at);
        for (key, value) in workload.spec.into_iter().flatten().chain(workload.own) {
            self.by_label.entry((&meta.namespace, key, value)).or_default().push(at);
        }
        self.workloads.push(workload);
    }

    /// Every host of every ServiceEntry, oldest entry first.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        self.subject.model.service_entries().iter().flat_map(|entry| {
            let hosts = entry.hosts.iter().enumerate();
            hosts.map(move |(index, host)| Entry { entry, index, host: &host.value })
        })
    }

    /// Who declares exactly this host, oldest first.
    pub(super) fn declared(&self, host: &str) -> &[Entry<'a>] {
        self.hosts.get(host).map_or(&[], Vec::as_slice)
    }

    /// Who declares a host as a resource of `namespace` names it: literally if there is such a host, else, for a
    /// name without a dot, as Istio expands it.
    pub(super) fn find(&self, host: &'a str, namespace: &str) -> Found<'_, 'a> {
        let short = !host.contains(['.', '*', ':']);
        let expanded = short.then(|| format!("{host}.{namespace}.svc.{CLUSTER_DOMAIN}"));
        let entries = self.declared(host);
        match &expanded {
            Some(name) if entries.is_empty() => {
                Found { host: name.clone().into(), entries: self.declared(name), expanded }
            }
            _ => Found { host: host.into(), entries, expanded },
        }
    }

    /// The hosts under a pattern of a rule or VirtualService, itself included.
    pub(super) fn under(&self, pattern: &'a str) -> impl Iterator<Item = &[Entry<'a>]> {
        let wildcard: Option<String> =
            pattern.strip_prefix('*').map(|suffix| suffix.chars().rev().collect());
        let start = wildcard.as_ref().map_or(0, |suffix| {
            self.backwards.partition_point(|(host, _)| host.as_str() < suffix.as_str())
        });
        let exact = wildcard.is_none().then(|| self.declared(pattern));
        let covered = self.backwards.get(start..).unwrap_or_default().iter();
        let covered = covered.take_while(move |(host, _)| {
            wildcard.as_ref().is_some_and(|suffix| host.starts_with(suffix.as_str()))
        });
        exact.into_iter().chain(covered.map(|(_, host)| self.declared(host)))
    }

    /// The nearest wildcard that covers a host and is declared by somebody.
    pub(super) fn wildcard_over(&self, host: &str) -> Option<Entry<'a>> {
        parents(host).find_map(|parent| self.declared(&format!("*{parent}")).first().copied())
    }

    /// The hosts that a DestinationRule is about: its own, or for a wildcard those that no more specific rule has.
    pub(super) fn governed(&self, rule: &'a Resource<DestinationRule>) -> &[Entry<'a>] {
        if rule.host.is_wildcard() {
            self.governed.get(rule.host.as_str()).map_or(&[], Vec::as_slice)
        } else {
            self.find(rule.host.as_str(), &rule.meta.namespace).entries
        }
    }

    /// Every DestinationRule that covers a host.
    pub(super) fn rules_over(
        &self,
        host: &str,
    ) -> impl Iterator<Item = &'a Resource<DestinationRule>> {
        self.rule_patterns(host).flat_map(|pattern| self.rules_for(pattern)).copied()
    }

    fn rules_for(&self, pattern: &str) -> &[&'a Resource<DestinationRule>] {
        self.rules.get(pattern).map_or(&[], Vec::as_slice)
    }

    /// Patterns of DestinationRules that cover a host, most specific first.
    fn rule_patterns(&self, host: &str) -> impl Iterator<Item = &'a str> {
        let host = HostPattern::new(host);
        let exact = self.rules.get_key_value(host.as_str()).map(|(known, _)| *known);
        let mut wide: Vec<&str> = parents(host.as_str())
            .filter_map(|parent| self.rules.get_key_value(format!("*{parent}").as_str()))
            .chain(self.rules.get_key_value("*"))
            .map(|(known, _)| *known)
            .collect();
        wide.extend(self.partial_rules.iter().filter(|p| host.is_subset_of(p)).map(|p| p.as_str()));
        wide.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
        wide.dedup();
        wide.retain(|pattern| exact.as_ref() != Some(pattern));
        exact.into_iter().chain(wide)
    }

    /// The namespaces that have a Gateway of this name.
    pub(super) fn gateways_named(&self, name: &str) -> &[&'a str] {
        self.gateways.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a namespace sees the hosts of a ServiceEntry.
    pub(super) fn sees(&self, client: &str, entry: &Resource<ServiceEntry>) -> bool {
        entry.export_to.is_visible(&entry.meta.namespace, client, &self.exports)
    }

    /// Whether connections to a host have an address of their own: one that is written or one that is allocated.
    pub(super) fn has_address(&self, entry: Entry<'_>) -> bool {
        !entry.entry.addresses.is_empty() || self.is_allocated(&entry.entry.meta.key(), entry.host)
    }

    /// Whether the entry is one that addresses are allocated to.
    pub(super) fn asks_for_address(&self, entry: Entry<'_>) -> bool {
        self.asking.contains(&entry.entry.meta.key())
    }

    fn is_allocated(&self, key: &Key, host: &HostPattern) -> bool {
        self.subject.vips.is_some_and(|vips| vips.get(key, host.as_str()).is_some())
    }

    /// Whether unknown destinations are refused.
    pub(super) fn is_registry_only(&self) -> bool {
        self.subject.mesh.outbound_traffic_policy.mode() == MeshPolicyMode::RegistryOnly
    }

    /// How many workloads of a namespace have all these labels, and how many of those can be an endpoint of a
    /// service that finds its endpoints this way.
    pub(super) fn selected(
        &self,
        namespace: &str,
        selectors: &[&Labels],
        resolution: Resolution,
    ) -> Selected {
        let all = || self.by_namespace.get(namespace).map_or(&[][..], Vec::as_slice);
        let first = selectors.iter().find_map(|labels| labels.iter().next());
        let candidates = first.map_or_else(all, |(key, value)| {
            self.by_label.get(&(namespace, key.as_str(), value.as_str())).map_or(&[], Vec::as_slice)
        });
        let mut selected = Selected::default();
        for workload in candidates.iter().filter_map(|at| self.workloads.get(*at)) {
            if selectors.iter().all(|labels| workload.has(labels)) {
                selected.all += 1;
                selected.usable += usize::from(workload.is_usable(resolution));
            }
        }
        selected
    }
}

/// What a selector selects.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selected {
    pub(super) all: usize,
    pub(super) usable: usize,
}

impl Workload<'_> {
    fn has(&self, labels: &Labels) -> bool {
        labels.iter().all(|(key, value)| {
            let spec = || self.spec.and_then(|spec| spec.get(key));
            self.own.get(key).or_else(spec) == Some(value)
        })
    }

    /// STATIC passes over workloads whose address is a name (semantics.md §1.4).
    fn is_usable(&self, resolution: Resolution) -> bool {
        let name = matches!(self.address, Some(EndpointAddress::Name(_) | EndpointAddress::Unset));
        self.usable && !(name && resolution == Resolution::Static)
    }
}

/// The port of this number, and its place.
pub(super) fn port_of(entry: &ServiceEntry, number: u16) -> Option<(usize, &Spanned<ServicePort>)> {
    entry.ports.iter().enumerate().find(|(_, port)| port.number.value == number)
}

/// `.b.c` and `.c` for `a.b.c`; for a wildcard, what stands above it.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    let host = host.strip_prefix("*.").unwrap_or(host);
    host.match_indices('.').filter_map(|(at, _)| host.get(at..))
}
