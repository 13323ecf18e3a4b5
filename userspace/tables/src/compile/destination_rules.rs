//! Which DestinationRule holds for a service, and the policy of a port or subset (semantics.md §4).

use std::sync::Arc;

use egressd_model::Model;
use egressd_model::Spanned;
use egressd_model::resource::{
    ClientTlsSettings, ConnectionPool, DestinationRule, HealthCheck, Key, LoadBalancer, MeshConfig,
    OutlierDetection, PortTrafficPolicy, ProxyProtocol, Resource, RetryBudget, Subset,
    TrafficPolicy, Tunnel,
};
use egressd_model::value::{ExportTarget, Labels, selects};

use crate::compile::memo::Id;
use crate::compile::short_names::ShortNames;
use crate::fast::FastMap;
use crate::host_map::HostMap;
use crate::options::Node;

/// All rules, by namespace and host.
pub(crate) struct DestinationRules<'m> {
    /// What the node's own namespace has: all of it, or what no other one sees where it is the root.
    own: Hosts<'m>,
    /// What each namespace lets others see.
    exported: FastMap<&'m str, Hosts<'m>>,
    root: &'m str,
    node: &'m Node,
    default_export: Vec<ExportTarget>,
}

type Hosts<'m> = HostMap<Vec<Merged<'m>>>;

/// Rules of one host and namespace as one: the oldest gives the policy, all give their subsets.
#[derive(Clone, Debug)]
pub(crate) struct Merged<'m> {
    oldest: &'m Resource<DestinationRule>,
    later: Vec<&'m Resource<DestinationRule>>,
    pub(crate) policy: Option<&'m TrafficPolicy>,
    pub(crate) subsets: Vec<&'m Subset>,
}

/// The components of policy that hold for one cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effective<'m> {
    pub(crate) load_balancer: Option<&'m LoadBalancer>,
    pub(crate) pool: Option<&'m ConnectionPool>,
    pub(crate) outlier: Option<&'m OutlierDetection>,
    pub(crate) tls: Option<&'m ClientTlsSettings>,
    pub(crate) tunnel: Option<&'m Tunnel>,
    pub(crate) proxy_protocol: Option<&'m ProxyProtocol>,
    pub(crate) retry_budget: Option<&'m RetryBudget>,
    pub(crate) health_check: Option<&'m HealthCheck>,
}

/// Indexes the rules.
pub(crate) fn collect<'m>(
    model: &'m Model,
    mesh: &'m MeshConfig,
    node: &'m Node,
    names: &ShortNames,
) -> DestinationRules<'m> {
    let mut rules = DestinationRules {
        own: HostMap::default(),
        exported: FastMap::default(),
        root: mesh.root_namespace(),
        node,
        default_export: mesh.default_destination_rule_export_to(),
    };
    for rule in model.destination_rules() {
        let host = names.resolve(&rule.host, &rule.meta.namespace);
        let namespace: &str = &rule.meta.namespace;
        let private = rules.is_private(rule);
        if namespace == node.namespace && (private || namespace != rules.root) {
            add(&mut rules.own, host.as_str(), rule);
        }
        if !private {
            add(rules.exported.entry(namespace).or_default(), host.as_str(), rule);
        }
    }
    rules
}

fn add<'m>(hosts: &mut Hosts<'m>, host: &str, rule: &'m Resource<DestinationRule>) {
    if let Some(list) = hosts.get_or_insert_with(host, || Some(Vec::new())) {
        match list.iter_mut().find(|merged| merged.takes(rule)) {
            Some(merged) => merged.add(rule),
            None => list.push(Merged::new(rule)),
        }
    }
}

impl<'m> DestinationRules<'m> {
    /// The rule for a service: first the node's namespace, then the service's, then the root's. The
    /// first place that has one for the host ends the search, whether it acts or not.
    pub(crate) fn find(&self, host: &str, service_namespace: &str) -> Option<&Merged<'m>> {
        if let Some(list) = self.own.find_covering(host) {
            return self.choose(list.iter());
        }
        [service_namespace, self.root].into_iter().find_map(|namespace| {
            let list = self.exported.get(namespace)?.find_covering(host)?;
            let mut seen = list.iter().filter(|merged| self.sees(merged)).peekable();
            seen.peek().is_some().then(|| self.choose(seen))
        })?
    }

    /// A rule whose selector matches before one without; of several without, the youngest.
    fn choose<'s>(
        &self,
        list: impl DoubleEndedIterator<Item = &'s Merged<'m>>,
    ) -> Option<&'s Merged<'m>> {
        let list: Vec<_> = list.collect();
        let own = |merged: &Merged<'_>| *merged.oldest.meta.namespace == *self.node.namespace;
        let selected = list.iter().copied().filter(|merged| own(merged)).find(|merged| {
            merged.selector().is_some_and(|selector| selects(selector, &self.node.labels))
        });
        selected.or_else(|| list.iter().copied().rfind(|merged| merged.selector().is_none()))
    }

    fn sees(&self, merged: &Merged<'_>) -> bool {
        let meta = &merged.oldest.meta;
        let (own, client) = (&meta.namespace, &self.node.namespace);
        merged.oldest.export_to.is_visible(own, client, &self.default_export)
    }

    /// Whether only its own namespace sees it. A selector makes it so (semantics.md §4).
    fn is_private(&self, rule: &Resource<DestinationRule>) -> bool {
        let own: &str = &rule.meta.namespace;
        let private = |target: &ExportTarget| match target {
            ExportTarget::Own | ExportTarget::Nobody => true,
            ExportTarget::Public => false,
            ExportTarget::Namespace(name) => name == own,
        };
        let written = &rule.export_to.0;
        let default = || !self.default_export.is_empty() && self.default_export.iter().all(private);
        rule.workload_selector.is_some()
            || if written.is_empty() {
                default()
            } else {
                written.iter().all(|target| private(target))
            }
    }
}

impl<'m> Merged<'m> {
    fn new(rule: &'m Resource<DestinationRule>) -> Self {
        let mut merged = Self {
            oldest: rule,
            later: Vec::new(),
            policy: None,
            subsets: Vec::with_capacity(rule.subsets.len()),
        };
        merged.merge(rule);
        merged
    }

    /// The rules it is made of, the oldest first.
    fn all(&self) -> impl Iterator<Item = &'m Resource<DestinationRule>> {
        std::iter::once(self.oldest).chain(self.later.iter().copied())
    }

    /// Their names.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.all().map(|rule| rule.meta.key()).collect()
    }

    /// Their places in memory.
    pub(crate) fn ids(&self) -> Arc<[Id]> {
        self.all().map(Id::of).collect()
    }

    /// Whether it is made of the rules with these places in memory.
    pub(crate) fn is(&self, ids: &[Id]) -> bool {
        self.all().map(Id::of).eq(ids.iter().copied())
    }

    /// Same selector and same `exportTo`.
    fn takes(&self, rule: &DestinationRule) -> bool {
        let selector = rule.workload_selector.as_ref().map(|selector| &selector.match_labels);
        self.selector() == selector && self.oldest.export_to == rule.export_to
    }

    fn add(&mut self, rule: &'m Resource<DestinationRule>) {
        self.later.push(rule);
        self.merge(rule);
    }

    fn merge(&mut self, rule: &'m Resource<DestinationRule>) {
        if self.policy.is_none() {
            self.policy = rule.traffic_policy.as_ref().map(|policy| &policy.value);
        }
        for subset in &rule.subsets {
            if !self.subsets.iter().any(|known| known.name == subset.name) {
                self.subsets.push(subset);
            }
        }
    }

    fn selector(&self) -> Option<&'m Labels> {
        self.oldest.workload_selector.as_ref().map(|selector| &selector.match_labels)
    }

    /// The subset of this name.
    pub(crate) fn subset(&self, name: &str) -> Option<&'m Subset> {
        self.subsets.iter().copied().find(|subset| subset.name.as_str() == name)
    }

    /// The policy for a port. A block for the port replaces the rule's policy as a whole.
    pub(crate) fn for_port(&self, port: u16) -> Effective<'m> {
        let mut effective =
            self.policy.map(|policy| Effective::of(policy, port)).unwrap_or_default();
        // The tunnel belongs to the rule, not to the port.
        effective.tunnel = self.policy.and_then(|policy| policy.tunnel.as_ref()).map(|t| &t.value);
        effective
    }

    /// The policy for a port of a subset: its components go over those of the rule; a block for the
    /// port in the subset goes over them as a whole.
    pub(crate) fn for_subset(&self, subset: &'m Subset, port: u16) -> Effective<'m> {
        let base = self.for_port(port);
        let Some(policy) = subset.traffic_policy.as_ref().map(|policy| &policy.value) else {
            return base;
        };
        let own = Effective::of(policy, port);
        let replaces = port_block(policy, port).is_some();
        fn over<T>(own: Option<T>, base: Option<T>, replaces: bool) -> Option<T> {
            if replaces { own } else { own.or(base) }
        }
        Effective {
            load_balancer: over(own.load_balancer, base.load_balancer, replaces),
            pool: over(own.pool, base.pool, replaces),
            outlier: over(own.outlier, base.outlier, replaces),
            tls: over(own.tls, base.tls, replaces),
            health_check: over(own.health_check, base.health_check, replaces),
            tunnel: policy.tunnel.as_ref().map(|tunnel| &tunnel.value).or(base.tunnel),
            proxy_protocol: own.proxy_protocol.or(base.proxy_protocol),
            retry_budget: own.retry_budget.or(base.retry_budget),
        }
    }
}

impl<'m> Effective<'m> {
    fn of(policy: &'m TrafficPolicy, port: u16) -> Self {
        match port_block(policy, port) {
            Some(block) => Self {
                load_balancer: block.load_balancer.as_deref(),
                pool: block.connection_pool.as_deref(),
                outlier: block.outlier_detection.as_deref(),
                tls: block.tls.as_deref(),
                health_check: block.health_check.as_deref(),
                ..Self::default()
            },
            None => Self {
                load_balancer: policy.load_balancer.as_deref(),
                pool: policy.connection_pool.as_deref(),
                outlier: policy.outlier_detection.as_deref(),
                tls: policy.tls.as_deref(),
                tunnel: policy.tunnel.as_deref(),
                proxy_protocol: policy.proxy_protocol.as_deref(),
                retry_budget: policy.retry_budget.as_deref(),
                health_check: policy.health_check.as_deref(),
            },
        }
    }
}

fn port_block(policy: &TrafficPolicy, port: u16) -> Option<&PortTrafficPolicy> {
    let mine = |block: &&Spanned<PortTrafficPolicy>| {
        block.port.as_ref().is_some_and(|selector| selector.number.value == port)
    };
    policy.port_level_settings.iter().find(mine).map(|block| &block.value)
}
