//! The clusters of services whose resources have changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::{MeshConfig, Resource, ServiceEntry};

use crate::cluster::ClusterRef;
use crate::compile::clusters::Clusters;
use crate::compile::destination_rules::{DestinationRules, Merged};
use crate::compile::endpoints::Workloads;
use crate::compile::memo::{ClustersOf, Id, KnownClusters, KnownService, Memo};
use crate::compile::revise::changes::Changes;
use crate::compile::revise::refs::Refs;
use crate::compile::revise::{Before, Kept};
use crate::compile::services::Part;
use crate::fast::FastMap;
use crate::options::{Node, Options};
use crate::service::{Service, ServiceId};
use crate::tables::Tables;

/// What clusters are made anew from.
pub(super) struct Upstream<'a, 'm> {
    pub(super) before: &'a Before<'m>,
    pub(super) model: &'m Model,
    pub(super) mesh: &'m MeshConfig,
    pub(super) node: &'m Node,
    pub(super) options: &'a Options,
    pub(super) rules: &'a DestinationRules<'m>,
    pub(super) memo: &'a Memo,
}

impl<'m> Upstream<'_, 'm> {
    /// Makes the clusters of changed services, and says which differ.
    pub(super) fn revise(
        &self,
        changes: &Changes<'m>,
        kept: &mut Kept,
        tables: &mut Tables,
    ) -> Option<Refs> {
        let mut refs = Refs::default();
        let affected = self.affected(changes);
        if affected.is_empty() {
            return Some(refs);
        }
        let changed: FastMap<_, _> = changes
            .entries
            .iter()
            .map(|(old, new)| ((&*new.meta.namespace, &*new.meta.name), (*old, *new)))
            .collect();
        let entries = Entries { changed, all: self.all(&affected, changes) };
        let workloads = Workloads::new(self.model, self.mesh);
        let makers = Clusters {
            mesh: self.mesh,
            node: self.node,
            options: self.options,
            rules: self.rules,
            workloads: &workloads,
            memo: self.memo,
        };
        for id in affected {
            let service = Arc::clone(kept.directory.get(id)?);
            let parts = entries.parts(&service)?;
            self.remember(&service, &parts)?;
            let new: Vec<_> = parts.iter().map(|(_, new)| *new).collect();
            let rule = self.rules.find(&service.host, &service.namespace);
            let made = makers.make(&service, &new, rule);
            let old = kept.made.of(id)?;
            let differs =
                made.len() != old.len() || made.iter().zip(old.iter()).any(|(a, b)| a != b);
            let clusters: ClustersOf = if differs {
                // What is equal stays the same object.
                let known =
                    |made: &Arc<crate::Cluster>| old.iter().find(|old| *old == made).cloned();
                made.into_iter().map(|made| known(&made).unwrap_or(made)).collect()
            } else {
                Arc::clone(old)
            };
            self.memo.clusters.leave(
                Id::of(&*service),
                KnownClusters {
                    service: Arc::clone(&service),
                    rules: rule.map(Merged::ids).unwrap_or_default(),
                    clusters: Arc::clone(&clusters),
                },
            );
            if differs {
                replace(old, &clusters, tables, &mut refs);
                refs.services.insert(id, (Arc::clone(old), Arc::clone(&clusters)));
                kept.made.set(id, clusters);
            }
        }
        Some(refs)
    }

    /// The services that changed resources make.
    fn affected(&self, changes: &Changes<'_>) -> BTreeSet<ServiceId> {
        let directory = &self.before.kept.directory;
        let mut affected = BTreeSet::new();
        for (_, entry) in &changes.entries {
            for host in &entry.hosts {
                let id = directory.owner(host.as_str());
                let mine = |service: &Arc<Service>| service.namespace == entry.meta.namespace;
                affected.extend(id.filter(|id| directory.get(*id).is_some_and(mine)));
            }
        }
        if changes.workloads {
            affected.extend(&self.before.kept.selecting);
        }
        affected
    }

    /// All ServiceEntries by name, if somebody has to look one up that has not changed.
    fn all(
        &self,
        affected: &BTreeSet<ServiceId>,
        changes: &Changes<'_>,
    ) -> FastMap<Name<'m>, Entry<'m>> {
        let directory = &self.before.kept.directory;
        let several = |id: &ServiceId| directory.get(*id).is_some_and(|s| s.entries.len() > 1);
        if !changes.workloads && !affected.iter().any(several) {
            return FastMap::default();
        }
        let all = self.model.service_entries().iter();
        all.map(|entry| ((&*entry.meta.namespace, &*entry.meta.name), &**entry)).collect()
    }

    /// Tells the memo that the service is made of other objects.
    fn remember(&self, service: &Arc<Service>, parts: &[(Part<'m>, Part<'m>)]) -> Option<()> {
        let ((old, _), (new, _)) = parts.first()?;
        self.memo.services.forget(&Id::of(*old));
        let entries = parts.iter().map(|(_, (_, entry))| Id::of(*entry)).collect();
        let known = KnownService { entries, service: Arc::clone(service) };
        self.memo.services.leave(Id::of(*new), known);
        Some(())
    }
}

type Entry<'m> = &'m Resource<ServiceEntry>;
/// A namespace and a name.
type Name<'m> = (&'m str, &'m str);

/// ServiceEntries by namespace and name.
struct Entries<'m> {
    /// Before and after.
    changed: FastMap<Name<'m>, (Entry<'m>, Entry<'m>)>,
    all: FastMap<Name<'m>, Entry<'m>>,
}

impl<'m> Entries<'m> {
    /// What a service is made of, before and after.
    fn parts(&self, service: &Service) -> Option<Vec<(Part<'m>, Part<'m>)>> {
        let part = |entry: Entry<'m>| -> Option<Part<'m>> {
            let host = entry.hosts.iter().find(|host| host.as_str() == &*service.host)?;
            Some((&host.value, entry))
        };
        let pair = |key: &egressd_model::resource::Key| {
            let key = (&*key.namespace, &*key.name);
            let same = || self.all.get(&key).map(|entry| (*entry, *entry));
            let (old, new) = self.changed.get(&key).copied().or_else(same)?;
            Some((part(old)?, part(new)?))
        };
        service.entries.iter().map(pair).collect()
    }
}

/// Puts new clusters in the place of old ones.
fn replace(old: &ClustersOf, new: &ClustersOf, tables: &mut Tables, refs: &mut Refs) {
    let all = Arc::make_mut(&mut tables.clusters);
    for gone in old.iter() {
        all.remove(&gone.name);
        refs.clusters.insert(Arc::clone(&gone.name), ClusterRef::Missing(Arc::clone(&gone.name)));
    }
    for cluster in new.iter() {
        all.insert(Arc::clone(&cluster.name), Arc::clone(cluster));
        refs.clusters.insert(Arc::clone(&cluster.name), ClusterRef::Known(Arc::clone(cluster)));
    }
}
