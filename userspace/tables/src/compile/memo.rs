//! What one compilation leaves to the next.
//!
//! Resources that did not change are the same objects in the next [`egressd_model::Model`], so that
//! their place in memory tells them from others as long as the model before is kept. What is made of
//! them alone is taken over; everything is compared before it is, and the result is equal to one that
//! is made anew.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::hash::Hash;
use std::sync::Arc;

use crate::chain::Chain;
use crate::cluster::Cluster;
use crate::fast::FastMap;
use crate::listener::ListenerRules;
use crate::route::{Pattern, Route, VirtualHost};
use crate::service::{Service, ServiceId};

/// Everything that is kept.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// By the first host that makes it.
    pub(crate) services: Recall<Id, KnownService>,
    /// By the service.
    pub(crate) clusters: Recall<Id, KnownClusters>,
    /// By the service and its port.
    pub(crate) virtual_hosts: Recall<(Id, u16), KnownVirtualHost>,
    /// By the rule and the port.
    pub(crate) routes: Recall<(Id, u16), KnownRoutes>,
    /// Chains for any destination, by the service and its port.
    pub(crate) chains: Recall<(Id, u16), KnownChains>,
    /// Rules of listeners that one service has for itself, by the service, its entry and the port.
    pub(crate) listeners: Recall<(Id, Id, u16), KnownListener>,
    /// Expressions for whole texts.
    pub(crate) patterns: Recall<Arc<str>, Pattern>,
    /// Expressions for replacements.
    pub(crate) loose_patterns: Recall<Arc<str>, Pattern>,
    /// Whether WorkloadEntries and Pods are those of the compilation before.
    pub(crate) same_workloads: bool,
}

/// The place of a resource, or of a part of one, in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(usize);

impl Id {
    pub(crate) fn of<T>(object: &T) -> Self {
        Self(std::ptr::from_ref(object).addr())
    }
}

/// Whether two lists hold the same objects.
pub(crate) fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// A service and what it was made of, beside the VIPs in it.
#[derive(Clone, Debug)]
pub(crate) struct KnownService {
    pub(crate) entries: Arc<[Id]>,
    pub(crate) service: Arc<Service>,
}

/// The clusters of a service and what they were made of.
#[derive(Clone, Debug)]
pub(crate) struct KnownClusters {
    pub(crate) service: Arc<Service>,
    pub(crate) rules: Arc<[Id]>,
    pub(crate) clusters: ClustersOf,
}

/// The virtual host of a service, and what it was made of.
#[derive(Clone, Debug)]
pub(crate) struct KnownVirtualHost {
    pub(crate) service: Arc<Service>,
    pub(crate) leads: Leads,
    /// Domains of the service that others had.
    pub(crate) taken: Arc<[Arc<str>]>,
    pub(crate) virtual_host: Arc<VirtualHost>,
}

/// Where a virtual host leads.
#[derive(Clone, Debug)]
pub(crate) enum Leads {
    /// To the service's own cluster.
    To(Arc<Cluster>),
    /// Wherever these routes of a rule do.
    By(Arc<[Arc<Route>]>),
}

impl Leads {
    /// Whether it is the same cluster, or the same routes.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::To(a), Self::To(b)) => Arc::ptr_eq(a, b),
            (Self::By(a), Self::By(b)) => Arc::ptr_eq(a, b),
            (Self::To(_), Self::By(_)) | (Self::By(_), Self::To(_)) => false,
        }
    }
}

/// The routes of a VirtualService on a port, and the services they lead to.
#[derive(Clone, Debug)]
pub(crate) struct KnownRoutes {
    pub(crate) targets: Arc<[Target]>,
    pub(crate) routes: Arc<[Arc<Route>]>,
}

/// A host that a rule leads to, and its clusters if it is a service.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) host: Arc<str>,
    pub(crate) clusters: Option<ClustersOf>,
}

impl Target {
    /// Whether it is the same service, with the same clusters.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = match (&self.clusters, &other.clusters) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && self.host == other.host
    }
}

/// The chains of a service, and what they were made of.
#[derive(Clone, Debug)]
pub(crate) struct KnownChains {
    pub(crate) id: ServiceId,
    pub(crate) clusters: ClustersOf,
    pub(crate) chains: Arc<[Arc<Chain>]>,
}

/// The rules of a listener, and what they were made of.
#[derive(Clone, Debug)]
pub(crate) struct KnownListener {
    pub(crate) id: ServiceId,
    pub(crate) service: Arc<Service>,
    pub(crate) clusters: ClustersOf,
    pub(crate) virtual_host: Option<Arc<VirtualHost>>,
    pub(crate) rules: Arc<ListenerRules>,
}

/// All clusters of one service: the same object as long as nothing of them changes.
pub(crate) type ClustersOf = Arc<[Arc<Cluster>]>;

/// Values that may be taken over.
#[derive(Debug)]
pub(crate) struct Recall<K, V>(RefCell<FastMap<K, Known<V>>>);

#[derive(Debug)]
struct Known<V> {
    value: V,
    /// Asked for in this compilation.
    used: bool,
}

impl<K, V> Default for Recall<K, V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recall<K, V> {
    /// The value kept, if it still holds.
    pub(crate) fn get<Q>(&self, key: &Q, holds: impl FnOnce(&V) -> bool) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut all = self.0.borrow_mut();
        let known = all.get_mut(key).filter(|known| holds(&known.value))?;
        known.used = true;
        Some(known.value.clone())
    }

    /// Keeps a value for the next time.
    pub(crate) fn keep(&self, key: K, value: V) {
        self.0.borrow_mut().insert(key, Known { value, used: true });
    }

    /// Keeps a value that nothing has asked for yet: whoever compiles next finds it, or it goes. What
    /// it was made of may then be gone as well, and its place in memory be another's.
    pub(crate) fn leave(&self, key: K, value: V) {
        self.0.borrow_mut().insert(key, Known { value, used: false });
    }

    /// Forgets a value.
    pub(crate) fn forget(&self, key: &K) {
        self.0.borrow_mut().remove(key);
    }

    /// Everything kept under some keys.
    pub(crate) fn all(&self, wanted: impl Fn(&K) -> bool) -> Vec<(K, V)>
    where
        K: Clone,
    {
        let all = self.0.borrow();
        let wanted = all.iter().filter(|(key, _)| wanted(key));
        wanted.map(|(key, known)| (key.clone(), known.value.clone())).collect()
    }

    /// Forgets what nobody asked for since the last time.
    pub(crate) fn forget_unused(&mut self) {
        self.0.get_mut().retain(|_, known| std::mem::take(&mut known.used));
    }
}

impl Memo {
    /// Forgets what the compilation did not ask for.
    pub(crate) fn forget_unused(&mut self) {
        self.services.forget_unused();
        self.clusters.forget_unused();
        self.virtual_hosts.forget_unused();
        self.routes.forget_unused();
        self.chains.forget_unused();
        self.listeners.forget_unused();
        self.patterns.forget_unused();
        self.loose_patterns.forget_unused();
    }

    /// Forgets the routes of rules that are no more.
    pub(crate) fn forget_routes_of(&self, rules: &[Id]) {
        for (key, _) in self.routes.all(|(id, _)| rules.contains(id)) {
            self.routes.forget(&key);
        }
    }

    /// An expression that must match whole texts.
    pub(crate) fn whole_pattern(&self, text: &str) -> Pattern {
        self.patterns.pattern(text, Pattern::whole)
    }

    /// An expression that may match anywhere.
    pub(crate) fn loose_pattern(&self, text: &str) -> Pattern {
        self.loose_patterns.pattern(text, Pattern::anywhere)
    }
}

impl Recall<Arc<str>, Pattern> {
    fn pattern(&self, text: &str, compile: fn(&str) -> Pattern) -> Pattern {
        self.get(text, |_| true).unwrap_or_else(|| {
            let pattern = compile(text);
            self.keep(Arc::from(text), pattern.clone());
            pattern
        })
    }
}
