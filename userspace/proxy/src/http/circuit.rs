//! Limits of a cluster as a whole (semantics.md §4, connectionPool), over all workers and generations.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use egressd_tables::ConnectionPool;

use super::unread::Unread;

/// What a cluster has under way.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    counts: [AtomicU32; 4],
    all: Arc<All>,
}

/// Connections of all clusters.
#[derive(Debug)]
struct All {
    open: AtomicU32,
    most: u32,
    warned: AtomicBool,
}

/// Something that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// Open connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

/// One of what is limited; counted while this lives.
#[derive(Debug)]
pub(crate) struct Permit {
    circuit: Arc<Circuit>,
    what: Limited,
}

/// The circuits of all clusters, by name.
#[derive(Debug, Default)]
pub(crate) struct Circuits {
    clusters: Mutex<HashMap<Arc<str>, Arc<Circuit>>>,
    all: Arc<All>,
    /// What is held for those who do not read.
    pub(super) unread: Arc<Unread>,
}

impl Circuit {
    /// How many there are.
    pub(crate) fn count(&self, what: Limited) -> u32 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// One more, unless there are as many as there may be.
    pub(crate) fn permit(self: &Arc<Self>, what: Limited, limit: u32) -> Option<Permit> {
        let permit = self.force(what);
        (self.count(what) <= limit).then_some(permit)
    }

    /// One more, whatever the limit.
    pub(crate) fn force(self: &Arc<Self>, what: Limited) -> Permit {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
        if what == Limited::Connections {
            self.all.open.fetch_add(1, Ordering::Relaxed);
        }
        Permit { circuit: Arc::clone(self), what }
    }

    /// Whether all clusters together have as many connections as there may be
    /// ([`crate::Config::max_http_connections`]). Workers that ask at once may each open one more.
    pub(crate) fn is_full(&self) -> bool {
        self.all.open.load(Ordering::Relaxed) >= self.all.most
    }

    /// Says, once, that requests are refused because of that.
    pub(crate) fn warn(&self) {
        if !self.all.warned.swap(true, Ordering::Relaxed) {
            let limit = self.all.most;
            tracing::warn!(
                limit,
                "requests are answered 503: max_http_connections to endpoints are in use; more open \
                 files would allow more"
            );
        }
    }

    /// One more retry, if the budget or the limit allows it.
    pub(crate) fn retry(self: &Arc<Self>, pool: &ConnectionPool) -> Option<Permit> {
        let limit = match pool.retry_budget {
            Some(budget) => {
                let active = self.count(Limited::Requests) + self.count(Limited::Pending);
                let share = f64::from(active) * budget.percent / 100.0;
                budget.min_concurrency.max(share as u32)
            }
            None => pool.max_retries,
        };
        self.permit(Limited::Retries, limit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.circuit.counts[self.what as usize].fetch_sub(1, Ordering::Relaxed);
        if self.what == Limited::Connections {
            self.circuit.all.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Default for All {
    /// Without a limit.
    fn default() -> Self {
        Self { open: AtomicU32::new(0), most: u32::MAX, warned: AtomicBool::new(false) }
    }
}

impl Circuits {
    /// No cluster yet, and at most so many connections to all of them.
    pub(crate) fn limited(connections: usize) -> Self {
        let most = u32::try_from(connections).unwrap_or(u32::MAX);
        Self { all: Arc::new(All { most, ..All::default() }), ..Self::default() }
    }

    /// The circuit of a cluster.
    pub(crate) fn get(&self, cluster: &Arc<str>) -> Arc<Circuit> {
        let mut circuits = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(circuit) = circuits.get(cluster) {
            return Arc::clone(circuit);
        }
        // A new one is rare, and the time to forget those that nobody refers to any more.
        circuits.retain(|_, circuit| Arc::strong_count(circuit) > 1);
        let new = || Arc::new(Circuit { all: Arc::clone(&self.all), ..Circuit::default() });
        Arc::clone(circuits.entry(Arc::clone(cluster)).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use egressd_tables::RetryBudget;

    use super::*;

    #[test]
    fn permits_count_while_they_live() {
        let circuit = Arc::<Circuit>::default();
        let first = circuit.permit(Limited::Connections, 1);
        assert!(first.is_some());
        assert!(circuit.permit(Limited::Connections, 1).is_none());
        assert_eq!(circuit.count(Limited::Connections), 1);
        let forced = circuit.force(Limited::Connections);
        assert_eq!(circuit.count(Limited::Connections), 2);
        drop((first, forced));
        assert_eq!(circuit.count(Limited::Connections), 0);
        assert_eq!(circuit.count(Limited::Requests), 0);
    }

    #[test]
    fn a_budget_is_a_share_of_what_is_under_way() {
        let circuit = Arc::<Circuit>::default();
        let budget = RetryBudget { percent: 20.0, min_concurrency: 3 };
        let pool = ConnectionPool {
            retry_budget: Some(budget),
            max_retries: 0,
            ..ConnectionPool::default()
        };
        let allowed = || std::iter::from_fn(|| circuit.retry(&pool)).collect::<Vec<_>>().len();
        assert_eq!(allowed(), 3);
        let _requests: Vec<_> = (0..50).map(|_| circuit.force(Limited::Requests)).collect();
        assert_eq!(allowed(), 10);
        let unbudgeted = ConnectionPool { retry_budget: None, ..pool };
        assert!(circuit.retry(&unbudgeted).is_none());
    }

    #[test]
    fn circuits_are_kept_by_name_while_in_use() {
        let circuits = Circuits::default();
        let a = circuits.get(&"a".into());
        assert!(Arc::ptr_eq(&a, &circuits.get(&"a".into())));
        drop(a);
        let _b = circuits.get(&"b".into());
        assert_eq!(circuits.clusters.lock().unwrap().len(), 1);
    }
}
