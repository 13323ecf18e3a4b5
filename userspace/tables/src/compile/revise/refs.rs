//! Clusters that are others than before, and what refers to them.

use std::sync::Arc;

use crate::cluster::ClusterRef;
use crate::compile::memo::ClustersOf;
use crate::fast::FastMap;
use crate::route::{Destination, Destinations, Forward, Route, RouteAction};
use crate::service::ServiceId;
use crate::tcp::TcpRoute;

/// Clusters that are others than before.
#[derive(Default)]
pub(super) struct Refs {
    /// The new way to each of them, by name.
    pub(super) clusters: FastMap<Arc<str>, ClusterRef>,
    /// The services they belong to: all their clusters, before and after.
    pub(super) services: FastMap<ServiceId, (ClustersOf, ClustersOf)>,
}

impl Refs {
    /// Whether a cluster may be reached straight from the kernel that could not before, or the other
    /// way round: then kernel rows are others, too.
    pub(super) fn change_paths(&self) -> bool {
        let mut services = self.services.values();
        services.any(|(old, new)| {
            let straight = |clusters: &ClustersOf| -> Vec<Arc<str>> {
                let able = clusters.iter().filter(|cluster| cluster.not_direct().is_none());
                able.map(|cluster| Arc::clone(&cluster.name)).collect()
            };
            straight(old) != straight(new)
        })
    }

    fn get(&self, old: &ClusterRef) -> Option<&ClusterRef> {
        let new = self.clusters.get(old.name())?;
        let same = match (old, new) {
            (ClusterRef::Known(a), ClusterRef::Known(b)) => Arc::ptr_eq(a, b),
            (ClusterRef::Missing(_), ClusterRef::Missing(_)) => true,
            (ClusterRef::Known(_), ClusterRef::Missing(_))
            | (ClusterRef::Missing(_), ClusterRef::Known(_)) => false,
        };
        (!same).then_some(new)
    }

    fn or_new(&self, old: &ClusterRef) -> ClusterRef {
        self.get(old).unwrap_or(old).clone()
    }

    /// The routes with the new clusters; nothing if they lead to none of them.
    pub(super) fn routes(&self, routes: &[Arc<Route>]) -> Option<Arc<[Arc<Route>]>> {
        let new: Vec<_> = routes.iter().map(|route| self.route(route)).collect();
        new.iter().any(Option::is_some).then(|| {
            let all = routes.iter().zip(new);
            all.map(|(old, new)| new.map_or_else(|| Arc::clone(old), Arc::new)).collect()
        })
    }

    fn route(&self, route: &Route) -> Option<Route> {
        let RouteAction::Forward(forward) = &route.action else { return None };
        let targets = forward.destinations.all().iter().map(|to| &to.cluster);
        let mut targets = targets.chain(forward.mirrors.iter().map(|mirror| &mirror.cluster));
        targets.any(|cluster| self.get(cluster).is_some()).then(|| {
            let action = RouteAction::Forward(Box::new(self.forward(forward)));
            Route { action, ..route.clone() }
        })
    }

    fn forward(&self, forward: &Forward) -> Forward {
        let to = |to: &Destination| Destination { cluster: self.or_new(&to.cluster), ..to.clone() };
        let mut new = forward.clone();
        new.destinations = match &forward.destinations {
            Destinations::Single(one) => Destinations::Single(to(one)),
            Destinations::Weighted(all) => Destinations::Weighted(all.iter().map(to).collect()),
        };
        for mirror in &mut new.mirrors {
            mirror.cluster = self.or_new(&mirror.cluster);
        }
        new
    }

    /// The same for opaque bytes.
    pub(super) fn tcp_route(&self, route: &TcpRoute) -> Option<TcpRoute> {
        let mut clusters = route.clusters.iter().map(|(cluster, _)| cluster);
        clusters.any(|cluster| self.get(cluster).is_some()).then(|| {
            let new = |(cluster, weight): &(ClusterRef, u32)| (self.or_new(cluster), *weight);
            let clusters = route.clusters.iter().map(new).collect();
            TcpRoute { clusters, ..route.clone() }.governed()
        })
    }
}
